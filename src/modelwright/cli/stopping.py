"""Ctrl-C and SIGTERM on the command line: what is open is closed, and the exit code says which.

Training handles both signals itself while it runs, saves its state and raises `StoppedError`; the
wake-up descriptor notes every signal, whoever handled it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM came. As with Ctrl-C, temporary files are removed on the way out."""


@contextlib.contextmanager
def noting_signals() -> Iterator[Callable[[], int | None]]:
    """Raise `Terminated` on SIGTERM while the block runs.

    Yields:
        A function that returns the first signal that came, `None` where none was noted.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or os.name != "posix":
        yield lambda: None
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    owner = os.getpid()
    noted: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # A worker that was forked ends as any process does.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise Terminated

    def first() -> int | None:
        with contextlib.suppress(BlockingIOError):
            noted.extend(byte for byte in os.read(reader, 64) if byte in _STOPS)
        return noted[0] if noted else None

    before_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield first
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.set_wakeup_fd(before_fd)
        os.close(reader)
        os.close(writer)


_STOPS = (int(signal.SIGINT), int(signal.SIGTERM))
