"""Workers of one model, and the queue before them: batches, deadlines, restarts.

An idle worker takes at once what waits, up to `max_batch`, so batches form under load alone and
nothing waits when there is none. What a worker had when it died is asked of another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path

from modelwright.errors import ModelFileError, ModelwrightError, ResourceError
from modelwright.files import JsonObject, resource_errors
from modelwright.serving.config import ModelSpec
from modelwright.serving.messages import Message, encode, receive

PREDICT = "predict"
"""The kind of job that asks for predictions of one input."""
_MOST_DEATHS = 2
"""A request over which so many workers died, the last time alone, is given up."""
_SLOWEST_RESTART_S = 5.0
_LOOK_S = 1.0
"""So often a worker without requests is looked after."""


class BusyError(ModelwrightError):
    """The queue is full, or the answer didn't come in time."""


class FaultError(ModelwrightError):
    """The model failed over an input."""


@dataclass(eq=False, slots=True)
class Job:
    """What one request asks of a model."""

    header: JsonObject
    """Of a message to a worker; of `predict` an entry of its `items`."""
    parts: list[bytes]
    answer: asyncio.Future[Message]
    deaths: int = 0
    is_begun: bool = False
    """Whether a piece of its text is on its way: it can't be asked again."""
    pieces: asyncio.Queue[Message] | None = None
    """Where pieces of texts go as they come."""

    kind: Hashable = None
    """Those of one kind may be answered in one batch; without a kind it is answered alone."""


