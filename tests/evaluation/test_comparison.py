"""A model beside the one that it was made of."""

from __future__ import annotations

from itertools import count, pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from modelwright.data.dataset import Split
from modelwright.evaluation.comparison import compare, compare_latency, compare_sizes
from modelwright.evaluation.latency import Place
from modelwright.evaluation.measurement import Measurement
from modelwright.kinds import OutputKind
from modelwright.tasks import TASKS

TASK = TASKS["image-classification", OutputKind.SINGLE_LABEL]
TARGETS = np.repeat([0, 1], 50)


def measured(predicted: np.ndarray, model: str) -> Measurement:
    stats = {
        "targets": TARGETS,
        "predicted": predicted,
        "ranks": (predicted != TARGETS).astype(np.int64),
        "confidence": np.full(100, 0.9),
        "losses": np.full(100, 0.1),
    }
    return Measurement((), model, stats, ("cat", "dog"))


def test_gain_flips_and_the_class_that_lost_most() -> None:
    parent, own = TARGETS.copy(), TARGETS.copy()
    parent[:4] = 1  # Four cats that it had wrong, of which two are right now, …
    own[:2] = 1
    own[50:56] = 0  # … and six dogs the other way round.
    samples = Split("test", np.zeros((100, 1)), np.arange(100), TARGETS)
    found = compare(
        measured(own, "m"),
        measured(parent, "p"),
        samples,
        TASK,
        fingerprint="f",
        place=Place("here"),
    )
    records = {item.metric: item for item in found.evidence}
    assert records["gain_over_parent"].value == pytest.approx(-0.04)
    assert records["gain_over_parent"].low < -0.04 < records["gain_over_parent"].high
    assert records["flipped"].value == pytest.approx(0.08)
    assert found.flipped.tolist() == [2, 3, 50, 51, 52, 53, 54, 55]
    assert records["worst_label_drop"].value == pytest.approx(6 / 50)
    assert "`dog`" in records["worst_label_drop"].method
    assert {item.model for item in found.evidence} == {"m"}


def test_equal_answers_change_nothing() -> None:
    samples = Split("test", np.zeros((100, 1)), np.arange(100), TARGETS)
    same = measured(TARGETS, "m"), measured(TARGETS, "p")
    found = compare(*same, samples, TASK, fingerprint="", place=Place("here"))
    records = {item.metric: item for item in found.evidence}
    assert records["flipped"].value == 0
    assert records["flipped"].high > 0  # So few samples don't prove that none ever flips.
    assert records["gain_over_parent"].value == 0
    assert len(found.flipped) == 0


def test_times_are_compared_in_blocks_by_turns() -> None:
    order: list[str] = []
    now = count()

    def answering(name: str, ticks: int) -> SimpleNamespace:
        def predict(_: object) -> None:
            order.append(name)
            for _ in range(ticks):
                next(now)

        return SimpleNamespace(predict=predict, digest=name)

    own, parent = answering("own", 2), answering("parent", 7)
    records = compare_latency(
        own,  # type: ignore[arg-type]
        parent,  # type: ignore[arg-type]
        np.zeros((3, 2, 2, 1), np.uint8),
        place=Place("here"),
        seconds=0.0,
        clock=lambda: next(now) * 1000,
    )
    assert [item.metric for item in records] == ["speedup_batch_1", "speedup_batch_64"]
    assert all(item.value == pytest.approx(8 / 3) for item in records)
    # Two loadings of one file differ by more than blocks of one loading do.
    ends = pytest.approx((8 / 3 / 1.03, 8 / 3 * 1.03))
    assert all((item.low, item.high) == ends for item in records)
    changes = sum(one != other for one, other in pairwise(order))
    assert changes > 20


def test_a_ratio_of_sizes() -> None:
    own, parent = (SimpleNamespace(size_bytes=size, digest="d") for size in (250, 1000))
    assert compare_sizes(own, parent).value == 4.0  # type: ignore[arg-type]
