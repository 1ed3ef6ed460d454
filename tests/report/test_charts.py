from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.metrics import reliability
from modelwright.report.charts import (
    Line,
    confusion_chart,
    learning_curves,
    line_chart,
    reliability_chart,
    ticks,
    whole_ticks,
)
from tests.report.sample_data import ATTACKS, history

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
    assert "Right answers (accuracy): higher is better" in score
    assert "100 %" in score or "50 %" in score
    lines = [item for item in drawn(loss).iter() if item.tag == "polyline"]
    assert [len(line.attrib["points"].split()) for line in lines] == [6, 6]
    assert any(item.attrib.get("class") == "mark" for item in drawn(score).iter())


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"epoch": 1.0, "train_loss": 1.0}],
        [{"epoch": 1.0, "train_loss": math.nan, "val_accuracy": 0.5, "val_log_loss": 0.5}],
    ],
)
def test_little_history_makes_no_broken_chart(records):
    for chart in learning_curves(records, select_by="accuracy", chosen=None):
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


@given(first=st.integers(1, 3), more=st.integers(0, 5000))
def test_epochs_are_marked_by_whole_numbers_with_both_ends(first, more):
    found = whole_ticks(float(first), float(first + more))
    assert found[0] == first
    assert found[-1] == first + more
    assert found == sorted(set(found))
    assert all(tick == round(tick) for tick in found)
    assert len(found) <= 9


@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.floats(allow_nan=True, allow_infinity=True)), max_size=12
    )
)
def test_a_chart_holds_every_finite_point_inside_its_frame_and_no_other(points):
    placed = [(float(x), y) for x, y in points]
    chart = line_chart([Line("one", placed, "--a")], title="")
    finite = [point for point in placed if abs(point[1]) < 1e30]
    if not finite:
        assert chart == ""
        return
    assert not re.search(r"\b(nan|inf)\b", chart)
    line = next(item for item in drawn(chart) if item.tag == "polyline")
    shown = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert len(shown) == len(finite)
    assert all(0 <= x <= 440 and 0 <= y <= 260 for x, y in shown)


def test_higher_values_stand_higher_and_later_epochs_to_the_right():
    chart = line_chart([Line("one", [(1, 0.1), (2, 0.5), (3, 0.9)], "--a")], title="t")
    line = next(item for item in drawn(chart) if item.tag == "polyline")
    xs, ys = zip(
        *(map(float, pair.split(",")) for pair in line.attrib["points"].split()), strict=True
    )
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)


def test_the_shipped_epoch_is_marked_where_it_is():
    loss, _ = learning_curves(history(5), select_by="accuracy", chosen=2)
    marks = [item for item in drawn(loss).iter() if item.attrib.get("class") == "mark"]
    points = next(item for item in drawn(loss) if item.tag == "polyline").attrib["points"].split()
    assert [mark.attrib["x1"] for mark in marks] == [points[2].split(",")[0]]
    loss, _ = learning_curves(history(5), select_by="accuracy", chosen=None)
    assert not [item for item in drawn(loss).iter() if item.attrib.get("class") == "mark"]


def test_a_figure_that_is_better_when_lower_says_so():
    charts = learning_curves(
        [{"epoch": 1.0, "val_rmse": 2.0}],
        select_by="rmse",
        chosen=None,
    )
    assert len(charts) == 1
    assert "Typical error (RMSE): lower is better" in charts[0]


@pytest.mark.parametrize("label", ATTACKS)
def test_a_label_stays_text_in_a_chart(label):
    chart = confusion_chart(np.eye(2, dtype=np.int64), [label, "b"])
    tags = {item.tag for item in drawn(chart).iter()}
    assert tags <= {"svg", "title", "rect", "text"}
    assert not [key for item in drawn(chart).iter() for key in item.attrib if key[:2] == "on"]


def test_confusion_names_each_cell_with_its_count():
    cells = np.array([[5, 1], [0, 1234]], dtype=np.int64)
    said = [item[0].text for item in drawn(confusion_chart(cells, ["a", "b"])) if len(item)]
    assert said == [
        "a predicted as a: 5",
        "a predicted as b: 1",
        "b predicted as a: 0",
        "b predicted as b: 1,234",
    ]


def test_bars_are_as_high_as_answers_were_right():
    table = reliability(np.array([0.95] * 4), np.array([True, True, True, False]))
    bar = next(item for item in drawn(reliability_chart(table)) if item.tag == "rect")
    scale = [item for item in drawn(reliability_chart(table)) if item.attrib.get("class") == "grid"]
    heights = [float(item.attrib["y1"]) for item in scale]
    assert float(bar.attrib["y"]) == pytest.approx(heights[3], abs=0.1)
    assert bar[0].text.replace("\xa0", " ") == "4 predictions, 75.0 % right"