@dataclass(eq=False, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    info: JsonObject

    def resident_bytes(self) -> int:
        """Return the memory that it holds; 0 where the system doesn't say."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        return 0


@dataclass(eq=False, slots=True)
class Pool:
    """The workers of one model file."""

    spec: ModelSpec
    observe_batch: Callable[[int], None]
    """Called with the size of each batch."""
    log: Callable[..., None]
    """Called with what happened, as a name and figures."""
    info: JsonObject = field(default_factory=dict)
    """What the model is, as its workers say."""
    workers: list[_Worker] = field(default_factory=list)
    stamp: tuple[int, int] = (0, 0)
    """When the file was changed that is served, and which it is."""
    _file: int = -1
    """The file, held open: workers that start later read it too, whatever has its name by then."""
    _is_stopped: bool = False
    _queue: deque[Job] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _busy: int = 0
    _seconds: float = 0.05
    """What a batch lately took."""

    @property
    def waiting(self) -> int:
        """The number of requests in the queue."""
        return len(self._queue)

    async def start(self) -> None:
        """Start the workers, and wait until they answer.

        Raises:
            ModelFileError: the file can't be loaded.
        """
        with resource_errors(Path(self.spec.path)):
            self._file = os.open(self.spec.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        found = os.fstat(self._file)
        self.stamp = (found.st_mtime_ns, found.st_ino)
        begun = [asyncio.ensure_future(self._start()) for _ in range(self.spec.count)]
        results = await asyncio.gather(*begun, return_exceptions=True)
        self.workers = [item for item in results if isinstance(item, _Worker)]
        for failed in (item for item in results if isinstance(item, BaseException)):
            await self.stop()
            raise failed
        self._tasks = [asyncio.ensure_future(self._work(place)) for place in range(self.spec.count)]

    async def _start(self) -> _Worker:
        worker = await _start(self.spec, self._file)
        self.info = self.info or worker.info
        if worker.info["digest"] != self.info["digest"]:
            worker.writer.close()
            raise ModelFileError("the file was changed in place", where=self.spec.path)
        return worker

    def submit(
        self,
        header: JsonObject,
        parts: list[bytes],
        *,
        kind: Hashable = None,
        streams: bool = False,
    ) -> Job:
        """Put a request into the queue; see `Job`.

        Raises:
            BusyError: it is full.
        """
        if self._is_stopped:
            raise BusyError("this model isn't served any more", fix="Ask again")
        if len(self._queue) >= self.spec.queue:
            raise BusyError("too many requests wait for this model", fix="Ask again in a moment")
        job = Job(header, parts, asyncio.get_running_loop().create_future(), kind=kind)
        if streams:
            job.pieces = asyncio.Queue()
        self._queue.append(job)
        self._wake.set()
        return job

    @property
    def retry_after_s(self) -> int:
        """In how many seconds the queue will have been answered, about."""
        batches = 1 + len(self._queue) / max(1, self.spec.max_batch * len(self.workers))
        return max(1, round(batches * self._seconds))

    @property
    def is_ready(self) -> bool:
        """Whether a worker can answer."""
        return any(worker.process.poll() is None for worker in self.workers)

    async def _work(self, place: int) -> None:
        """Give one worker batch after batch, and start it anew where it dies."""
        while True:
            jobs = await self._next()
            if self.workers[place].reader.at_eof():  # It died while it had nothing to do.
                self._queue.extendleft(reversed(jobs))
                self.log("worker_lost", model=self.spec.name, how="died", requests=0)
                await self._restart(place)
                continue
            if not jobs:
                continue
            self._busy += 1
            begun = time.monotonic()
            how = ""
            try:
                async with asyncio.timeout(self.spec.batch_timeout_s):
                    await _exchange(self.workers[place], jobs)
                self.observe_batch(len(jobs))
                self._seconds += 0.1 * (time.monotonic() - begun - self._seconds)
            except (EOFError, OSError, TimeoutError) as error:
                how = "hung" if isinstance(error, TimeoutError) else "died"
                self._retry(jobs, how)
            finally:
                self._busy -= 1
            if how:
                await self._restart(place)

    async def _restart(self, place: int) -> None:
        self.workers[place].process.kill()
        self.workers[place].writer.close()
        self._wake.set()  # Another one may take what waits.
        delay = 0.1
        while True:
            try:
                self.workers[place] = await self._start()
                return
            except (ModelwrightError, OSError, EOFError):
                await asyncio.sleep(delay)
                delay = min(2 * delay, _SLOWEST_RESTART_S)

    async def _next(self) -> list[Job]:
        """Return what is to be answered next; nothing after a second without requests."""
        while True:
            if self.spec.max_wait_ms and 0 < len(self._queue) < self.spec.max_batch:
                await asyncio.sleep(self.spec.max_wait_ms / 1000)
            jobs: list[Job] = []
            while self._queue and len(jobs) < self.spec.max_batch:
                first = self._queue[0]
                # What was in a batch that ended a worker is asked alone.
                is_alone = first.kind is None or first.deaths
                if jobs and (is_alone or first.kind != jobs[0].kind):
                    break
                self._queue.popleft()
                if not first.answer.done():  # Its client has gone, or its time is over.
                    jobs.append(first)
                    if is_alone:
                        break
            if jobs:
                return jobs
            self._wake.clear()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                return []

    def _retry(self, jobs: list[Job], how: str) -> None:
        self.log("worker_lost", model=self.spec.name, how=how, requests=len(jobs))
        for job in reversed(jobs):
            job.deaths += 1
            if job.answer.done():
                continue
            if job.deaths >= _MOST_DEATHS or how == "hung" or job.is_begun:
                job.answer.set_exception(FaultError("the model failed over this input"))
            else:
                self._queue.appendleft(job)
        self._wake.set()

    async def drain(self) -> None:
        """Wait until all that was accepted is answered, then end the workers."""
        self._is_stopped = True
        while self._busy or not all(job.answer.done() for job in self._queue):
            await asyncio.sleep(0.02)
        await self.stop()

    async def stop(self) -> None:
        """End the workers; what waits is answered by an error."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in self._queue:
            if not job.answer.done():
                job.answer.set_exception(BusyError("the server ends"))
        for worker in self.workers:
            worker.writer.close()
        for worker in self.workers:
            try:
                await asyncio.to_thread(worker.process.wait, 2)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                await asyncio.to_thread(worker.process.wait)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


async def pieces(job: Job) -> AsyncIterator[Message]:
    """Yield the pieces of a text as they come, until it ends.

    Raises:
        ModelwrightError: the model can't write it.
    """
    assert job.pieces is not None
    while True:
        take = asyncio.ensure_future(job.pieces.get())
        await asyncio.wait({take, job.answer}, return_when=asyncio.FIRST_COMPLETED)
        if take.done():
            yield take.result()
            continue
        take.cancel()
        while not job.pieces.empty():
            yield job.pieces.get_nowait()
        job.answer.result()
        return


async def _start(spec: ModelSpec, file: int) -> _Worker:
    """Start a worker, and return it once it has loaded the model of an open file."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "modelwright.serving.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno(), file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours)
    guard = spec.answers.model_dump()
    held = f"/proc/self/fd/{file}"  # Opened anew there, so that each reads from its beginning.
    path = held if Path(held).exists() else str(spec.path)
    first = {"path": path, "threads": spec.threads, "guard": guard}
    try:
        writer.write(encode(first))
        header, _ = await receive(reader)
    except (EOFError, OSError) as error:
        writer.close()
        raise ResourceError(
            "a worker ended before it had loaded the model", where=str(spec.path)
        ) from error
    if "error" in header:
        writer.close()
        await asyncio.to_thread(process.wait)
        raise ModelFileError(**{**header["error"], "where": spec.path})
    return _Worker(process, reader, writer, header["model"])


async def _exchange(worker: _Worker, jobs: list[Job]) -> None:
    """Ask a worker, and hand out its answers."""
    if jobs[0].kind == PREDICT:
        items, parts = [job.header for job in jobs], [job.parts[0] for job in jobs]
        worker.writer.write(encode({"op": "predict", "items": items}, parts))
        header, told = await receive(worker.reader)
        entries = header.get("items") or [header] * len(jobs)
        for job, entry, part in zip(jobs, entries, told or [b""] * len(jobs), strict=True):
            _hand_out(job, entry, [part])
    elif len(jobs) > 1:
        await _exchange_tensors(worker, jobs)
    else:
        await _exchange_one(worker, jobs[0])


async def _exchange_one(worker: _Worker, job: Job) -> None:
    worker.writer.write(encode(job.header, job.parts))
    header, told = await receive(worker.reader)
    is_cancelled = False
    while "piece" in header:
        job.is_begun = True
        if job.pieces is not None:
            job.pieces.put_nowait((header, told))
        if job.answer.done() and not is_cancelled:
            is_cancelled = True
            worker.writer.write(encode({"op": "cancel"}))
        header, told = await receive(worker.reader)
    _hand_out(job, header, told)


async def _exchange_tensors(worker: _Worker, jobs: list[Job]) -> None:
    """Ask for several requests at once, whose tensors differ along the first axis alone."""
    rows = [job.header["tensors"][0]["shape"][0] for job in jobs]
    tensors = [
        {**item, "shape": [sum(rows), *item["shape"][1:]]} for item in jobs[0].header["tensors"]
    ]
    parts = [b"".join(each) for each in zip(*(job.parts for job in jobs), strict=True)]
    worker.writer.write(encode({"op": "infer", "tensors": tensors}, parts))
    header, told = await receive(worker.reader)
    if "tensors" not in header:  # One of them may be at fault.
        for job in jobs:
            await _exchange_one(worker, job)
        return
    start = 0
    for job, count in zip(jobs, rows, strict=True):
        own = [{**item, "shape": [count, *item["shape"][1:]]} for item in header["tensors"]]
        sizes = [len(part) // sum(rows) for part in told]
        cut = [
            part[start * size : (start + count) * size]
            for part, size in zip(told, sizes, strict=True)
        ]
        start += count
        _hand_out(job, {"tensors": own}, cut)


def _hand_out(job: Job, header: JsonObject, parts: list[bytes]) -> None:
    if job.answer.done():
        return
    if "error" in header:
        job.answer.set_exception(InputError(**header["error"]))
    elif "fault" in header:
        job.answer.set_exception(FaultError("the model failed over this input"))
    else:
        job.answer.set_result((header, parts))


class InputError(ModelwrightError):
    """An input that the model doesn't take."""
