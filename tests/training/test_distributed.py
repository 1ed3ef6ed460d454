from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training import small

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
"""Largest relative difference of a weight after 50 steps: sums are taken in another order."""


def trained(folder, dtype, processes):
    folder.mkdir()
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    command = [*launch, "-m", "tests.training.ranks", str(folder), dtype]
    subprocess.run(command, cwd=Path(small.__file__).parents[2], check=True, capture_output=True)
    return torch.load(folder / "final.pt", weights_only=True)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_processes_come_to_the_weights_of_one(tmp_path, dtype):
    one, two = trained(tmp_path / "one", dtype, 1), trained(tmp_path / "two", dtype, 2)
    for name, weights in one.items():
        scale = weights.abs().max().item()
        assert (two[name] - weights).abs().max().item() <= TOLERANCE[dtype] * scale, name
