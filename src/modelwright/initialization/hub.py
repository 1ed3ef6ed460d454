"""Asking Hugging Face's hub, or a server that answers like it, for what a repository holds.

Everything of the library `huggingface_hub` is here: the address (`HF_ENDPOINT`), the token
(`HF_TOKEN`), being offline (`HF_HUB_OFFLINE`) and the session with its proxies are its own. Where
the files go is told by `hub_cache`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

from modelwright.errors import RecipeError, ResourceError, require
from modelwright.version import __version__

COMMIT = re.compile(r"[0-9a-f]{40}")
"""The hash of a commit, and of an object in git."""
SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(r"[\w.-]+")
_MOST_ANSWER = 32 << 20
"""No list of a repository's files is longer."""
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


def web_page(name: str) -> str:
    """Return the address at which a person finds the files of `ORG/NAME` or `ORG/NAME@REVISION`."""
    repo, _, revision = name.partition("@")
    return f"{Hub.from_environment().endpoint}/{repo}/tree/{quote(revision or 'main')}"


def _library() -> Any:
    return require("huggingface_hub", extra="hub", purpose="`model.hub`")


def _constants() -> Any:
    """Return what `huggingface_hub` read from the environment when it was imported."""
    _library()
    return importlib.import_module("huggingface_hub.constants")


def _httpx() -> Any:
    """Return the library that `huggingface_hub` asks with, under the name that it keeps for it."""
    return importlib.import_module("huggingface_hub.utils").httpx


def patiently(hub: Hub, work: Callable[[], T]) -> T:
    """Return what some asking gives, trying again where another try may succeed.

    Raises:
        ModelwrightError: what the last try raised.
    """
    for wait_s in hub.waits_s:
        try:
            return work()
        except HubUnreachableError as error:
            if isinstance(error.__cause__, _httpx().ConnectError) or hub.is_offline:
                raise  # There is no network, or nobody there: waiting changes nothing.
            time.sleep(wait_s)
    return work()


@contextlib.contextmanager
def asked(hub: Hub, url: str, repo: str, *, start: int = 0) -> Iterator[Any]:
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
        raise UnusableStartError
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
    if code == "EntryNotFound":
        raise RecipeError(
            f"{repo} lacks a file that its list names", fix="Take another repository or revision"
        )
    if "credentials" in answer.headers.get("X-Error-Message", ""):
        raise RecipeError(
            f"{hub.endpoint} doesn't accept the token",
            fix="Look at HF_TOKEN, or log in anew with `hf auth login`; what is public needs none",
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


class UnusableStartError(Exception):
    """The hub has nothing from there on: what is here of a file isn't its beginning."""


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__


def listing(hub: Hub, repo: str, revision: str) -> tuple[str, dict[str, HubFile]]:
    """Return the commit of a revision and its files, asked of the hub."""
    url = f"{hub.endpoint}/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"

    def work() -> bytes:
        held = bytearray()
        with asked(hub, url, repo) as answer:
            for block in answer.iter_bytes():
                held += block
                if len(held) > _MOST_ANSWER:
                    break
        return bytes(held)

    body = patiently(hub, work)
    try:
        document = json.loads(body)
        commit, siblings = document["sha"], document["siblings"]
        files = {item["rfilename"]: _file(item) for item in siblings}
        if not COMMIT.fullmatch(commit):
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
        declared=declared if SHA256.fullmatch(declared) else "",
        git=git if COMMIT.fullmatch(git) else "",
    )
