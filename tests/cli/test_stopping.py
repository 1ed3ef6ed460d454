"""Ctrl-C and SIGTERM at a real training: saved, said in one line, and gone on from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from modelwright.run import LAUNCHED

LONG = """\
version: 1
data: {source: digits}
model: {name: mlp, hidden: [8]}
train: {epochs: 100000, batch_size: 32, precision: fp32, compile: off}
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_stopped_training_is_saved_and_gone_on_from(tmp_path):
    (tmp_path / "long.yaml").write_text(LONG)
    for number, heading in ((signal.SIGINT, "Training"), (signal.SIGTERM, "Going on from step")):
        process = subprocess.Popen(
            [sys.executable, "-m", "modelwright", "run", "long.yaml", "--json"],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != LAUNCHED},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = []
        for line in process.stderr:
            said.append(line)
            if "/" in line and line.startswith("Training"):  # The loop is at work.
                process.send_signal(number)
                break
        out, rest = process.communicate(timeout=60)
        assert process.returncode == 128 + number, "".join(said) + rest
        assert any(line.startswith(heading) for line in said)
        assert rest.splitlines()[-1].startswith("stopped at step ")
        assert "run the same command again to go on" in rest
        assert "Traceback" not in rest
        assert out.count("\n") == 1
    assert list((tmp_path / "runs" / "long/stages/train/checkpoints").iterdir())
    assert not (tmp_path / "runs" / "long" / "model.mw").exists()
