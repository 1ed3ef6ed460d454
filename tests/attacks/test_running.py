"""How a command ends is judged also where the work is in a process that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.attacks.running import is_waiting


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize(
    ("script", "waits"), [("sleep 60 & wait", True), ("while :; do :; done & wait", False)]
)
def test_it_waits_where_nothing_of_it_computes(script: str, waits: bool) -> None:
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as process:
        try:
            # The shell itself computes until it has started the other.
            assert any(is_waiting(process.pid) for _ in range(20 if waits else 1)) == waits
        finally:
            os.killpg(process.pid, signal.SIGKILL)
