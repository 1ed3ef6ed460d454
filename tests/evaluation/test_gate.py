"""The gate: met and proven, met, missed, not measured, and for whom a time holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from modelwright.evaluation import Verdict, headline, judge
from modelwright.ledger import Evidence, Ledger, exact

HERE = "this processor, 2 cores"


def record(metric: str = "accuracy", value: float = 0.95, **other: Any) -> Evidence:
    fields = {
        "low": value - 0.01,
        "high": value + 0.01,
        "n": 1000,
        "method": "counted",
        "split": "test",
    }
    return Evidence(metric=metric, value=value, **(fields | other))


def latency(value: float = 4.0, **other: Any) -> Evidence:
    fields = {"low": value - 1, "high": value + 1, "split": "", "hardware": HERE}
    return record("latency_p95_ms", value, **(fields | other))


def verdict(target: str, *records: Evidence, metric: str = "accuracy") -> Verdict:
    (found,) = judge({metric: target}, Ledger(records), hardware=HERE)
    return found


@pytest.mark.parametrize(
    ("target", "passed", "proven"),
    [
        (">= 0.93", True, True),
        (">= 0.94", True, True),  # the bound is met where it equals the low end
        (">= 0.945", True, False),
        (">= 0.95", True, False),  # equality meets
        ("> 0.95", False, False),
        ("> 0.94", True, False),  # and is not enough where more is asked
        (">= 0.951", False, False),
        ("<= 0.97", True, True),
        ("<= 0.96", True, True),
        ("<= 0.955", True, False),
        ("<= 0.95", True, False),
        ("< 0.95", False, False),
        ("<= 0.5", False, False),
    ],
)
def test_directions_and_equality(target: str, passed: bool, proven: bool) -> None:
    found = verdict(target, record(low=0.94, high=0.96))
    assert (found.passed, found.proven) == (passed, proven)
    assert bool(found.why) == (not proven)


def test_why_says_how_far() -> None:
    assert verdict(">= 0.99", record()).why == "measured 0.95, 0.04 from the bound"
    assert verdict(">= 0.945", record()).why == "the 95 % interval reaches to 0.94"


def test_a_share_of_whole_samples_equals_its_bound_exactly() -> None:
    for hits in range(1, 1000):
        assert verdict(f">= {hits / 1000}", record(value=hits / 1000)).passed


def test_a_size_is_proven_by_counting() -> None:
    size = exact("size_bytes", 2_999_999, method="counted")
    assert verdict("<= 3_000_000", size, metric="size_bytes").proven
    assert not verdict("<= 2e6", size, metric="size_bytes").passed


def test_what_was_not_measured_is_missed() -> None:
    found = verdict(">= 0.9", record("f1_macro"), metric="f1_macr")
    assert not found.passed
    assert found.value is None
    assert found.why == "not measured. Did you mean `f1_macro`?"
    assert verdict(">= 0.9").why == "nothing was measured"
    assert "evaluate.latency" in verdict("<= 5", record(), metric="latency_p95_ms").why
    nan = float("nan")
    broken = verdict(">= 0.9", record(value=nan, low=nan, high=nan))
    assert (broken.passed, broken.value) == (False, None)


def test_training_samples_slices_and_baselines_never_count() -> None:
    others = (
        record(split="train"),
        record(slice="label=cat"),
        record(subject="baseline:hog"),
    )
    found = verdict(">= 0.9", *others)
    assert not found.passed
    assert "training samples" in found.why


def test_test_evidence_comes_before_validation_evidence() -> None:
    test, validation = record(value=0.8), record(value=0.99, split="validation")
    for order in ((test, validation), (validation, test)):
        assert verdict(">= 0.9", *order).value == 0.8
    alone = verdict(">= 0.9", validation)
    assert (alone.passed, alone.proven) == (True, False)
    assert "validation" in alone.why


def test_the_newest_evidence_counts() -> None:
    assert verdict(">= 0.9", record(value=0.5), record(value=0.95)).passed


def test_few_samples_prove_nothing() -> None:
    found = verdict(">= 0.5", record(n=3, low=0.9, high=1.0))
    assert (found.passed, found.proven) == (True, False)
    assert found.why == "3 samples are too few to say"


def test_a_time_holds_for_its_hardware() -> None:
    there = latency(2.0, hardware="another processor")
    assert verdict("<= 5", latency(), metric="latency_p95_ms").proven
    pretrained_io = verdict("<= 5", there, metric="latency_p95_ms")
    assert (pretrained_io.passed, pretrained_io.proven) == (True, False)
    assert pretrained_io.why == "unproven here: measured on another processor"
    # What was measured here comes first, wherever it stands.
    for order in ((latency(), there), (there, latency())):
        assert verdict("<= 5", *order, metric="latency_p95_ms").value == 4.0
    # An accuracy doesn't depend on the processor.
    assert verdict(">= 0.9", record(hardware="another processor")).proven


def test_too_few_answers_do_not_bound_a_quantile() -> None:
    few = verdict("<= 5", latency(n=50), metric="latency_p95_ms")
    assert (few.passed, few.proven) == (True, False)
    assert few.why == "50 answers are too few to bound it"


def test_verdicts_keep_the_order_and_survive_json() -> None:
    targets = {"f1_macro": ">= 0.1", "accuracy": ">= 0.9", "size_bytes": "<= 1"}
    found = judge(targets, Ledger([record(), record("f1_macro")]), hardware=HERE)
    assert [item.metric for item in found] == list(targets)
    text = json.dumps([item.to_json() for item in found], allow_nan=False)
    again = tuple(Verdict.from_json({**item, "later": 1}) for item in json.loads(text))
    assert again == found
    assert found[1].to_json()["target"] == ">= 0.9"
    assert found[1].bound == 0.9


def test_headline_holds_each_figure_once() -> None:
    ledger = Ledger(
        [
            record(value=0.5, split="validation"),
            record(value=0.95),
            record(slice="label=cat", value=0.1),
            record(subject="baseline:hog", value=0.2),
            record("train_only", split="train"),
            exact("size_bytes", 30.0, method="counted"),
        ]
    )
    assert headline(ledger) == {
        "accuracy": {"value": 0.95, "low": 0.94, "high": 0.96, "n": 1000},
        "size_bytes": {"value": 30.0, "low": 30.0, "high": 30.0, "n": 1},
    }


def test_headline_reads_a_ledger_once_whatever_its_metrics() -> None:
    """A stranger's file may hold evidence of a hundred thousand metrics."""

    class Counted(Ledger):
        walks = 0

        def __iter__(self) -> Iterator[Evidence]:
            self.walks += 1
            return super().__iter__()

    ledger = Counted(record(f"m{at}") for at in range(9))
    assert len(headline(ledger)) == 9
    assert ledger.walks == 1
