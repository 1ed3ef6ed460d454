"""Reading a pretrained network: settings as JSON and weights as safetensors.

A pickle is never opened, as it can run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor, nn

from modelwright.errors import RecipeError
from modelwright.files import JsonObject

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MOST_CONFIG = 1 << 20
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.npz")


def read_json(path: Path, most: int) -> JsonObject:
    """Return the JSON object of a file of at most so many bytes.

    Raises:
        RecipeError: it is none.
    """
    return parse_object(read_bytes(path, most), where=path)


def parse_object(data: bytes, *, where: Path) -> JsonObject:
    """Return the JSON object that a file's bytes hold.

    Raises:
        RecipeError: they hold none.
    """
    try:
        document = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecipeError("this isn't JSON", where=str(where)) from error
    if not isinstance(document, dict):
        raise RecipeError("this isn't a JSON object", where=str(where))
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")  # Python's reader takes NaN and infinities.


def read_bytes(path: Path, most: int) -> bytes:
    """Return a file of at most so many bytes.

    Raises:
        RecipeError: it can't be read, or is longer.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise RecipeError(f"can't be read ({error.strerror})", where=str(path)) from error
    if len(data) > most:
        raise RecipeError(f"this is longer than {most >> 20} MiB", where=str(path))
    return data


def no_weights(place: Path, *, fix: str) -> RecipeError:
    """Return the error for a folder without safetensors, or for a file that isn't one.

    Args:
        place: the folder or the file.
        fix: how a pickle is saved once more.
    """
    pickles = [place] if place.is_file() else []
    pickles += [item for pattern in _PICKLES for item in place.glob(pattern)]
    if not pickles:
        return RecipeError(f"there is no `{WEIGHTS}`", where=str(place))
    return RecipeError(
        f"the weights are in `{pickles[0].name}`, which isn't read",
        where=str(place),
        why="Such a file can run code when it is opened; only safetensors are read",
        fix=fix,
    )


def read_weights(paths: Sequence[Path], *, shapes_only: bool = False) -> dict[str, Tensor]:
    """Return the weights of safetensors files by their names there, in fp32.

    Args:
        paths: the files.
        shapes_only: give empty tensors of the same shapes, and read no weight.

    Raises:
        RecipeError: a file is damaged or cut short.
    """
    weights: dict[str, Tensor] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as stream:
                for name in stream.keys():  # noqa: SIM118 (not a dict)
                    if shapes_only:
                        shape = stream.get_slice(name).get_shape()
                        weights[name] = torch.empty(shape, device="meta")
                        continue
                    weights[name] = _in_fp32(stream.get_tensor(name))
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(path, error) from error
    return weights


def read_shapes(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Return empty tensors of the shapes that the headers of safetensors files name.

    Args:
        paths: files of which the header suffices.

    Raises:
        RecipeError: a header is damaged.
    """
    shapes: dict[str, Tensor] = {}
    for path in paths:
        try:
            with path.open("rb") as stream:
                header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            for name, item in header.items():
                if name != "__metadata__":
                    shapes[name] = torch.empty(item["shape"], device="meta")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise RecipeError(
                "this file of weights is damaged", where=str(path), why=first_line(error)
            ) from error
    return shapes


def load_weights(data: bytes, *, where: Path) -> dict[str, Tensor]:
    """Return the weights that a safetensors file's bytes hold, by their names there, in fp32.

    Raises:
        RecipeError: they are damaged or cut short.
    """
    try:
        return {name: _in_fp32(weight) for name, weight in load(data).items()}
    except (SafetensorError, ValueError) as error:
        raise _damaged(where, error) from error


def _in_fp32(weight: Tensor) -> Tensor:
    return weight.float() if weight.is_floating_point() else weight


def _damaged(path: Path, error: Exception) -> RecipeError:
    return RecipeError(
        "this file of weights is damaged or cut short",
        where=str(path),
        why=first_line(error),
        fix="Copy it once more",
    )


def digest_of(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return "sha256:" + digest.hexdigest()


def fill(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    where: Path | str,
    source: str,
    fix: str = "",
    optional: Collection[str] = (),
) -> list[str]:
    """Put weights into a network.

    Args:
        network: changed in place.
        weights: by their names in it; of empty ones (on the device `meta`) the shapes are compared,
            and the network's own stay.
        where: the file, folder or package that they are from.
        source: what the network's shapes come from.
        fix: what to do about a shape.
        optional: weights that may be missing.

    Returns:
        The names of the weights that have no place in it, such as those of another head.

    Raises:
        RecipeError: weights are missing or have other shapes.
    """
    own = network.state_dict()
    check_fit(own, weights, where=where, source=source, fix=fix, optional=optional)
    taken = {name: weights[name] for name in own.keys() & weights if not weights[name].is_meta}
    network.load_state_dict(taken, strict=False)
    return sorted(weights.keys() - own)


def check_fit(
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    *,
    where: Path | str,
    source: str,
    fix: str = "",
    optional: Collection[str] = (),
) -> None:
    """Refuse weights of which some are missing or have other shapes; the arguments are `fill`'s.

    Raises:
        RecipeError: weights are missing or have other shapes.
    """
    missing = sorted(own.keys() - weights.keys() - set(optional))
    if missing:
        raise RecipeError(
            f"the weights `{missing[0]}` are missing"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else ""),
            where=str(where),
            fix="Save the whole network there",
        )
    for name in sorted(own.keys() & weights.keys()):
        if weights[name].shape != own[name].shape:
            raise RecipeError(
                f"the weights `{name}` are {list(weights[name].shape)}, and {source} asks for "
                f"{list(own[name].shape)}",
                where=str(where),
                fix=fix,
            )


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, with the next where it only announces that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:300]
