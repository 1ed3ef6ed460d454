"""What a search calls best, nearest, and unbeaten."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from modelwright.planning import Figure, Goal, Point, least_after
from modelwright.planning.front import distance


def point(name="p", **figures):
    values = {"accuracy": 0.9, "size_bytes": 100.0, "latency_p50_ms": 1.0} | figures
    return Point(name, {key: Figure(item, item, item) for key, item in values.items()})


SMALL = {"size_bytes": "<= 50"}


def test_the_best_of_those_that_meet_every_target_comes_first():
    goal = Goal({**SMALL, "accuracy": ">= 0.8"}, "accuracy")
    points = [
        point("best but large", accuracy=0.99),
        point("good", accuracy=0.85, size_bytes=50),
        point("smaller", accuracy=0.85, size_bytes=20),
        point("bad", accuracy=0.7, size_bytes=10),
    ]
    assert not goal.is_cheapest
    assert goal.best(points).name == "smaller"  # Of equals.
    assert goal.best(points[:2]).name == "good"
    assert goal.best([points[0], points[3]]).name == "bad"  # 0.1 / 0.8 is less than 50 / 100.


def test_without_a_limit_the_cheapest_is_best():
    goal = Goal({"accuracy": ">= 0.8"}, "accuracy")
    points = [
        point("as it was", accuracy=0.99),
        point("small", accuracy=0.81, size_bytes=50),
        point("fast", accuracy=0.81, latency_p50_ms=0.1),
        point("bad", accuracy=0.7, size_bytes=1),
    ]
    assert goal.is_cheapest
    assert not goal.higher_is_better
    assert goal.best(points).name == "fast"


def test_a_time_is_judged_by_its_worse_bound():
    slow = Point("slow", {"latency_p50_ms": Figure(1.0, 0.9, 1.2)})
    assert Goal({"latency_p50_ms": "<= 1.1"}, "accuracy").missed(slow)
    fast = Point("fast", {"throughput_per_s": Figure(100.0, 90.0, 120.0)})
    assert Goal({"throughput_per_s": ">= 95"}, "accuracy").missed(fast)


@pytest.mark.parametrize(
    ("target", "value", "is_met"),
    [("<= 50", 50, True), ("< 50", 50, False), (">= 50", 49, False), ("> 50", 50, False)],
)
def test_a_distance_is_above_zero_just_where_a_target_is_missed(target, value, is_met):
    found = distance("size_bytes", target, point(size_bytes=value))
    assert (found <= 0) is is_met


def test_zero_milliseconds_are_as_far_as_can_be():
    assert distance("latency_p50_ms", "<= 0", point()) == 1.0


costs = st.integers(1, 6).map(float)
points = st.lists(st.tuples(costs, costs, costs), min_size=1, max_size=12)


@given(points)
def test_the_front_is_what_no_other_point_beats(rows):
    tried = [
        point(str(at), accuracy=row[0], size_bytes=row[1], latency_p50_ms=row[2])
        for at, row in enumerate(rows)
    ]
    found = {int(item.name) for item in Goal(SMALL, "accuracy").front(tried)}
    signed = [(-accuracy, size, time) for accuracy, size, time in rows]
    for at, own in enumerate(signed):
        beaten = any(
            all(x <= y for x, y in zip(other, own, strict=True)) and other != own
            for other in signed
        )
        assert (at in found) is not beaten


@given(points)
def test_what_meets_all_is_never_behind_what_does_not(rows):
    goal = Goal({**SMALL, "size_bytes": "<= 3"}, "accuracy")
    tried = [point(accuracy=row[0], size_bytes=row[1], latency_p50_ms=row[2]) for row in rows]
    best = goal.best(tried)
    if any(not goal.missed(item) for item in tried):
        assert not goal.missed(best)
        met = [item.value("accuracy") for item in tried if not goal.missed(item)]
        assert best.value("accuracy") == max(met)


def test_another_limit_would_help():
    goal = Goal({"accuracy": ">= 0.9", "size_bytes": "<= 50"}, "accuracy")
    start = point("start", accuracy=0.95, size_bytes=1000)
    tried = [
        start,
        point("a", accuracy=0.91, size_bytes=61.234),
        point("b", accuracy=0.87, size_bytes=40),
    ]
    said = goal.what_would_help(tried, start)
    assert said[0] == 'With `accuracy: ">= 0.87"` `b` would meet every target'
    assert said[1] == 'With `size_bytes: "<= 61.3"` `a` would meet every target'
    assert "More time" in said[2]


def test_a_start_that_is_too_bad_itself_is_named():
    goal = Goal({"accuracy": ">= 0.97", "size_bytes": "<= 50"}, "accuracy")
    start = point("start", accuracy=0.95, size_bytes=1000)
    assert any("misses `accuracy` itself" in said for said in goal.what_would_help([start], start))


def test_points_come_back_from_json():
    own = Point("a", point().figures, 1.5, {"network": "cnn", "compress": []})
    assert Point.from_json(own.to_json()) == own


@pytest.mark.parametrize(
    ("metric", "value", "target"),
    [
        ("accuracy", 0.9, ">= 0.895"),
        ("wer", 0.1, "<= 0.105"),
        ("rmse", 2.0, "<= 2.01"),
        ("bleu", 30.0, ">= 29.5"),
        ("perplexity", 20.0, "<= 20.1"),
    ],
)
def test_what_little_may_be_lost_is_a_target(metric, value, target):
    assert least_after(metric, value, 0.005) == target
