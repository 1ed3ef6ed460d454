"""Graphs of admitted operators with numbers that make no sense, run in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modelwright import modelfile
from tests.attacks.models import changed, sample_for
from tests.attacks.senseless_numbers import cases

resource = pytest.importorskip("resource")

MEMORY = 6 << 30
"""Of addresses, most of which the libraries take and don't use."""
ROOT = Path(__file__).parents[2]


def test_each_is_refused_or_answers_as_declared(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.attacks.senseless_numbers"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    last = lines[-1][0] if lines else "none"
    assert ended.returncode == 0, f"the process ended after {last}: {ended.stderr[-500:]}"
    assert [name for name, *_ in lines] == list(cases())
    plain = changed("classifier")
    right = modelfile.load(plain.write(tmp_path / "m.mw"), threads=1).predict(sample_for(plain))
    for name, (is_intact, _), (is_answered, answer) in lines:
        assert is_intact == is_answered, name
        assert answer == right if is_answered else answer, name
    assert 20 < sum(is_intact for _, (is_intact, _), _ in lines) < len(lines) - 20
