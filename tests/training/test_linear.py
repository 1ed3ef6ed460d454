"""Linear models of given features against scikit-learn's, and how their penalty is searched for.

Those of texts, images and recordings are in `tests/whole`.
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch import nn

from modelwright.data import Dataset, Split
from modelwright.errors import TrainingError
from modelwright.files import read_lines
from modelwright.kinds import OutputKind
from modelwright.models.candidate import Candidate
from modelwright.recipe.model import LinearModel
from modelwright.recipe.train import BinaryCrossEntropyLoss, CrossEntropyLoss, TrainSpec
from modelwright.tasks import TASKS
from modelwright.training import fit_linear, time_fit
from modelwright.training.linear import _Fitting, _forecast, _grid, _Search
from tests.training import small

GRID = (1.0, 2.0, 3.0, 4.0, 5.0)


class Known(_Search):
    """A search whose scores are known: the nearer to `best`, the better."""

    def __init__(self, best, fits=99):
        self.best, self.fits, self.tried = best, fits, {}

    def _try(self, c, most):
        self.tried[c] = {}
        return len(self.tried) < self.fits

    def _rank(self, c):
        return (-abs(c - self.best), 0.0, -c)


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (3.0, [3.0, 4.0, 2.0]),
        (4.0, [3.0, 4.0, 5.0]),
        (5.0, [3.0, 4.0, 5.0]),
        (2.0, [3.0, 4.0, 2.0, 1.0]),
    ],
)
def test_the_search_goes_on_while_it_gets_better(best, tried):
    search = Known(best)
    search._climb(GRID, 2)
    assert list(search.tried) == tried


def test_the_search_ends_when_its_time_is_over():
    search = Known(5.0, fits=2)
    search._climb(GRID, 2)
    assert list(search.tried) == [3.0, 4.0]


@pytest.mark.parametrize("best", [1.0, 3.0, 30.0])
def test_the_best_of_those_that_were_tried_is_chosen(best):
    search = Known(best)
    search.spec, search.validation = SimpleNamespace(C="auto"), SimpleNamespace()
    search.fitting = SimpleNamespace(is_sparse=True)
    search.task = SimpleNamespace(select_by="accuracy")
    assert search.choose()["C"] == best
    assert len(search.tried) > 2


# -- fits of given features --------------------------------------------------------------------

SAME = 1e-3
"""A logit in single precision, of iterations that end before the tolerance."""


class Given(nn.Module):
    """A network whose features are its inputs."""

    def __init__(self, num_features, num_outputs):
        super().__init__()
        self.head = nn.Linear(num_features, num_outputs)

    def features(self, values):
        return values

    def forward(self, values):
        return self.head(values)


def drawn(targets, *, seed=0):
    """Return features `[N, 5]` that tell something of targets `[N]` or `[N, K]`, by a split."""
    random = np.random.default_rng(seed)
    values = random.normal(3, (1, 2, 1, 0.5, 1), (len(targets), 5))
    values[:, : targets.reshape(len(targets), -1).shape[1]] += targets.reshape(len(targets), -1)
    rows, cut = np.arange(len(targets)), len(targets) * 2 // 3
    return tuple(
        Split(name, values.astype(np.float32), part, targets[part])
        for name, part in (("train", rows[:cut]), ("validation", rows[cut:]))
    )


def fitted(
    folder,
    splits,
    *,
    network=None,
    kind=OutputKind.SINGLE_LABEL,
    outputs=3,
    train=None,
    **settings,
):
    task, told = (
        TASKS["regression" if kind == OutputKind.REGRESSION else "image-classification", kind],
        [],
    )
    start = Candidate(
        network=network or Given(5, outputs),
        task=task.name,
        input=small.INPUT,
        labels=tuple("abcdef"[:outputs]),
        architecture={"name": "linear"},
        output_kind=kind,
    )
    found, report = fit_linear(
        start,
        LinearModel(name="linear", **settings),
        TrainSpec.model_validate(train or {}),
        Dataset(*splits, labels=start.labels),
        small.run_in(folder, observe=told.append),
        task=task,
    )
    return found, report, told


class Shifted(Given):
    """A network that answers otherwise than its last layer does."""

    def __init__(self, shift):
        super().__init__(5, 3)
        self.shift = shift

    def forward(self, values):
        return super().forward(values) + self.shift


def answers(candidate, split):
    with torch.inference_mode():
        return candidate.network(torch.from_numpy(split.inputs[split.rows])).double().numpy()


def known(split):
    return split.inputs[split.rows].astype(np.float64)


@pytest.mark.parametrize("balanced", [False, True])
def test_classes_are_those_of_scikit_learns_logistic_regression(tmp_path, balanced):
    train, validation = drawn(np.random.default_rng(1).choice(3, 150, p=(0.6, 0.3, 0.1)))
    weights = "balanced" if balanced else None
    loss = {"loss": {"name": "cross-entropy", "class_weights": weights}} if balanced else {}
    found, report, told = fitted(tmp_path, (train, validation), train=loss, C=[0.01, 0.1, 1.0])
    scaler = StandardScaler().fit(known(train))
    scores = {}
    for each in report.tried:
        model = LogisticRegression(C=each["C"], max_iter=1000, class_weight=weights)
        model.fit(scaler.transform(known(train)), train.targets)
        scores[each["C"]] = model.score(scaler.transform(known(validation)), validation.targets)
        if each["C"] == report.C:
            logits = model.decision_function(scaler.transform(known(validation)))
            np.testing.assert_allclose(answers(found, validation), logits, atol=SAME)
    assert [each["accuracy"] for each in report.tried] == pytest.approx(list(scores.values()))
    assert scores[report.C] == max(scores.values())
    assert (report.num_features, report.samples) == (5, 100)
    # What ships says which value was chosen, and the run's folder holds each that was tried.
    assert found.architecture["C"] == report.C
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["C"] for line in lines] == list(scores)
    assert [line["val_accuracy"] for line in lines] == pytest.approx(list(scores.values()))
    features = [(item.done, item.total) for item in told if item.stage == "features"]
    assert features == [(100, 100), (50, 50)]


def test_labels_are_fitted_each_by_itself(tmp_path):
    targets = np.random.default_rng(1).random((90, 3)) < (0.3, 0.5, 0.0)
    train, validation = drawn(targets)
    found, _, _ = fitted(tmp_path, (train, validation), kind=OutputKind.MULTI_LABEL, C=0.5)
    logits = answers(found, validation)
    scaler = StandardScaler().fit(known(train))
    for label in (0, 1):
        model = LogisticRegression(C=0.5).fit(scaler.transform(known(train)), targets[:60, label])
        expected = model.decision_function(scaler.transform(known(validation)))
        np.testing.assert_allclose(logits[:, label], expected, atol=SAME)
    # By Jeffreys' prior a label that no sample has is still possible.
    np.testing.assert_allclose(logits[:, 2], np.log(0.5 / 60.5), atol=SAME)


@pytest.mark.parametrize("strength", [0.01, 2.0])
def test_numbers_are_those_of_scikit_learns_ridge(tmp_path, strength):
    targets = np.random.default_rng(1).normal(50, 7, (90, 2))
    train, validation = drawn(targets)
    found, _, _ = fitted(
        tmp_path, (train, validation), kind=OutputKind.REGRESSION, outputs=2, C=strength
    )
    scaler = StandardScaler().fit(known(train))
    # Of standardised targets, so that `C` doesn't depend on their unit; ridge is linear in them.
    model = Ridge(alpha=1 / strength).fit(scaler.transform(known(train)), train.targets)
    expected = model.predict(scaler.transform(known(validation)))
    np.testing.assert_allclose(answers(found, validation), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("bound", "value", "what"), [("MOST_VALUES", 150, "features"), ("MOST_SCORES", 90, "scores")]
)
def test_as_many_samples_as_memory_allows_are_drawn_and_said(
    tmp_path, monkeypatch, bound, value, what
):
    monkeypatch.setattr(f"modelwright.training.linear.{bound}", value)
    splits = drawn(np.arange(90) % 3)
    found, report, told = fitted(tmp_path / "a", splits, C=1.0)
    assert report.samples == 30  # Of 60, with 5 features and 3 scores each.
    (note,) = (item.note for item in told if "drawn at random" in item.note)
    assert note.startswith("The linear model is fitted to 30 of 60 training samples")
    assert f"the {what} of all" in note or f"the {what} of all classes of all" in note
    again, _, _ = fitted(tmp_path / "b", splits, C=1.0)
    assert torch.equal(found.network.head.weight, again.network.head.weight)
    monkeypatch.setattr(f"modelwright.training.linear.{bound}", 2 * value)
    assert fitted(tmp_path / "c", splits, C=1.0)[1].samples == 60


def test_a_network_that_answers_otherwise_is_refused(tmp_path):
    splits = drawn(np.arange(90) % 3)
    fitted(tmp_path / "near", splits, network=Shifted(1e-4), C=1.0)
    with pytest.raises(TrainingError, match=r"answers otherwise .*: by 0\.01"):
        fitted(tmp_path / "far", splits, network=Shifted(0.01), C=1.0)


# -- what fitting will take --------------------------------------------------------------------


@given(st.floats(0, 10), st.floats(0, 1), st.integers(5, 1000), st.integers(1000, 10**7))
def test_what_a_sample_takes_is_carried_over_and_what_the_weights_take_is_not(
    weights_s, sample_s, count, size
):
    def takes(samples):
        return weights_s + sample_s * samples

    fewer = count // 4
    found = _forecast(size, (count, takes(count)), (fewer, takes(fewer)))
    assert found == pytest.approx(takes(size), rel=1e-6, abs=1e-6)
    assert _forecast(size, (count, 3.0), None) == pytest.approx(3.0 * size / count)
    # A clock that isn't exact gives no negative time.
    assert _forecast(size, (count, 3.0), (fewer, 3.5)) == 3.0


def test_classes_that_a_part_lacks_count_in_its_time():
    targets = np.array([0, 0, 3, 3])
    exclusive = CrossEntropyLoss(name="cross-entropy")
    part = _Fitting(np.zeros((4, 2)), targets, 5, exclusive, 0)
    assert part.lacking_classes == pytest.approx(5 / 2)
    # Two classes are one problem, and labels that don't exclude each other one each.
    assert _Fitting(np.zeros((4, 2)), targets * 0, 2, exclusive, 0).lacking_classes == 1.0
    several = BinaryCrossEntropyLoss(name="binary-cross-entropy")
    assert _Fitting(np.zeros((4, 2)), np.eye(4, 5), 5, several, 0).lacking_classes == 1.0


@pytest.mark.parametrize("kind", [OutputKind.SINGLE_LABEL, OutputKind.MULTI_LABEL])
def test_the_memory_of_all_features_is_known_before(tmp_path, kind):
    targets = np.arange(600) % 3
    if kind == OutputKind.MULTI_LABEL:
        targets = targets[:, None] == np.arange(3)
    train, validation = drawn(targets)
    task = TASKS["image-classification", kind]
    start = Candidate(Given(5, 3), task.name, small.INPUT, ("a", "b", "c"), {"name": "linear"})
    timing = time_fit(
        start,
        LinearModel(name="linear"),
        TrainSpec(),
        Dataset(train, validation, labels=start.labels),
        small.run_in(tmp_path),
        task=task,
        samples=100,
    )
    assert timing.feature_bytes == 400 * 5 * 8  # In double precision.
    assert timing.seconds > 0
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize("is_sparse", [False, True])
def test_auto_begins_within_a_row_of_values_that_grow(is_sparse):
    grid, start = _grid("auto", is_sparse=is_sparse)
    assert grid[0] > 0
    assert all(2 < after / before < 11 for before, after in itertools.pairwise(grid))
    assert 0 < start < len(grid) - 1
    assert _grid(3.0, is_sparse=is_sparse) == ((3.0,), 0)
    assert _grid((1.0, 2.0, 4.0), is_sparse=is_sparse) == ((1.0, 2.0, 4.0), 1)
