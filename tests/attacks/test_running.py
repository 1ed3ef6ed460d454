"""How a command ends is judged also where the work is in a process that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.attacks.running import is_waiting


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize(
    ("script", "waits"),
    [("sleep 60 & echo; wait", True), ("while :; do :; done & echo; wait", False)],
)
def test_it_waits_where_nothing_of_it_computes(script: str, waits: bool) -> None:
    with subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            # What was started may compute for a moment, until it sleeps.
            tries = range(100 if waits else 1)
            assert any(is_waiting(process.pid) or time.sleep(0.1) for _ in tries) == waits
        finally:
            os.killpg(process.pid, signal.SIGKILL)
