"""What all tests share: one core, caches and ledgers of their own, and one small finished run."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes depends on the machine, and on what else runs there.
settings.register_profile("modelwright", deadline=None)
settings.load_profile("modelwright")
os.environ["OMP_NUM_THREADS"] = "1"  # Torch reads it once, when it is imported.


def pytest_configure(config: pytest.Config) -> None:
    """Give each process of tests a core of its own, and whatever it starts the same one.

    Small networks gain nothing from several threads, and lose much where tests run side by side.
    A run takes as many threads as it has cores, so this also fixes in which order it adds up. The
    process that only hands out tests keeps all cores, as its workers inherit them.
    """
    worker = getattr(config, "workerinput", None)
    hands_out = worker is None and config.getoption("numprocesses", None)
    if hands_out or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    own = os.getpid() if worker is None else int(worker["workerid"].removeprefix("gw"))
    os.sched_setaffinity(0, {cores[own % len(cores)]})


def pytest_runtest_setup() -> None:
    """Before each test, once torch is there: see `one_table_of_operators`."""
    if "torch" in sys.modules:
        one_table_of_operators()


@functools.cache
def one_table_of_operators() -> None:
    """Let torch build the table of ONNX operators once; else each export does, and waits for it."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    build = functools.cache(ONNXRegistry.from_torchlib)

    def copy_of(**options: int) -> ONNXRegistry:
        copy, built = ONNXRegistry(), build(**options)
        copy._opset_version = built.opset_version
        copy.functions = {name: list(known) for name, known in built.functions.items()}
        return copy

    ONNXRegistry.from_torchlib = staticmethod(copy_of)


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


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    """Return a hub on this machine that the environment names, with a cache of one's own."""
    library = pytest.importorskip("huggingface_hub")
    from tests.hub_server import serving

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "cache"))
    library.close_session()  # It reads the proxies when it is opened.
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub
    library.close_session()
