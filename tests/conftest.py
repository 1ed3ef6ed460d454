"""What all tests share: caches and ledgers of their own, and one small finished run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Small networks gain nothing from several threads, and lose much where tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

QUICK = """\
version: 1
data: {source: digits}
model: {name: mlp, hidden: [16]}
train: {epochs: 2, precision: fp32, compile: off}
evaluate: {baselines: false, latency: false}
targets: {accuracy: ">= 0.2", size_bytes: "<= 1_000_000"}
"""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep tests away from the user's stores and from the list of looks at test sets."""
    before = os.environ.get("MODELWRIGHT_CACHE")
    os.environ["MODELWRIGHT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["MODELWRIGHT_CACHE"]
    else:
        os.environ["MODELWRIGHT_CACHE"] = before


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, own_cache):
    """Return a folder with `quick.yaml` and the run that it made, `runs/quick`; don't change it."""
    from modelwright.pipeline import run

    folder = tmp_path_factory.mktemp("finished")
    (folder / "quick.yaml").write_text(QUICK)
    run(folder / "quick.yaml", out=folder / "runs")
    return folder


@pytest.fixture
def workspace(finished_run, tmp_path, monkeypatch):
    """Work in a folder of one's own that holds the finished run."""
    here = tmp_path / "workspace"
    shutil.copytree(finished_run, here)
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def sample(workspace) -> Path:
    """Return a test image of the finished run."""
    return min(Path("runs/quick/samples").glob("*.png"))
