"""The quick start of docs/serving.md, as it stands there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.serving.running import START_S

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.skipif(os.name != "posix" or not shutil.which("curl"), reason="needs a shell and curl")
def test_a_trained_file_is_signed_sealed_and_served(finished_run, tmp_path):
    shutil.copytree(finished_run / "runs" / "quick", tmp_path / "runs" / "digits")
    sample = next((tmp_path / "runs" / "digits" / "samples").glob("*.png"))
    environment = {
        **os.environ,
        "MODELWRIGHT_STORE": str(tmp_path / "keys.db"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    *commands, serve = BLOCKS[0].strip().split("\n")
    assert sum(line.startswith("modelwright") for line in (*commands, serve)) == 5
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(commands)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    key = re.search(r"mw_\S+", done.stdout)
    assert key
    passphrase = re.search(r'PASSPHRASE="(.*)"', BLOCKS[0])
    assert passphrase
    server = subprocess.Popen(
        serve.split(),
        cwd=tmp_path,
        env={**environment, "PASSPHRASE": passphrase[1]},
        stderr=subprocess.DEVNULL,
    )
    try:
        limit = time.monotonic() + START_S
        while time.monotonic() < limit:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get("http://127.0.0.1:8123/readyz").status_code == 200:
                    break
            time.sleep(0.1)
        line = BLOCKS[1].replace("KEY", key[0]).replace("0-1.png", sample.name)
        asked = {"capture_output": True, "text": True, "cwd": tmp_path, "check": True}
        answer = subprocess.run(["bash", "-c", line], **asked).stdout
        assert '"predictions"' in answer
        line = line.replace(key[0], "wrong")
        assert '"status": 401' in subprocess.run(["bash", "-c", line], **asked).stdout
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(START_S)
    plain = (tmp_path / "runs" / "digits" / "model.mw").read_bytes()
    assert plain[:2] == b"PK"
    assert (tmp_path / "digits.mw.age").read_bytes().startswith(b"age-encryption.org")
