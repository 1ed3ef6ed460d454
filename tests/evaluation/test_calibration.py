"""The temperature of logits, against known ones."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modelwright.evaluation import calibration
from modelwright.kinds import OutputKind
from tests.evaluation.small import Remembered, numbered

N = 20_000


def drawn(labels=3, seed=0):
    """Return logits that are right, and targets drawn by their probabilities."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (N, labels))
    noise = random.gumbel(size=logits.shape)
    return logits, (logits + noise).argmax(axis=1)


def fitted(logits, targets):
    (found,) = calibration._minimum(
        lambda value: calibration._class_loss(logits, targets, value), size=1
    )
    return found


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_a_known_temperature_is_found(true):
    logits, targets = drawn()
    assert fitted(logits * true, targets) == pytest.approx(true, rel=0.04)


@pytest.mark.parametrize("size", [5, 40, 1000])
def test_right_answers_do_not_make_it_surer_than_they_prove(size):
    logits, _ = drawn()
    logits = logits[:size]
    found = fitted(logits + 3 * np.eye(3)[logits.argmax(axis=1)], logits.argmax(axis=1))
    scaled = (logits + 3 * np.eye(3)[logits.argmax(axis=1)]) / found
    chances = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    assert chances.max(axis=1).mean() < 1 - 0.5 / (size + 2)


def test_each_of_several_labels_has_its_own():
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (N, 2))
    is_there = random.random((N, 2)) < 1 / (1 + np.exp(-logits))
    true = np.array([0.5, 3.0])
    found = calibration._minimum(
        lambda value: calibration._label_losses(logits * true, is_there, value), size=2
    )
    assert found == pytest.approx(true, rel=0.06)


def test_a_label_that_all_have_is_not_made_certain():
    logits, is_there = np.full((30, 1), 2.0), np.ones((30, 1), dtype=bool)
    (found,) = calibration._minimum(
        lambda value: calibration._label_losses(logits, is_there, value), size=1
    )
    assert 1 / (1 + np.exp(-2.0 / found)) <= 31 / 32 + 1e-6


def test_samples_of_unknown_labels_do_not_count():
    logits, targets = drawn()

    def temperature(chosen):
        model = Remembered(2 * logits, ("a", "b", "c"))
        model.spec = SimpleNamespace(output_kind=OutputKind.SINGLE_LABEL)
        return calibration.fit_temperature(model, numbered(chosen))[0]

    found = temperature(targets[:600])
    assert found == pytest.approx((2.0,), rel=0.2)
    assert temperature(np.concatenate([targets[:600], [3, 3]])) == found


@pytest.mark.parametrize(
    ("temperature", "method"),
    [((1.25,), "fitted"), ((0.5, 2.0), "the mean of those of 2 labels, each fitted")],
)
def test_the_evidence_holds_the_mean_and_says_of_what(temperature, method):
    record = calibration.temperature_evidence(
        temperature, method="fitted", model="sha256:model", fingerprint="data"
    )
    assert (record.value, record.method) == (1.25, method)
    assert (record.split, record.data, record.model) == ("validation", "data", "sha256:model")


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_losses_are_torchs_of_smoothed_targets(temperature):
    """Where a class or a label is there n times, it is taken to be there n + 1 of n + 2 times."""
    random = np.random.default_rng(0)
    logits, targets = random.normal(0, 3, (40, 4)), random.integers(0, 4, 40)
    wrong = 1 / 42
    shares = np.where(targets[:, None] == np.arange(4), 1 - wrong, wrong / 3)
    expected = F.cross_entropy(
        torch.from_numpy(logits / temperature), torch.from_numpy(shares), reduction="sum"
    )
    found = calibration._class_loss(logits, targets, np.array([temperature]))
    assert found.tolist() == pytest.approx([expected.item()])

    there = random.random((40, 4)) < (0.1, 0.5, 0.9, 0.0)
    count = there.sum(axis=0)
    shares = np.where(there, (count + 1) / (count + 2), 1 / (40 - count + 2))
    each = F.binary_cross_entropy_with_logits(
        torch.from_numpy(logits / temperature), torch.from_numpy(shares), reduction="none"
    )
    found = calibration._label_losses(logits, there, np.full(4, temperature))
    assert found.tolist() == pytest.approx(each.sum(dim=0).tolist())


def test_temperatures_of_labels_are_fitted_to_the_labels_that_outputs_stand_for(monkeypatch):
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (4000, 2))
    there = random.random((4000, 2)) < 1 / (1 + np.exp(-logits))
    model = Remembered(logits * [0.5, 3.0], ("a", "b"))
    model.spec = SimpleNamespace(output_kind=OutputKind.MULTI_LABEL)
    more = np.concatenate([there, there[:, :1]], axis=1)  # A label that training has none of.
    found, method = calibration.fit_temperature(model, numbered(more))
    assert found == pytest.approx((0.5, 3.0), rel=0.15)
    assert method == "fitted to the log loss of 4,000 validation samples"
    monkeypatch.setattr(calibration, "_MOST_VALUES", 6000)
    some, method = calibration.fit_temperature(model, numbered(more))
    assert some == pytest.approx(found, rel=0.1)
    assert some != found
    assert method == "fitted to the log loss of 3,000 validation samples"
