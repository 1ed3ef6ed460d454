"""Which layers stay as they are, so that the metric keeps within what is allowed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelwright.compression import sensitivity
from modelwright.compression.sensitivity import choose_kept
from modelwright.data import Dataset
from modelwright.errors import CompressionError
from modelwright.models.candidate import Candidate
from modelwright.recipe.targets import METRICS
from modelwright.tasks import TASKS
from tests.compression.making import Said, run_in, split_of
from tests.compression.networks import small

HARM = {"a": 0.1, "b": 0.4, "c": 0.2, "d": 0.05}


class Off(nn.Module):
    """Answers that are off by what its layers do."""

    def __init__(self, off: float) -> None:
        super().__init__()
        self.off = off

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.full((len(pixels), 3), self.off)


def attempt(kept: Collection[str]) -> Candidate:
    return replace(small("mlp"), network=Off(sum(HARM[name] for name in HARM if name not in kept)))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(candidate: Candidate, *_: object, **__: object) -> dict[str, float]:
        network = candidate.network
        return {"accuracy": 0.9 - network.off if isinstance(network, Off) else 0.9}

    monkeypatch.setattr(sensitivity, "validation_scores", scores)


def chosen(allowed: float, folder: Path, *, has_validation: bool = True) -> tuple[str, ...]:
    candidate = replace(small("mlp"), network=Off(0.0))
    split = split_of(candidate, np.zeros((4, 32, 32, 3), np.uint8))
    data = Dataset(split, replace(split, name="validation") if has_validation else None, ("a",))
    task = TASKS["image-classification", candidate.output_kind]
    kept, _ = choose_kept(
        attempt, candidate, list(HARM), allowed, data, run_in(folder, observe=Said()), task
    )
    return kept


@pytest.mark.parametrize(("allowed", "kept"), [(0.8, ()), (0.36, ("b",)), (0.16, ("b", "c"))])
def test_those_that_hurt_most_stay(
    allowed: float, kept: tuple[str, ...], scored: None, tmp_path: Path
) -> None:
    assert chosen(allowed, tmp_path) == kept


def test_more_than_half_is_refused(scored: None, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"0\.15 on the validation split.* 0\.1 is allowed"):
        chosen(0.1, tmp_path)


def test_the_whole_split_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[int, bool]]()

    def scores(candidate: Candidate, data: Dataset, *_: object, **__: object) -> dict[str, float]:
        network, count = candidate.network, len(data.validation or ())
        assert isinstance(network, Off)
        seen.append((count, network.off == 0.0))
        # The part shows less than the whole does.
        return {"accuracy": 0.9 - network.off * (0.5 if count < 4 else 1.0)}

    monkeypatch.setattr(sensitivity, "validation_scores", scores)
    monkeypatch.setattr(sensitivity, "_COMPARED", 1)
    # On the part `b` is enough (0.175), on the whole it isn't (0.35).
    assert chosen(0.18, tmp_path) == ("b", "c")
    assert [count for count, is_before in seen if is_before] == [1, 4]
    assert seen[-1] == (4, False)


def test_without_validation_none_stays(scored: None, tmp_path: Path) -> None:
    assert chosen(0.0, tmp_path, has_validation=False) == ()


def test_a_drop_of_a_metric_without_bounds_is_a_share_of_it() -> None:
    assert METRICS["perplexity"].worsening(4.0, 4.4) == pytest.approx(0.1)
    assert METRICS["bleu"].worsening(30.0, 29.5) == pytest.approx(0.005)
    assert METRICS["wer"].worsening(0.1, 0.12) == pytest.approx(0.02)
