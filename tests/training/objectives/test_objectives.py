from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelwright.errors import RecipeError
from modelwright.kinds import OutputKind
from modelwright.recipe.train import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    HuberLoss,
    MseLoss,
)
from modelwright.training.objectives import build_objective, resolve_loss
from modelwright.training.objectives.classification import CrossEntropy, binary_cross_entropy
from modelwright.training.objectives.regression import RegressionLoss
from tests.training.objectives.making import batch

LABELS = torch.tensor([0, 2, 1, 2, 2])


def logits(dtype=torch.float64):
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)


def weighted_mean(objective, outputs, targets):
    losses, weights = objective(outputs, batch(targets))
    return (losses * weights).sum() / weights.sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_torchs(smoothing):
    ours = weighted_mean(CrossEntropy(label_smoothing=smoothing), logits(), LABELS)
    torch.testing.assert_close(
        ours, nn.CrossEntropyLoss(label_smoothing=smoothing)(logits(), LABELS)
    )


def test_class_weights_are_torchs():
    weights = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    ours = weighted_mean(CrossEntropy(class_weights=weights), logits(), LABELS)
    torch.testing.assert_close(ours, nn.CrossEntropyLoss(weight=weights)(logits(), LABELS))


def test_soft_targets_that_are_hard_give_the_same_loss_and_weight():
    weights = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    objective = CrossEntropy(label_smoothing=0.1, class_weights=weights)
    hard = objective(logits(), batch(LABELS))
    soft = objective(logits(), batch(nn.functional.one_hot(LABELS, 3).double()))
    torch.testing.assert_close(hard, soft)


def test_each_share_of_a_mixed_sample_has_its_own_weight():
    weights = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    shares = torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]).double()
    outputs = logits()[:3]
    losses, sample_weights = CrossEntropy(class_weights=weights)(outputs, batch(shares))
    expected = -(shares * weights * outputs.log_softmax(1)).sum(1)
    torch.testing.assert_close(losses * sample_weights, expected)
    torch.testing.assert_close(sample_weights, shares @ weights)


def test_balanced_weights_give_each_class_the_same_say():
    targets = np.array([0, 0, 0, 1, 2, 2])
    spec = CrossEntropyLoss(name="cross-entropy", class_weights="balanced")
    objective = build_objective(
        spec, targets, output_kind=OutputKind.SINGLE_LABEL, num_outputs=3, device="cpu"
    )
    _, weights = objective(torch.zeros(6, 3), batch(torch.as_tensor(targets)))
    sums = [float(weights[torch.as_tensor(targets) == k].sum()) for k in range(3)]
    assert sums == pytest.approx([2.0, 2.0, 2.0])


def test_the_loss_of_label_sets_is_torchs():
    targets = torch.rand(5, 3, generator=torch.Generator().manual_seed(2)) < 0.5
    ours = weighted_mean(binary_cross_entropy, logits(), targets)
    torch.testing.assert_close(ours, nn.BCEWithLogitsLoss()(logits(), targets.double()))


def test_the_loss_of_label_sets_stays_finite_and_takes_no_sample_too():
    far = torch.tensor([[1e38, -1e38], [-1e38, 1e38]], requires_grad=True)
    targets = torch.tensor([[True, False], [True, False]])
    losses, weights = binary_cross_entropy(far, batch(targets))
    assert losses[0].item() == 0
    assert torch.isfinite(losses[1])
    losses.sum().backward()
    assert torch.isfinite(far.grad).all()
    assert weights.tolist() == [1.0, 1.0]
    losses, _ = binary_cross_entropy(torch.empty(0, 2), batch(torch.empty(0, 2, dtype=torch.bool)))
    assert losses.shape == (0,)


def test_the_loss_of_label_sets_is_taken_in_fp32_at_least():
    outputs = torch.randn(4, 3, dtype=torch.bfloat16)
    assert binary_cross_entropy(outputs, batch(torch.ones(4, 3, dtype=torch.bool)))[0].dtype == (
        torch.float32
    )


