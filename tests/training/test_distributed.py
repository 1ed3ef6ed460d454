from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from modelwright.training import distributed
from modelwright.training.distributed import DistributedContext, shutdown
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


SIZES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([torch.float32, torch.float64])), max_size=12
)


@given(SIZES)
def test_buckets_hold_each_tensor_once_in_order_and_are_as_few_as_fit(sizes):
    tensors = [torch.zeros(count, dtype=dtype) for count, dtype in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "_BUCKET_BYTES", 40)
        buckets = distributed._buckets(tensors)
    assert [id(each) for bucket in buckets for each in bucket] == [id(each) for each in tensors]
    held = [sum(each.nbytes for each in bucket) for bucket in buckets]
    for bucket, size in zip(buckets, held, strict=True):
        assert len({each.dtype for each in bucket}) == 1
        assert size <= 40 or len(bucket) == 1
    for one, other, size in zip(buckets, buckets[1:], held, strict=False):
        assert one[0].dtype != other[0].dtype or size + other[0].nbytes > 40


@pytest.fixture
def one_of_two(tmp_path):
    """A process that takes itself for one of two, where what is summed is its own part alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'met'}", rank=0, world_size=1)
    yield DistributedContext("cpu", rank=0, world=2)
    shutdown()


def test_what_is_summed_comes_back_to_its_own_tensor(one_of_two, monkeypatch):
    monkeypatch.setattr(distributed, "_BUCKET_BYTES", 40)
    tensors = [torch.arange(6.0).view(2, 3), torch.arange(9.0) - 4, torch.ones(2).double()]
    kept = [each.clone() for each in tensors]
    one_of_two.sum_(tensors)
    for found, expected in zip(tensors, kept, strict=True):
        assert torch.equal(found, expected)


def test_processes_agree_on_a_stop_and_on_what_the_main_one_has(one_of_two):
    assert one_of_two.any(True)
    assert not one_of_two.any(False)
    assert one_of_two.from_main({"a": 1}) == {"a": 1}
    alone = DistributedContext("cpu")
    assert [alone.any(flag) for flag in (True, False)] == [True, False]
    assert alone.from_main(3) == 3
    assert alone.agree_every == 1 < one_of_two.agree_every


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_are_the_whole_batch_and_nearly_equal(world):
    positions = np.arange(10) * 7
    shares = [
        DistributedContext("cpu", rank=rank, world=world).share(positions) for rank in range(world)
    ]
    assert sorted(np.concatenate(shares).tolist()) == positions.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
