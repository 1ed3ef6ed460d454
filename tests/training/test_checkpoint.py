from __future__ import annotations

import pytest
import torch

from modelwright.errors import ResourceError, TrainingError
from modelwright.training.checkpoint import (
    Checkpoint,
    cut_history,
    load_checkpoint,
    named,
    restore,
    save_checkpoint,
)


def example(step=3):
    weights = {"a": torch.arange(4.0).reshape(2, 2), "b": torch.tensor(7)}
    return Checkpoint(step, named("network", weights), {"seconds": 1.5, "history": [{"x": 1}]})


def test_what_is_saved_is_read(tmp_path):
    save_checkpoint(tmp_path, example())
    found = load_checkpoint(tmp_path)
    assert (found.step, found.facts) == (3, {"seconds": 1.5, "history": [{"x": 1}]})
    assert torch.equal(found.part("network")["a"], torch.arange(4.0).reshape(2, 2))
    assert found.part("network")["b"].item() == 7


def test_the_newest_two_are_kept_and_the_newest_is_read(tmp_path):
    for step in (1, 2, 11):
        save_checkpoint(tmp_path, example(step))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step-000000002",
        "step-000000011",
    ]
    assert load_checkpoint(tmp_path).step == 11


def test_tensors_that_share_memory_are_saved(tmp_path):
    tensor = torch.ones(3)
    save_checkpoint(tmp_path, Checkpoint(1, {"network/a": tensor, "best/a": tensor}, {}))
    assert torch.equal(load_checkpoint(tmp_path).part("best")["a"], tensor)


def test_a_damaged_newest_one_falls_back_to_the_one_before(tmp_path):
    save_checkpoint(tmp_path, example(1))
    save_checkpoint(tmp_path, example(2))
    (tmp_path / "step-000000002" / "state.safetensors").write_bytes(b"cut short")
    assert load_checkpoint(tmp_path).step == 1


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "digests.json"])
def test_a_bit_that_turned_is_noticed_wherever_it_is(tmp_path, name):
    """Training would go on from another state, to another model, and say nothing."""
    save_checkpoint(tmp_path, example(1))
    save_checkpoint(tmp_path, example(2))
    file = tmp_path / "step-000000002" / name
    whole = file.read_bytes()
    for at in range(0, len(whole), 3):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert load_checkpoint(tmp_path).step == 1
    file.write_bytes(whole)
    assert load_checkpoint(tmp_path).step == 2


def test_damaged_lines_of_a_history_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        b'{"step":1}',
        b'{"stfp":2}',
        b'{"step" 3}',
        b"[4]",
        b"\xff",
        b'{"step":"5"}',
        b'{"step":6}',
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    cut_history(path, after=5)
    assert path.read_bytes() == b'{"step":1}\n'


def test_only_damaged_ones_are_an_error_that_says_what_to_do(tmp_path):
    save_checkpoint(tmp_path, example(1))
    (tmp_path / "step-000000001" / "state.json").unlink()
    with pytest.raises(TrainingError, match="train from the start"):
        load_checkpoint(tmp_path)


def test_nothing_there_is_no_checkpoint(tmp_path):
    assert load_checkpoint(tmp_path / "none") is None


def test_a_full_disk_leaves_the_last_one_whole(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, example(1))

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modelwright.training.checkpoint.write_bytes", full)
    with pytest.raises(ResourceError, match="disk is full"):
        save_checkpoint(tmp_path, example(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]
    assert load_checkpoint(tmp_path).step == 1


def test_another_network_is_refused():
    with pytest.raises(TrainingError, match="another network"):
        restore({"a": torch.zeros(2)}, {"a": torch.zeros(3)})
