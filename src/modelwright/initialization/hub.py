"""Files of published networks from Hugging Face's hub, or from a server that answers like it.

Everything of the library `huggingface_hub` is here: the address (`HF_ENDPOINT`), the token
(`HF_TOKEN`), being offline (`HF_HUB_OFFLINE`) and the session with its proxies are its own. The
download is ours, because the library's starts anew after a stop. A repository's files are fetched
by the hash of a commit, never by a branch, and only settings, tokenizer and weights as safetensors:
nothing that can run. Each file is compared with the digest that the hub declares for it.

They are kept in the cache, from where they are taken without a network:

    hub/ORG/NAME/revisions.json         the commit that each branch or tag was last
    hub/ORG/NAME/COMMIT/files.json      the files of the commit, and the SHA-256 of those here
    hub/ORG/NAME/COMMIT/NAME/           the files
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

from modelwright.errors import RecipeError, ResourceError, require
from modelwright.files import cache_folder, locked, read_json, resource_errors, write_json
from modelwright.recipe.model import HUB_NAME
from modelwright.run import Observe, Progress, silent
from modelwright.version import __version__

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".pkl")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(r"[\w.-]+")
_MOST_ANSWER = 32 << 20
"""No list of a repository's files is longer."""
_MOST_UNKNOWN = 64 << 20
"""So much is taken of a file of which nobody says how long it is."""
_BLOCK = 1 << 20
_MUCH = 1 << 20
"""With so many bytes more than before, a download that broke off has got on."""
T = TypeVar("T")


class HubUnreachableError(ResourceError):
    """The hub doesn't answer, or breaks off: another try may succeed."""


