from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.metrics import reliability
from modelwright.report.charts import confusion_chart, learning_curves, reliability_chart, ticks

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


def drawn(chart):
    """Return the elements of a chart, which must be well-formed."""
    start, end = chart.index("<svg"), chart.index("</svg>") + 6
    return ET.fromstring(chart[start:end])


@given(a=NUMBERS, b=NUMBERS)
def test_ticks_are_few_even_and_cover_the_range(a, b):
    low, high = min(a, b), max(a, b)
    found = ticks(low, high)
    assert 2 <= len(found) <= 13
    if high - low > 1e-6 * max(abs(low), abs(high), 1e-3):
        assert found[0] <= low + 1e-6 * (high - low)
        assert found[-1] >= high - 1e-6 * (high - low)
    steps = np.diff(found)
    assert steps == pytest.approx(steps[0], rel=1e-3, abs=1e-9)


def test_curves_show_every_epoch_and_the_one_that_is_shipped():
    history = [
        {
            "epoch": n + 1.0,
            "train_loss": 2.0 / (n + 1),
            "val_log_loss": 1.5,
            "val_accuracy": 0.1 * n,
        }
        for n in range(6)
    ]
    loss, score = learning_curves(history, select_by="accuracy", chosen=4)
    assert "validation accuracy" in score
    lines = [item for item in drawn(loss).iter() if item.tag == "polyline"]
    assert [len(line.attrib["points"].split()) for line in lines] == [6, 6]
    assert any(item.attrib.get("class") == "mark" for item in drawn(score).iter())


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"epoch": 1.0, "train_loss": 1.0}],
        [{"epoch": 1.0, "train_loss": math.nan, "val_accuracy": 0.5, "val_log_loss": 0.5}],
    ],
)
def test_little_history_makes_no_broken_chart(history):
    for chart in learning_curves(history, select_by="accuracy", chosen=None):
        assert "nan" not in chart
        drawn(chart)


@pytest.mark.parametrize("size", [1, 2, 10, 40])
def test_confusion_has_a_square_for_every_pair_and_escapes_labels(size):
    cells = np.arange(size * size, dtype=np.int64).reshape(size, size)
    labels = ["<script>alert(1)</script>", "a" * 200, *map(str, range(size))][:size]
    chart = confusion_chart(cells, labels)
    squares = [item for item in drawn(chart).iter() if item.tag == "rect"]
    assert len(squares) == size * size
    assert "<script>" not in chart


def test_reliability_draws_the_bins_that_hold_answers():
    confidence = np.array([0.15, 0.95, 0.97, 0.99])
    table = reliability(confidence, np.array([False, True, True, False]))
    bars = [item for item in drawn(reliability_chart(table)).iter() if item.tag == "rect"]
    assert len(bars) == len(np.flatnonzero(table.samples))
