"""Files of a hub's repositories, kept in the cache, from where they are taken without a network.

Only settings, tokenizer and weights as safetensors are downloaded: nothing that can run. It is by
the hash of a commit, never by a branch, and each file is compared with the digest that the hub
declares for it. The download is ours, because that of `huggingface_hub` starts anew after a stop.

    hub/ORG/NAME/revisions.json         the commit that each branch or tag was last
    hub/ORG/NAME/COMMIT/files.json      the files of the commit, and the SHA-256 of those here
    hub/ORG/NAME/COMMIT/NAME/           the files
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelwright.errors import RecipeError, ResourceError
from modelwright.files import cache_folder, locked, read_json, resource_errors, write_json
from modelwright.initialization.hub import (
    COMMIT,
    SHA256,
    Hub,
    HubFile,
    HubUnreachableError,
    UnusableStartError,
    asked,
    listing,
    patiently,
)
from modelwright.recipe.model import HUB_NAME, FolderFiles
from modelwright.run import Observe, Progress, silent

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".pkl")
_MOST_UNKNOWN = 64 << 20
"""So much is taken of a file of which nobody says how long it is."""
_LENGTH = 8
"""With so many bytes, the length of its header, a file of safetensors begins."""
_MOST_HEADER = 100_000_000
"""The library takes no longer one."""
_BLOCK = 1 << 20
_MUCH = 1 << 20
"""With so many bytes more than before, a download that broke off has got on."""


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

    def weight_headers(self) -> list[Path]:
        """Return files that begin as those of the weights: with the name and shape of each."""
        return [
            self.folder / name if item.sha256 else _part(self.folder.parent, name)
            for name, item in self.files.items()
            if name.endswith(".safetensors")
        ]

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file that is here, by its name."""
        return {name: f"sha256:{it.sha256}" for name, it in self.files.items() if it.sha256}


def cached(name: str, needs: FolderFiles) -> Snapshot:
    """Return the files of a commit that `fetch` has put into the cache; nothing is asked.

    Args:
        name: `ORG/NAME@COMMIT`.
        needs: the files that the network needs beside its weights.
    """
    repo, commit = name.split("@")
    home = _place(repo) / commit
    return _snapshot(home, commit, _needed(_read_files(home), needs, home))


