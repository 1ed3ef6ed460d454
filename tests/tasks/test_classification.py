"""Classes that exclude each other, and the decision for one of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.kinds import OutputKind
from modelwright.metrics import softmax
from modelwright.tasks import TASKS
from modelwright.tasks.classification import with_threshold

TASK = TASKS["image-classification", OutputKind.SINGLE_LABEL]
LABELS = ("cat", "dog", "emu")


@given(
    st.sampled_from(LABELS),
    st.floats(0.05, 0.95),
    st.integers(0, 2**32 - 1),
)
def test_a_label_is_predicted_from_its_threshold_on(label, least, seed):
    outputs = np.random.default_rng(seed).normal(size=(30, 3))
    targets = np.arange(30) % 3
    task, place = with_threshold(TASK, label, least), LABELS.index(label)
    chances = softmax(outputs)
    # Below its threshold the likeliest of the other labels is predicted.
    others = np.where(np.arange(3) == place, -1.0, chances).argmax(axis=1)
    expected = np.where(chances[:, place] >= least, place, others)
    answers = task.decode(outputs, LABELS, 3)
    assert [answer[0]["label"] for answer in answers] == [LABELS[at] for at in expected]
    for answer, row in zip(answers, chances, strict=True):
        given = {item["label"]: item["probability"] for item in answer}
        assert given == pytest.approx(dict(zip(LABELS, row, strict=True)))
    stats = task.sample_stats(outputs, targets, LABELS)
    assert stats["predicted"].tolist() == expected.tolist()
    assert task.compute(stats)["accuracy"] == pytest.approx((expected == targets).mean())
