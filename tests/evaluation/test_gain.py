"""How much better a model is than the best simple method, and what the gate makes of it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from modelwright.evaluation import DIFFERENCE, GAIN, IS_SIMPLE, Measurement, judge
from modelwright.evaluation.baselines import measure_baselines
from modelwright.evaluation.gain import PairedStats, gain_over_simple
from modelwright.evaluation.labels import accuracy_difference
from modelwright.evaluation.measurement import sampled
from modelwright.kinds import OutputKind
from modelwright.ledger import Evidence, Ledger
from modelwright.tasks import TASKS
from tests.evaluation.small import striped
from tests.evaluation.test_baselines import problem

NUMBERS = TASKS["regression", OutputKind.REGRESSION]
SETS = TASKS["text-classification", OutputKind.MULTI_LABEL]
record = partial(sampled, split="test", data="data")


def labelled(hits: np.ndarray) -> dict[str, np.ndarray]:
    targets = np.ones(len(hits), np.int64)
    return {
        "ranks": (~hits).astype(np.int64),
        "predicted": hits.astype(np.int64),
        "targets": targets,
    }


def numbered(predicted: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    return NUMBERS.sample_stats(predicted, targets, ("x",))


def verdict(found: Evidence, target: str):
    (judged,) = judge({GAIN: target}, Ledger([found]), hardware="")
    return judged


def test_the_best_of_several_counts_and_the_interval_is_paired() -> None:
    random = np.random.default_rng(0)
    model, poor, good = (random.random(400) < chance for chance in (0.9, 0.6, 0.8))
    compared = [PairedStats(name, labelled(model), labelled(each)) for name, each in
                (("poor", poor), ("good", good))]  # fmt: skip
    found = gain_over_simple(
        compared, OutputKind.SINGLE_LABEL, NUMBERS.compute, record, model="sha256:m"
    )
    expected = accuracy_difference(model, good, record, model="sha256:m")
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)
    assert "method, good, on" in found.method
    assert (found.metric, found.subject, found.n) == (GAIN, "model", 400)
    judged = verdict(found, ">= 0")
    assert judged.passed
    assert judged.proven


def test_a_model_that_is_the_best_simple_method_is_met_and_never_proven() -> None:
    hits = np.arange(100) % 4 > 0
    compared = [PairedStats("words", labelled(hits), labelled(np.roll(hits, 1)))]
    found = gain_over_simple(
        compared, OutputKind.SINGLE_LABEL, NUMBERS.compute, record, model="m", is_method="words"
    )
    assert (found.low, found.value, found.high, found.basis) == (0.0, 0.0, 0.0, "derived")
    judged = verdict(found, ">= 0")
    assert (judged.passed, judged.proven, judged.why) == (True, False, IS_SIMPLE)
    assert not verdict(found, ">= 0.01").passed
    assert not verdict(found, "> 0").passed
    other = [
        *compared,
        PairedStats("centroid", labelled(hits), labelled(hits | (np.arange(100) < 9))),
    ]
    found = gain_over_simple(
        other, OutputKind.SINGLE_LABEL, NUMBERS.compute, record, model="m", is_method="words"
    )
    assert found.value == pytest.approx(-0.03)
    assert not verdict(found, ">= 0").passed


def test_less_error_is_a_gain_and_what_both_find_hard_counts_once() -> None:
    random = np.random.default_rng(0)
    targets = random.normal(size=(300, 1))
    shared = random.normal(size=(300, 1)) * 5  # What both get wrong alike.
    model, simple = targets + shared, targets + shared * 1.05
    compared = [PairedStats("mean", numbered(model, targets), numbered(simple, targets))]
    found = gain_over_simple(compared, OutputKind.REGRESSION, NUMBERS.compute, record, model="m")
    rmse = [np.sqrt(np.mean((each - targets) ** 2)) for each in (model, simple)]
    assert found.value == pytest.approx(rmse[1] - rmse[0])
    assert 0 < found.low < found.value < found.high
    assert found.high - found.low < 0.1  # The interval of each alone is 0.8 wide.
    assert found.method.startswith("rmse, how much the model's is below that of the best")


def test_sets_of_labels_are_compared_by_macro_f1() -> None:
    targets = np.random.default_rng(0).random((200, 3)) < 0.4
    outputs = np.where(targets, 4.0, -4.0)
    worse = np.where(np.random.default_rng(1).random(targets.shape) < 0.2, -outputs, outputs)
    stats = [SETS.sample_stats(each, targets, ("a", "b", "c")) for each in (outputs, worse)]
    found = gain_over_simple(
        [PairedStats("words", *stats)], OutputKind.MULTI_LABEL, SETS.compute, record, model="m"
    )
    assert found.value == pytest.approx(1 - SETS.compute(stats[1])["f1_macro"])
    assert found.low > 0


def test_simple_methods_are_measured_without_a_model_on_a_part_of_the_samples() -> None:
    asked = problem(striped(300, seed=0), striped(200, seed=1, name="test"))
    found = measure_baselines(asked, None, fingerprint="data", limit=50)
    assert {item.metric for item in found} == {"accuracy", "f1_macro"}
    assert {item.n for item in found} == {50}
    again = measure_baselines(asked, None, fingerprint="data", limit=50)
    assert [item.value for item in again] == [item.value for item in found]
    whole = measure_baselines(asked, None, fingerprint="data")
    assert {item.n for item in whole} == {200}


def test_a_run_has_the_gain_beside_the_differences() -> None:
    train, test = striped(200, seed=1), striped(100, seed=2, name="test")
    right = Measurement((), "sha256:m", {"ranks": np.zeros(100, np.int64)}, ("a", "b"))
    found = Ledger(measure_baselines(problem(train, test), right, fingerprint="data"))
    differences = [item.value for item in found if item.metric == DIFFERENCE]
    assert found.find(GAIN).value == min(differences)
    assert found.find(GAIN).model == "sha256:m"
