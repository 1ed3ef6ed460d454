"""Answers that are computed once and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from modelwright.data import Split
from modelwright.data.batches import Batch
from modelwright.data.ragged import Ragged
from modelwright.errors import DataError
from modelwright.training import answers
from modelwright.training.answers import ViewAnswers, answers_to, keep_answers
from tests.compression.making import run_in


class Double:
    """Answers with twice the first value, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, split: Split, rows: np.ndarray) -> np.ndarray:
        self.asked += rows.tolist()
        held = split.gather(rows)
        first = held if held.dtype.names is None else held["tokens"][:, :1]
        return 2.0 * first.astype(np.float32)


def numbers(count: int) -> Split:
    values = np.arange(count)[:, None]
    return Split("train", values, np.arange(count), values[:, 0])


def test_each_sample_is_asked_once_and_found_by_its_place(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(answers, "_CHUNK", 8)
    split, run, ask = numbers(20), run_in(tmp_path), Double()
    kept = keep_answers(split, ask, tmp_path / "kept", run)
    assert sorted(ask.asked) == list(range(20))
    places = np.array([19, 0, 8, 7])
    found = kept(Batch((torch.zeros(4),), torch.zeros(4), places))
    assert found[:, 0].tolist() == [38.0, 0.0, 16.0, 14.0]
    # What is there isn't asked again; what a stop left out is.
    (tmp_path / "kept" / "00001.npy").unlink()
    again = Double()
    kept = keep_answers(split, again, tmp_path / "kept", run)
    assert again.asked == list(range(8, 16))
    assert torch.equal(kept(Batch((torch.zeros(4),), torch.zeros(4), places)), found)


def test_a_turned_bit_is_noticed(tmp_path: Path) -> None:
    keep_answers(numbers(5), Double(), tmp_path / "kept", run_in(tmp_path))
    path = tmp_path / "kept" / "00000.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        keep_answers(numbers(5), Double(), tmp_path / "kept", run_in(tmp_path))


def test_samples_of_like_lengths_go_together_and_come_back_in_their_order(monkeypatch) -> None:
    monkeypatch.setattr(answers, "_BATCH", 2)
    lengths = [5, 1, 4, 2, 3]
    rows = [np.full(length, at, np.int64) for at, length in enumerate(lengths)]
    tokens = Ragged.of("tokens", rows, "int64")
    split, ask = Split("train", tokens, np.arange(5), np.zeros(5)), Double()
    found = answers_to(split, np.arange(5), ask)
    assert found[:, 0].tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert [lengths[at] for at in ask.asked] == [1, 2, 3, 4, 5]


def batch(places: list[int], view: int) -> Batch:
    inputs = torch.tensor(places, dtype=torch.float32)[:, None] + 100 * view
    return Batch((inputs,), torch.zeros(len(places)), np.array(places), view)


def test_each_view_of_a_sample_is_asked_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def answer(batch: Batch) -> torch.Tensor:
        asked.append(len(batch.inputs[0]))
        return (2 * batch.inputs[0]).bfloat16()

    kept = ViewAnswers(answer, tmp_path / "kept", samples=6)
    first = [kept(batch([0, 1, 2], 0)), kept(batch([3, 4, 5], 0)), kept(batch([0, 5, 3], 1))]
    again = kept(batch([5, 0], 0))
    assert asked == [3, 3, 3]
    assert again[:, 0].tolist() == [10.0, 0.0]
    assert kept(batch([2, 0], 1))[:, 0].tolist() == [204.0, 200.0]
    assert asked[3:] == [1]  # One of them was new.
    # After a stop the files say the same.
    later = ViewAnswers(answer, tmp_path / "kept", samples=6)
    assert torch.equal(later(batch([0, 5, 3], 1)), first[2])
    assert asked[4:] == []
    assert later(batch([1, 2], 1))[:, 0].tolist() == [202.0, 204.0]


def test_answers_in_a_file_that_was_cut_off_are_computed_anew(tmp_path: Path) -> None:
    ViewAnswers(lambda batch: batch.inputs[0], tmp_path, samples=60)(batch([1], 0))
    (path,) = tmp_path.glob("view-*.npy")
    path.write_bytes(path.read_bytes()[:200])
    kept = ViewAnswers(lambda batch: batch.inputs[0], tmp_path, samples=60)
    assert kept(batch([50, 1], 0))[:, 0].tolist() == [50.0, 1.0]
    assert path.stat().st_size > 240


def test_answers_that_take_too_much_room_are_not_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(answers, "_MOST_BYTES", 20)
    kept = ViewAnswers(lambda batch: batch.inputs[0], tmp_path / "kept", samples=6)
    assert kept(batch([1], 0)).tolist() == kept(batch([1], 0)).tolist() == [[1.0]]
    assert not (tmp_path / "kept").exists()