@dataclass(frozen=True, slots=True)
class Hub:
    """Where the hub is, and how long to wait for it."""

    endpoint: str
    is_offline: bool = False
    timeout_s: float = 10.0
    """To connect, and then without a byte."""
    waits_s: tuple[float, ...] = (1.0, 3.0)
    """The pauses before another try."""

    @classmethod
    def from_environment(cls) -> Hub:
        """Return the hub that the environment names, by default Hugging Face's.

        Raises:
            MissingExtraError: `huggingface_hub` isn't installed.
        """
        constants = _constants()
        is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES
        return cls(
            endpoint=(os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/"),
            is_offline=is_offline or constants.is_offline_mode(),
            timeout_s=float(constants.HF_HUB_DOWNLOAD_TIMEOUT),
        )


@dataclass(frozen=True, slots=True)
class HubLibrary:
    """Which files of a repository a library's networks need, beside their weights."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    has_shards: bool = False
    """Whether the weights may be in several files, which an index names."""


LIBRARIES = {
    "transformers": HubLibrary(
        ("config.json", "tokenizer.json"), ("generation_config.json",), has_shards=True
    ),
    "timm": HubLibrary(("config.json",)),
}
"""By the name of the recipe's section `model`."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository at a commit."""

    size_bytes: int | None
    """`None` where the hub doesn't say."""
    declared: str = ""
    """The SHA-256 that the hub declares; of large files alone."""
    git: str = ""
    """The object's hash in git, which the hub declares of the others."""
    sha256: str = ""
    """The digest of the file that is here; empty where it isn't."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of one commit that a network needs."""

    repo: str
    """`ORG/NAME`."""
    revision: str
    """What was asked for."""
    commit: str
    folder: Path
    files: Mapping[str, HubFile]
    downloaded: tuple[str, ...] = ()
    """The files that weren't here before."""

    @property
    def name(self) -> str:
        """What a recipe writes to mean exactly these files."""
        return f"{self.repo}@{self.commit}"

    @property
    def missing_bytes(self) -> int:
        """The size of the files that aren't here; those whose size isn't known left out."""
        return sum(item.size_bytes or 0 for item in self.files.values() if not item.sha256)

    @property
    def is_whole(self) -> bool:
        """Whether all files are here."""
        return all(item.sha256 for item in self.files.values())

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file that is here, by its name."""
        return {name: f"sha256:{it.sha256}" for name, it in self.files.items() if it.sha256}


def cached(name: str, library: HubLibrary) -> Snapshot:
    """Return the files of a commit that `fetch` has put into the cache; nothing is asked.

    Args:
        name: `ORG/NAME@COMMIT`.
        library: for whose networks.
    """
    repo, commit = name.split("@")
    home = _place(repo) / commit
    return _snapshot(home, commit, _needed(_read_files(home), library, home))


def fetch(
    name: str,
    library: HubLibrary,
    *,
    with_weights: bool = True,
    hub: Hub | None = None,
    observe: Observe = silent,
) -> Snapshot:
    """Return the files of a repository that a network needs, downloading those that aren't here.

    A commit whose files are in the cache is taken from there without asking; of a branch or tag the
    hub is asked which commit it is, and if it can't be reached, it is the one of the last time.
    A download that breaks off goes on where it was, also in another process.

    Args:
        name: `ORG/NAME` or `ORG/NAME@REVISION`.
        library: for whose networks.
        with_weights: whether the weights are downloaded, or only listed.
        hub: by default the one that the environment names.
        observe: called with the bytes that were received.

    Raises:
        RecipeError: there is no such repository or revision, it may not be read, or it lacks what
            is needed.
        ResourceError: the hub can't be reached or breaks off, a file isn't the declared one, or
            the cache can't be written.
        MissingExtraError: `huggingface_hub` isn't installed.
    """
    hub = hub or Hub.from_environment()
    match = HUB_NAME.fullmatch(name)
    assert match is not None  # The recipe's section has seen to it.
    repo, revision = match["repo"], match["revision"] or "main"
    place = _place(repo)
    with locked(place / ".lock"):
        commit = _commit(hub, place, repo, revision, observe)
        home = place / commit
        files = _read_files(home)
        _check_complete(files, library, repo)
        small = [*library.required, *library.optional]
        if library.has_shards and WEIGHTS not in files:
            small.append(INDEX)
        download = _Download(hub, repo, home, observe)
        done = download.bring([name for name in small if name in files], files)
        files = _read_files(home)
        needed = _needed(files, library, home)
        if with_weights:
            done += download.bring(sorted(needed.keys() - set(small)), needed)
            needed = _needed(_read_files(home), library, home)
    return replace(_snapshot(home, revision, needed), downloaded=done)


def web_page(name: str) -> str:
    """Return the address at which a person finds the files of `ORG/NAME` or `ORG/NAME@REVISION`."""
    repo, _, revision = name.partition("@")
    return f"{Hub.from_environment().endpoint}/{repo}/tree/{quote(revision or 'main')}"


# -- the cache -------------------------------------------------------------------------------


def _place(repo: str) -> Path:
    return cache_folder().joinpath("hub", *repo.split("/"))


def _folder(home: Path) -> Path:
    """Return the folder of a commit's files, which has the repository's name for messages."""
    return home / home.parent.name


def _snapshot(home: Path, revision: str, files: Mapping[str, HubFile]) -> Snapshot:
    repo = "/".join(home.parent.parts[-2:])
    return Snapshot(repo, revision, home.name, _folder(home), files)


def _read_files(home: Path) -> dict[str, HubFile]:
    """Return the files of a commit, as far as they are known, with the digests of those here."""
    try:
        files = {name: HubFile(**values) for name, values in _read(home / "files.json").items()}
    except TypeError:
        return {}  # Another version wrote it; the hub is asked again.
    return {
        name: item if (_folder(home) / name).is_file() else replace(item, sha256="")
        for name, item in files.items()
    }


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object of the cache; where there is none, an empty one."""
    try:
        held = read_json(path)
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _write_files(home: Path, files: Mapping[str, HubFile]) -> None:
    names = HubFile.__slots__
    write_json(
        home / "files.json",
        {name: {key: getattr(item, key) for key in names} for name, item in files.items()},
    )


def _commit(hub: Hub, place: Path, repo: str, revision: str, observe: Observe) -> str:
    """Return the commit that a revision is, whose list of files is in the cache from now on."""
    known = _read(place / "revisions.json")
    is_commit = _COMMIT.fullmatch(revision) is not None
    last = revision if is_commit else known.get(revision, "")
    is_here = bool(last) and bool(_read_files(place / last))
    if is_commit and is_here:
        return revision
    try:
        commit, files = _listing(hub, repo, revision)
    except HubUnreachableError as error:
        if not is_here:
            raise
        note = f"{error.what[:1].upper()}{error.what[1:]}, so `{revision}` of {repo} is taken as"
        observe(Progress("note", 0, 0, note=f"{note} what it was the last time, commit {last[:7]}"))
        return last
    if is_commit and commit != revision:
        raise ResourceError(
            f"{hub.endpoint} answered with another commit than the one asked for",
            fix="Look at HF_ENDPOINT",
        )
    if not _read_files(place / commit):
        _write_files(place / commit, files)
    if not is_commit and known.get(revision) != commit:
        write_json(place / "revisions.json", {**known, revision: commit})
    return commit


def _check_complete(files: Mapping[str, HubFile], library: HubLibrary, repo: str) -> None:
    """Refuse a repository that lacks what a network needs, before anything is downloaded."""
    for name in library.required:
        if name not in files:
            raise RecipeError(
                f"the repository {repo} has no `{name}`",
                why="The files of slow tokenizers aren't read" if name == "tokenizer.json" else "",
                fix="Take another repository or revision",
            )
    if WEIGHTS in files or (library.has_shards and INDEX in files):
        return
    pickles = [name for name in files if name.endswith(_PICKLES)]
    raise RecipeError(
        f"the repository {repo} has no weights as safetensors (`{WEIGHTS}`)",
        why=f"Its `{pickles[0]}` isn't read, as such a file can run code when it is opened"
        if pickles
        else "",
        fix="Take another repository or revision, or save the weights as safetensors where you "
        "trust them",
    )


def _needed(files: Mapping[str, HubFile], library: HubLibrary, home: Path) -> dict[str, HubFile]:
    """Return the files that a network needs, once the index of its weights is here."""
    names = [name for name in (*library.required, *library.optional) if name in files]
    if WEIGHTS in files or not library.has_shards:
        return {name: files[name] for name in [*names, WEIGHTS]}
    repo, path = "/".join(home.parent.parts[-2:]), _folder(home) / INDEX
    try:
        shards = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        shards = []
    for name in shards:
        if name not in files or not name.endswith(".safetensors"):
            raise RecipeError(
                f"`{INDEX}` of {repo} names `{name!s:.60}`, which isn't a file of weights there",
                fix="Take another repository or revision",
            )
    if not shards:
        raise RecipeError(
            f"`{INDEX}` of {repo} names no file", fix="Take another repository or revision"
        )
    return {name: files[name] for name in [*names, INDEX, *shards]}


# -- asking ----------------------------------------------------------------------------------


def _library() -> Any:
    return require("huggingface_hub", extra="hub", purpose="`model.hub`")


def _constants() -> Any:
    """Return what `huggingface_hub` read from the environment when it was imported."""
    _library()
    return importlib.import_module("huggingface_hub.constants")


def _httpx() -> Any:
    """Return the library that `huggingface_hub` asks with, under the name that it keeps for it."""
    return importlib.import_module("huggingface_hub.utils").httpx


def _patiently(hub: Hub, work: Callable[[], T]) -> T:
    for wait_s in hub.waits_s:
        try:
            return work()
        except HubUnreachableError as error:
            if isinstance(error.__cause__, _httpx().ConnectError) or hub.is_offline:
                raise  # There is no network, or nobody there: waiting changes nothing.
            time.sleep(wait_s)
    return work()


@contextlib.contextmanager
def _asked(hub: Hub, url: str, repo: str, *, start: int = 0) -> Iterator[Any]:
    """Yield the answer to a question, of which nothing was read yet.

    Raises:
        RecipeError: the hub refuses.
        HubUnreachableError: it doesn't answer, or breaks off.
    """
    if hub.is_offline:
        raise HubUnreachableError(
            f"HF_HUB_OFFLINE is set, and not all of {repo} is in the cache",
            fix="Run `modelwright fetch RECIPE` with a network once, or unset HF_HUB_OFFLINE",
        )
    library, httpx = _library(), _httpx()
    # The library's own headers would say more of this machine than the hub needs.
    headers = {"user-agent": f"modelwright/{__version__}", "accept-encoding": "identity"}
    is_forbidden = _constants().HF_HUB_DISABLE_IMPLICIT_TOKEN
    token = None if is_forbidden else library.get_token()
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    if start:
        headers["range"] = f"bytes={start}-"
    try:
        session = library.get_session()
        with session.stream("GET", url, headers=headers, timeout=hub.timeout_s) as answer:
            if answer.status_code >= 400:
                _refuse(answer, hub, repo, has_token=token is not None)
            yield answer
    except httpx.TimeoutException as error:
        raise HubUnreachableError(
            f"{hub.endpoint} didn't answer for {hub.timeout_s:g} s",
            fix="Try again later, or set HF_HUB_DOWNLOAD_TIMEOUT to more seconds",
        ) from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise ResourceError(
            f"`{hub.endpoint}` isn't the address of a hub",
            fix="Write HF_ENDPOINT as https://HOST, or unset it",
        ) from error
    except (httpx.ConnectError, httpx.ProxyError) as error:
        raise HubUnreachableError(
            f"{hub.endpoint} can't be reached",
            why=_first_line(error),
            fix="Look at the network, at HF_ENDPOINT and at the proxies (HTTPS_PROXY)",
        ) from error
    except httpx.HTTPError as error:
        # What is wrong with our own headers isn't shown: the token is among them.
        is_ours = isinstance(error, httpx.LocalProtocolError)
        raise HubUnreachableError(
            f"the connection to {hub.endpoint} broke off",
            why="" if is_ours else _first_line(error),
            fix="Run again: the download goes on where it was",
        ) from error


def _refuse(answer: Any, hub: Hub, repo: str, *, has_token: bool) -> NoReturn:
    """Raise what a status of 400 or more means."""
    status, code = answer.status_code, answer.headers.get("X-Error-Code", "")
    page, sent = f"{hub.endpoint}/{repo}", "a token was sent" if has_token else "no token was sent"
    if status == 416:
        raise _UnusableStartError
    if answer.history and not code and status < 500:
        raise HubUnreachableError(
            f"the storage behind {hub.endpoint} answered {status}", fix="Try again later"
        )
    if code == "RevisionNotFound":
        raise RecipeError(
            f"{repo} has no such revision", fix=f"Look at the branches and commits at {page}"
        )
    if code == "GatedRepo" or (status == 403 and code != "RepoNotFound"):
        raise RecipeError(
            f"{repo} is gated: it is given to those who agreed to its terms",
            why=f"It answered {status}, and {sent}",
            fix=f"Agree at {page}, and set HF_TOKEN to a token of yours that may read it",
        )
    if status in (401, 404):
        # Without a token, the hub answers 401 of what there isn't, too.
        raise RecipeError(
            f"{hub.endpoint} has no {repo}, or it is private",
            why=f"It answered {status}, and {sent}",
            fix=f"Look at the name at {page}; of a private one, set HF_TOKEN to a token of yours "
            "that may read it",
        )
    what = f"{hub.endpoint} answered {status}"
    if status >= 500 or status in (408, 429):
        why = "It is asked too often" if status == 429 else "The fault is at its end"
        raise HubUnreachableError(what, why=why, fix="Try again later")
    raise RecipeError(f"{what} when asked for {repo}", fix=f"Look at {page}")


class _UnusableStartError(Exception):
    """The hub has nothing from there on: what is here of a file isn't its beginning."""


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _listing(hub: Hub, repo: str, revision: str) -> tuple[str, dict[str, HubFile]]:
    """Return the commit of a revision and its files, asked of the hub."""
    url = f"{hub.endpoint}/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"

    def work() -> bytes:
        held = bytearray()
        with _asked(hub, url, repo) as answer:
            for block in answer.iter_bytes():
                held += block
                if len(held) > _MOST_ANSWER:
                    break
        return bytes(held)

    body = _patiently(hub, work)
    try:
        document = json.loads(body)
        commit, siblings = document["sha"], document["siblings"]
        files = {item["rfilename"]: _file(item) for item in siblings}
        if not _COMMIT.fullmatch(commit):
            raise ValueError("no commit")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ResourceError(
            f"the answer of {hub.endpoint} about {repo} isn't that of a hub",
            fix="Look at HF_ENDPOINT, and whether a proxy answers in its place",
        ) from error
    # What stands in folders is never needed, and never becomes a path here.
    return commit, {name: item for name, item in files.items() if _PLAIN.fullmatch(name)}


def _file(item: Mapping[str, Any]) -> HubFile:
    """Return what the hub says of a file."""
    large = item.get("lfs") or {}
    size, declared = large.get("size", item.get("size")), large.get("sha256") or ""
    git = "" if large else item.get("blobId") or ""
    return HubFile(
        size_bytes=size if type(size) is int and size >= 0 else None,
        declared=declared if _SHA256.fullmatch(declared) else "",
        git=git if _COMMIT.fullmatch(git) else "",
    )


# -- downloading -----------------------------------------------------------------------------


class _Download:
    """Brings files of one commit into the cache."""

    def __init__(self, hub: Hub, repo: str, home: Path, observe: Observe) -> None:
        self._hub, self._repo, self._home, self._observe = hub, repo, home, observe
        self._total = self._finished = 0
        """The bytes of all files that are brought together, and of those that are here by now."""

    def bring(self, names: Sequence[str], files: Mapping[str, HubFile]) -> tuple[str, ...]:
        """Download the files that aren't here or were changed; return their names."""
        missing = [name for name in names if not self._is_here(name, files[name])]
        self._total, self._finished = sum(files[name].size_bytes or 0 for name in missing), 0
        if missing:
            what = f"{self._total:,} bytes of {self._repo}, commit {self._home.name[:7]},"
            note = f"Downloading {what} from {self._hub.endpoint}"
            self._observe(Progress("note", 0, 0, note=note))
        for name in missing:
            sha256 = self._bring(name, files[name])
            self._finished += files[name].size_bytes or 0
            held = _read_files(self._home)
            _write_files(self._home, {**held, name: replace(held[name], sha256=sha256)})
        return tuple(missing)

    def _is_here(self, name: str, file: HubFile) -> bool:
        if not file.sha256:
            return False
        with (_folder(self._home) / name).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256

    def _bring(self, name: str, file: HubFile) -> str:
        """Download a file, or what is missing of it; return its SHA-256."""
        part = self._home / f"{name}.part"
        with resource_errors(part):
            _folder(self._home).mkdir(parents=True, exist_ok=True)
            self._receive_patiently(part, name, file)
            try:
                sha256 = _checked(part, name, file, self._repo)
            except ResourceError:
                part.unlink()  # Nothing can go on from it.
                raise
            part.replace(_folder(self._home) / name)
        return sha256

    def _receive_patiently(self, part: Path, name: str, file: HubFile) -> None:
        """Receive a file, with as many tries as get on."""
        while True:
            before = _size(part)
            try:
                _patiently(self._hub, lambda: self._receive(part, name, file))
                return
            except HubUnreachableError:
                if _size(part) < before + _MUCH:
                    raise

    def _receive(self, part: Path, name: str, file: HubFile) -> None:
        """Receive what is missing of a file."""
        start, size = _size(part), file.size_bytes
        if size is not None and start >= size:
            return  # All of it is here; whether it is right, its digest tells.
        url = f"{self._hub.endpoint}/{self._repo}/resolve/{self._home.name}/{quote(name)}"
        try:
            with _asked(self._hub, url, self._repo, start=start) as answer:
                self._check_origin(answer, name, file)
                received = start if answer.status_code == 206 else 0
                length = answer.headers.get("Content-Length", "")
                if size is None and length.isdigit() and "Content-Encoding" not in answer.headers:
                    size = received + int(length)
                with part.open("ab" if received else "wb") as stream:
                    for block in answer.iter_bytes():
                        received += len(block)
                        if received > (_MOST_UNKNOWN if size is None else size):
                            raise ResourceError(
                                f"`{name}` of {self._repo} is longer than the hub says",
                                fix="Run again; if it stays so, look at HF_ENDPOINT",
                            )
                        stream.write(block)
                        done = self._finished + received
                        self._observe(Progress("download", done, max(self._total, done)))
                    stream.flush()
                    os.fsync(stream.fileno())
        except _UnusableStartError as error:
            part.unlink()
            raise HubUnreachableError(
                f"`{name}` of {self._repo} can't be continued", fix="Run again"
            ) from error
        if size is not None and _size(part) < size:
            raise HubUnreachableError(
                f"the connection to {self._hub.endpoint} ended after {_size(part):,} of {size:,} "
                f"bytes of `{name}`",
                fix="Run again: the download goes on where it was",
            )

    def _check_origin(self, answer: Any, name: str, file: HubFile) -> None:
        """Refuse an answer about another commit or file.

        Of a row of redirects the first answer is the hub's own, which says what it is about.
        """
        first = answer.history[0] if answer.history else answer
        commit = first.headers.get("X-Repo-Commit", self._home.name)
        linked = first.headers.get("X-Linked-Etag", "").strip('"') or file.declared
        if commit != self._home.name or (file.declared and linked != file.declared):
            raise ResourceError(
                f"{self._hub.endpoint} gave another `{name}` than its list of {self._repo} says",
                fix="Run again; if it stays so, look at HF_ENDPOINT",
            )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _checked(path: Path, name: str, file: HubFile, repo: str) -> str:
    """Return the SHA-256 of a file that is the one that the hub declares.

    Raises:
        ResourceError: it is another.
    """
    sha256, git = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    git.update(f"blob {_size(path)}\0".encode())
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            sha256.update(block)
            git.update(block)
    for own, declared, kind in (
        (sha256.hexdigest(), file.declared, "SHA-256"),
        (git.hexdigest(), file.git, "hash in git"),
    ):
        if declared and own != declared:
            raise ResourceError(
                f"`{name}` of {repo} isn't the file that the hub declares, and isn't used",
                why=f"Its {kind} begins with {own[:12]}, and the declared one with "
                f"{declared[:12]}: it was damaged or changed on the way",
                fix="Run again; if it stays so, look at HF_ENDPOINT and at the proxies",
            )
    return sha256.hexdigest()
