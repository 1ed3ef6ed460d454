"""Servers for the tests: each a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

START_S = 60
"""A machine may be slow."""


@dataclass
class Running:
    """A server that answers."""

    process: subprocess.Popen[str]
    url: str
    client: httpx.Client
    lines: list[str] = field(default_factory=list)
    """What it has written."""

    def events(self, name: str) -> list[dict[str, object]]:
        """Return the lines of JSON about an event."""
        found = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [item for item in found if item["event"] == name]

    def workers(self) -> list[int]:
        """Return the process numbers of its workers."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(number) for number in text.split()]

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)


@contextlib.contextmanager
def serving(folder: Path, *arguments: str | Path, settings: str = "") -> Iterator[Running]:
    """Start a server with a store of its own, and end it after the block."""
    config = folder / "serve.yaml"
    config.write_text(f"drain_s: 0.2\nreload_s: 0.2\n{settings}")
    words = ["--port", "0", *map(str, arguments), "--config", str(config)]
    process = subprocess.Popen(
        [sys.executable, "-m", "modelwright", "serve", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        env={**os.environ, "MODELWRIGHT_STORE": str(folder / "keys.db")},
    )
    lines: list[str] = []
    url = None
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if found := re.match(r"Serving at (https?://\S+) ", line):
            url = found[1]
            break
    if url is None:
        process.wait(START_S)
        process.stderr.close()
        raise AssertionError("".join(lines))
    stderr = process.stderr
    reading = threading.Thread(target=lambda: lines.extend(stderr), daemon=True)
    reading.start()
    try:
        with httpx.Client(base_url=url, timeout=START_S, verify=False) as client:
            for _ in range(200):
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/healthz").status_code == 200:
                        break
            yield Running(process, url, client, lines)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(START_S)
            except subprocess.TimeoutExpired:
                process.kill()
        reading.join(5)
        stderr.close()
