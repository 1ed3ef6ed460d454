"""A server that speaks the hub's HTTP on this machine, with the faults that a test asks for."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")
"""What the hub keeps as large files, at another address."""


@dataclass
class Fault:
    """What goes wrong with the questions whose path holds a text."""

    status: int = 0
    code: str = ""
    """`X-Error-Code`."""
    message: str = ""
    """`X-Error-Message`."""
    cut: int | None = None
    """Close the connection after so many bytes of what was asked for."""
    swap: bytes = b""
    """Answer something else."""
    commit: str = ""
    """Answer as if it were of this commit."""
    hang_s: float = 0.0
    times: int = 1_000
    """How often; then all is well."""


@dataclass
class FakeHub:
    """Repositories, what was asked, and what goes wrong."""

    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    """Files by repository, by commit."""
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers."""
    takes_ranges: bool = True
    says_sizes: bool = True
    url: str = ""

    def put(self, repo: str, files: dict[str, bytes] | Path, branch: str = "main") -> str:
        """Add a commit with these files, which the branch is from now on; return its hash."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.repos.setdefault(repo, {})[commit] = dict(files)
        self.branches.setdefault(repo, {})[branch] = commit
        return commit

    def paths(self) -> list[str]:
        """Return the paths that were asked for."""
        return [path for _, path, _ in self.asked]

    def downloads(self) -> list[str]:
        """Return the names of the files that were asked for, redirects left out."""
        return [path.rpartition("/")[2] for path in self.paths() if "/resolve/" in path]

    def find(self, repo: str, revision: str) -> str | None:
        """Return the commit of a revision."""
        known = self.repos.get(repo, {})
        return revision if revision in known else self.branches.get(repo, {}).get(revision)


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = urlsplit(self.path).path  # A proxy is asked for whole addresses.
            hub.asked.append((self.command, self.path, dict(self.headers)))
            fault = next((it for part, it in hub.faults.items() if part in path), None)
            if fault is not None and fault.times > 0:
                fault.times -= 1
            else:
                fault = None
            if fault is not None and fault.hang_s:
                time.sleep(fault.hang_s)
            if fault is not None and fault.status:
                self._fail(fault.status, fault.code, fault.message)
                return
            words = unquote(path).strip("/").split("/")
            if words[:2] == ["api", "models"] and words[4:5] == ["revision"]:
                self._list("/".join(words[2:4]), "/".join(words[5:]), fault)
                return
            if words[2:3] == ["resolve"]:
                self._resolve("/".join(words[:2]), words[3], "/".join(words[4:]), fault)
                return
            if words[0] == "cdn":
                self._send(hub.repos["/".join(words[1:3])][words[3]][words[4]], {}, fault)
                return
            self._fail(404, "")

        def _list(self, repo: str, revision: str, fault: Fault | None) -> None:
            if repo not in hub.repos:
                self._fail(401, "RepoNotFound")
                return
            commit = hub.find(repo, revision)
            if commit is None:
                self._fail(404, "RevisionNotFound")
                return
            siblings: list[dict[str, object]] = []
            for name, data in hub.repos[repo][commit].items():
                item: dict[str, object] = {"rfilename": name}
                if hub.says_sizes:
                    item |= {"size": len(data), "blobId": _git(data)}
                    if name.endswith(LARGE):
                        item["lfs"] = {
                            "sha256": hashlib.sha256(data).hexdigest(),
                            "size": len(data),
                            "pointerSize": 134,
                        }
                siblings.append(item)
            body = json.dumps({"id": repo, "sha": commit, "siblings": siblings}).encode()
            self._send(body, {"Content-Type": "application/json"}, fault)

        def _resolve(self, repo: str, revision: str, name: str, fault: Fault | None) -> None:
            commit = hub.find(repo, revision)
            data = hub.repos.get(repo, {}).get(commit or "", {}).get(name)
            if commit is None or data is None:
                self._fail(404, "EntryNotFound")
                return
            headers = {"X-Repo-Commit": fault.commit if fault and fault.commit else commit}
            if not name.endswith(LARGE):
                self._send(data, {**headers, "ETag": f'"{_git(data)}"'}, fault)
                return
            # As the hub's storage, it has another name than the hub.
            data = fault.swap if fault and fault.swap else data
            elsewhere = hub.url.replace("127.0.0.1", "localhost")
            headers |= {
                "Location": f"{elsewhere}/cdn/{repo}/{commit}/{name}",
                "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Linked-Size": str(len(data)),
                "Content-Length": "0",
            }
            self.send_response(302)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()

        def _send(self, data: bytes, headers: dict[str, str], fault: Fault | None) -> None:
            if fault is not None and fault.swap:
                data = fault.swap
            start, status = 0, 200
            asked = self.headers.get("Range", "")
            if asked and hub.takes_ranges:
                start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
                if start >= len(data):
                    self._fail(416, "")
                    return
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            end = len(data) if fault is None or fault.cut is None else start + fault.cut
            self.wfile.write(data[start:end])
            if end < len(data):
                self.close_connection = True

        def _fail(self, status: int, code: str, message: str = "") -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            if message:
                self.send_header("X-Error-Message", message)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        pass  # A client that gave up waiting is part of a test.


@contextmanager
def serving() -> Iterator[FakeHub]:
    """Yield a hub that answers during the block."""
    hub = FakeHub()
    server = _Server(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