def test_several_labels_get_their_own_loss_and_no_other():
    targets = np.zeros((6, 3), dtype=np.bool_)
    spec = resolve_loss("auto", OutputKind.MULTI_LABEL)
    assert spec == BinaryCrossEntropyLoss(name="binary-cross-entropy")
    built = build_objective(
        spec, targets, output_kind=OutputKind.MULTI_LABEL, num_outputs=3, device="cpu"
    )
    assert built == binary_cross_entropy
    for other in (CrossEntropyLoss(name="cross-entropy"), MseLoss(name="mse")):
        with pytest.raises(RecipeError, match="isn't for predicting several labels"):
            resolve_loss(other, OutputKind.MULTI_LABEL)
    with pytest.raises(RecipeError, match="isn't for predicting one label"):
        resolve_loss(spec, OutputKind.SINGLE_LABEL)
    assert resolve_loss("auto", OutputKind.SINGLE_LABEL) == CrossEntropyLoss(name="cross-entropy")


def test_number_losses_are_torchs():
    outputs, targets = logits(), torch.rand(5, 3, dtype=torch.float64)
    torch.testing.assert_close(
        weighted_mean(RegressionLoss(), outputs, targets), nn.MSELoss()(outputs, targets)
    )
    torch.testing.assert_close(
        weighted_mean(RegressionLoss(delta=0.7), outputs, targets),
        nn.HuberLoss(delta=0.7)(outputs, targets),
    )


@pytest.mark.parametrize("spec", [MseLoss(name="mse"), HuberLoss(name="huber", delta=0.7)])
def test_numbers_count_alike_whatever_their_unit(spec):
    random = np.random.default_rng(0)
    targets = random.normal(5, (1, 3, 1), (40, 3))
    targets[:, 2] = 7.0  # It never varies.
    outputs = targets + random.normal(size=(40, 3))

    def loss(units):
        objective = build_objective(
            spec,
            targets * units,
            output_kind=OutputKind.REGRESSION,
            num_outputs=3,
            device="cpu",
        )
        losses, weights = objective(
            torch.from_numpy(outputs * units), batch(torch.from_numpy(targets * units))
        )
        return (losses * weights).sum() / weights.sum()

    expected = RegressionLoss(getattr(spec, "delta", None))
    scale = np.append(targets[:, :2].std(axis=0), 1.0)
    standardised = weighted_mean(
        expected, torch.from_numpy(outputs / scale), torch.from_numpy(targets / scale)
    )
    torch.testing.assert_close(loss(np.ones(3)), standardised, rtol=1e-5, atol=0.0)
    torch.testing.assert_close(loss(np.array([1000, 0.01, 1])), standardised, rtol=1e-5, atol=0.0)


def test_one_number_a_sample_may_come_without_its_axis():
    losses, _ = RegressionLoss()(torch.tensor([[1.0], [3.0]]), batch(torch.tensor([0.0, 1.0])))
    assert losses.tolist() == [1.0, 4.0]


@pytest.mark.parametrize(
    ("objective", "targets"),
    [
        (CrossEntropy(label_smoothing=0.1), LABELS),
        (CrossEntropy(class_weights=torch.tensor([0.5, 2.0, 1.0]).double()), LABELS),
        (binary_cross_entropy, torch.rand(5, 3) < 0.5),
        (RegressionLoss(), torch.rand(5, 3, dtype=torch.float64)),
        (RegressionLoss(delta=0.7), torch.rand(5, 3, dtype=torch.float64)),
    ],
)
def test_gradients_are_right(objective, targets):
    outputs = logits().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda item: weighted_mean(objective, item, targets), (outputs,)
    )


def test_labels_are_asked_for_by_cross_entropy():
    with pytest.raises(RecipeError, match="needs labels"):
        build_objective(
            CrossEntropyLoss(name="cross-entropy"),
            np.array([0.5]),
            output_kind=OutputKind.SINGLE_LABEL,
            num_outputs=1,
            device="cpu",
        )


@pytest.mark.parametrize(
    ("spec", "objective"),
    [
        (MseLoss(name="mse"), RegressionLoss()),
        (HuberLoss(name="huber", delta=2.0), RegressionLoss(2.0)),
    ],
)
def test_the_specs_have_their_objectives(spec, objective):
    targets = np.array([0.5, 1.0])
    built = build_objective(
        spec, targets, output_kind=OutputKind.REGRESSION, num_outputs=1, device="cpu"
    )
    assert built == objective
