"""A session in a process of its own, with limits: what a graph does there can't hurt its user.

A hostile graph may divide so that the processor ends the process, run for ever, or take all the
memory. In a child process that becomes a sentence. The child is limited in memory, in the time of
an answer, and writes no files; it has the rights of its user otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelwright.arrays import Array
from modelwright.errors import ModelFileError, ModelwrightError
from modelwright.modelfile.session import Session
from modelwright.modelfile.tensors import Arrays, read_arrays, write_arrays

SECONDS = 20.0
"""The most that an answer, or opening the graph, may take."""
MEMORY = 1536 << 20
"""The most memory beside that of the libraries and four times that of the weights."""
_THREAD_MEMORY = 64 << 20
_SIZE = struct.Struct("<Q")
_MOST_FRAME = 1 << 34
_DONE, _FAILED = b"0", b"1"
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from modelwright.modelfile.sandbox import serve; serve()"
)


class SandboxedSession(Session):
    """A session whose graph runs in a child process.

    Args:
        graph: an ONNX graph that names its weights.
        weights: the weights by name; there may be more.
        threads: the number of processor threads; by default all that this process may use.

    Raises:
        ModelFileError: the graph can't be run, or breaks a limit.
    """

    def _open(self, optimized: Path | None = None, profile: Path | None = None) -> Any:
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is the parent's.
        )
        held = sum(array.nbytes for array in self._weights.values())
        limit = MEMORY + 4 * held + _THREAD_MEMORY * self.threads
        self._child, self._lock = child, threading.Lock()
        try:
            self._send(json.dumps({"threads": self.threads, "memory": limit}).encode())
            self._send(self._graph)
            self._send(write_arrays(self._weights, name="weights"))
            names = json.loads(self._receive("opening the graph"))
        except BaseException:
            self.close()
            raise
        self._declared = names["inputs"], names["outputs"]
        return child

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the graph's outputs.

        Raises:
            ModelFileError: it ended the process, or took too long or too much memory.
        """
        if self._process != os.getpid():
            self._session, self._process = self._open(), os.getpid()
        contiguous = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        with self._lock:
            self._send(write_arrays(contiguous, name="inputs"))
            found = read_arrays(self._receive("answering"), name="outputs")
        return [found[str(at)] for at in range(len(found))]

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of the inputs and of the outputs."""
        return self._declared

    def close(self) -> None:
        """End the child process."""
        with contextlib.suppress(OSError):
            self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __del__(self) -> None:
        if getattr(self, "_process", None) == os.getpid() and hasattr(self, "_child"):
            self.close()

    def _send(self, data: bytes) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(_SIZE.pack(len(data)))
            self._child.stdin.write(data)
            self._child.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # The answer, which isn't there, says why.

    def _receive(self, what: str) -> bytes:
        """Return the child's answer.

        Raises:
            ModelFileError: it is an error, or there is none.
        """
        deadline = time.monotonic() + SECONDS
        (size,) = _SIZE.unpack(self._read(_SIZE.size, deadline, what))
        if not 0 < size <= _MOST_FRAME:
            raise self._ended(what)
        data = self._read(size, deadline, what)
        if data[:1] == _DONE:
            return data[1:]
        raise ModelFileError(f"onnxruntime gave up while {what}", why=data[1:].decode()[:200])

    def _read(self, size: int, deadline: float, what: str) -> bytes:
        assert self._child.stdout is not None
        parts, left = [], size
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while left:
                if not selector.select(max(deadline - time.monotonic(), 0.0)):
                    self.close()
                    raise ModelFileError(
                        f"the graph took longer than {SECONDS:.0f} s while {what}, and was stopped",
                        fix="If you trust who wrote the file, use it without the sandbox",
                    )
                part = os.read(self._child.stdout.fileno(), min(left, 1 << 20))
                if not part:
                    raise self._ended(what)
                parts.append(part)
                left -= len(part)
        return b"".join(parts)

    def _ended(self, what: str) -> ModelFileError:
        self.close()
        code = self._child.returncode
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return ModelFileError(
            f"the graph ended the process that ran it ({how}) while {what}",
            fix="Don't use the file: a graph that we write doesn't do so",
        )


def serve() -> None:
    """Run a graph for the parent process, which talks over standard input and output."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Nothing else may write into the answers.
    try:
        settings = json.loads(_frame(source))
        graph, weights = _frame(source), read_arrays(_frame(source), name="weights")
        _limit(settings["memory"])
        session = Session(graph, weights, threads=settings["threads"])
        inputs, outputs = session.names()
        _answer(sink, _DONE + json.dumps({"inputs": inputs, "outputs": outputs}).encode())
        while True:
            given: Arrays = read_arrays(_frame(source), name="inputs")
            try:
                answered = session.run(given)
                arrays = {str(at): np.ascontiguousarray(item) for at, item in enumerate(answered)}
                _answer(sink, _DONE + write_arrays(arrays, name="outputs"))
            except (ModelwrightError, MemoryError, ValueError) as error:
                _answer(sink, _FAILED + str(error).encode())
    except EOFError:
        return
    except (ModelwrightError, MemoryError) as error:
        _answer(sink, _FAILED + str(error).encode())


def _frame(source: Any) -> bytes:
    """Return what the parent sent next.

    Raises:
        EOFError: it has ended.
    """
    head = source.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError
    data: bytes = source.read(_SIZE.unpack(head)[0])
    return data


def _answer(sink: Any, data: bytes) -> None:
    sink.write(_SIZE.pack(len(data)))
    sink.write(data)
    sink.flush()


def _limit(memory: int) -> None:
    """Limit the memory that is taken from now on, and write no files; where the system can."""
    try:
        import resource
    except ImportError:
        return
    import onnxruntime  # noqa: F401  (What it takes isn't the graph's.)

    pages = _size_bytes()
    for name, value in (
        ("RLIMIT_AS", None if pages is None else pages + memory),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
    ):
        if value is not None and hasattr(resource, name):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, name), (value, value))


def _size_bytes() -> int | None:
    """Return the size of this process's address space; `None` where the system doesn't say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