def fetch(
    name: str,
    needs: FolderFiles,
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
        needs: the files that the network needs beside its weights.
        with_weights: whether the weights are downloaded, or only their headers.
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
        _check_complete(files, needs, repo)
        small = [*needs.required, *needs.optional]
        if needs.has_shards and WEIGHTS not in files:
            small.append(INDEX)
        download = _Download(hub, repo, home, observe)
        done = download.bring([name for name in small if name in files], files)
        files = _read_files(home)
        needed = _needed(files, needs, home)
        weights = sorted(needed.keys() - set(small))
        if with_weights:
            done += download.bring(weights, needed)
            needed = _needed(_read_files(home), needs, home)
        else:
            download.bring_headers(weights, needed)
    return replace(_snapshot(home, revision, needed), downloaded=done)


# -- the cache -------------------------------------------------------------------------------


def _place(repo: str) -> Path:
    return cache_folder().joinpath("hub", *repo.split("/"))


def _folder(home: Path) -> Path:
    """Return the folder of a commit's files, which has the repository's name for messages."""
    return home / home.parent.name


def _part(home: Path, name: str) -> Path:
    """Return the file that holds the beginning of one that isn't whole yet."""
    return home / f"{name}.part"


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
    is_commit = COMMIT.fullmatch(revision) is not None
    last = revision if is_commit else known.get(revision, "")
    is_here = bool(last) and bool(_read_files(place / last))
    if is_commit and is_here:
        return revision
    try:
        commit, files = listing(hub, repo, revision)
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


def _check_complete(files: Mapping[str, HubFile], needs: FolderFiles, repo: str) -> None:
    """Refuse a repository that lacks what a network needs, before anything is downloaded."""
    for name in needs.required:
        if name not in files:
            raise RecipeError(
                f"the repository {repo} has no `{name}`",
                why="The files of slow tokenizers aren't read" if name == "tokenizer.json" else "",
                fix="Take another repository or revision",
            )
    if WEIGHTS in files or (needs.has_shards and INDEX in files):
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


def _needed(files: Mapping[str, HubFile], needs: FolderFiles, home: Path) -> dict[str, HubFile]:
    """Return the files that a network needs, once the index of its weights is here."""
    names = [name for name in (*needs.required, *needs.optional) if name in files]
    if WEIGHTS in files or not needs.has_shards:
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


# -- downloading -----------------------------------------------------------------------------


class _Download:
    """Brings files of one commit into the cache."""

    def __init__(self, hub: Hub, repo: str, home: Path, observe: Observe) -> None:
        self._hub, self._repo, self._home, self._observe = hub, repo, home, observe
        self._total = self._finished = 0
        """The bytes of all files that are brought together, and of those that are here by now."""
        self._linked = ""
        """The SHA-256 of the file that is being brought, as the answer declares it."""

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

    def bring_headers(self, names: Sequence[str], files: Mapping[str, HubFile]) -> None:
        """Download the beginning of files of weights that aren't here, from which `bring` goes on.

        Raises:
            RecipeError: one isn't safetensors.
        """
        self._total = self._finished = 0
        for name in names:
            if files[name].sha256:
                continue
            part = _part(self._home, name)
            with resource_errors(part):
                self._receive_patiently(part, name, files[name], until=_LENGTH)
                with part.open("rb") as stream:
                    length = int.from_bytes(stream.read(_LENGTH), "little")
                if length > _MOST_HEADER:
                    raise RecipeError(
                        f"`{name}` of {self._repo} isn't a file of safetensors",
                        fix="Take another repository or revision",
                    )
                self._receive_patiently(part, name, files[name], until=_LENGTH + length)

    def _is_here(self, name: str, file: HubFile) -> bool:
        if not file.sha256:
            return False
        with (_folder(self._home) / name).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256

    def _bring(self, name: str, file: HubFile) -> str:
        """Download a file, or what is missing of it; return its SHA-256."""
        part = _part(self._home, name)
        with resource_errors(part):
            _folder(self._home).mkdir(parents=True, exist_ok=True)
            self._linked = ""
            self._receive_patiently(part, name, file)
            file = replace(file, declared=file.declared or self._linked)
            try:
                sha256 = _checked(part, name, file, self._repo)
            except ResourceError:
                part.unlink()  # Nothing can go on from it.
                raise
            part.replace(_folder(self._home) / name)
        return sha256

    def _receive_patiently(
        self, part: Path, name: str, file: HubFile, *, until: int | None = None
    ) -> None:
        """Receive a file, or so many bytes of it, with as many tries as get on."""
        while True:
            before = _size(part)
            try:
                patiently(self._hub, lambda: self._receive(part, name, file, until))
                return
            except HubUnreachableError:
                if _size(part) < before + _MUCH:
                    raise

    def _receive(self, part: Path, name: str, file: HubFile, until: int | None) -> None:
        """Receive what is missing of a file, or of its first bytes."""
        start, size = _size(part), file.size_bytes
        enough = min((item for item in (size, until) if item is not None), default=None)
        if enough is not None and start >= enough:
            return  # All of it is here; whether it is right, its digest tells.
        url = f"{self._hub.endpoint}/{self._repo}/resolve/{self._home.name}/{quote(name)}"
        try:
            with asked(self._hub, url, self._repo, start=start) as answer:
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
                        if until is not None and received >= until:
                            break
                    stream.flush()
                    os.fsync(stream.fileno())
        except UnusableStartError as error:
            part.unlink()
            raise HubUnreachableError(
                f"`{name}` of {self._repo} can't be continued", fix="Run again"
            ) from error
        enough = size if enough is None else enough
        if enough is not None and _size(part) < enough:
            raise HubUnreachableError(
                f"the connection to {self._hub.endpoint} ended after {_size(part):,} of {enough:,} "
                f"bytes of `{name}`",
                fix="Run again: the download goes on where it was",
            )

    def _check_origin(self, answer: Any, name: str, file: HubFile) -> None:
        """Refuse an answer about another commit or file.

        Of a row of redirects the first answer is the hub's own, which says what it is about.
        """
        first = answer.history[0] if answer.history else answer
        commit = first.headers.get("X-Repo-Commit", self._home.name)
        linked = first.headers.get("X-Linked-Etag", "").strip('"')
        self._linked = linked if SHA256.fullmatch(linked) else ""
        differs = self._linked and file.declared and self._linked != file.declared
        if commit != self._home.name or differs:
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
