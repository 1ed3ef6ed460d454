"""Losses of learning from other networks, against formulas written down again in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelwright.data.batches import Batch
from modelwright.kinds import OutputKind
from modelwright.training.objectives.classification import CrossEntropy, binary_cross_entropy
from modelwright.training.objectives.distillation import (
    ALIKE,
    NON_TARGET,
    SOFTENED,
    Distillation,
    HeadInput,
    decoupled,
    distance,
    each_frame,
    each_label,
    each_token,
    likeness,
    soft_labels,
)
from modelwright.training.objectives.regression import RegressionLoss

EXACT = 1e-9
"""In fp64 only the order of sums differs."""
SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 7))
SOFTNESS = st.floats(0.5, 20.0)


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=draw, dtype=torch.float64)


def softmax(values: np.ndarray, temperature: float) -> np.ndarray:
    powers = np.exp(values / temperature - (values / temperature).max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def batch_of(targets: torch.Tensor) -> Batch:
    return Batch((), targets, np.arange(len(targets)))


@settings(max_examples=30, deadline=None)
@given(SHAPES, SOFTNESS, st.integers(1, 3))
def test_soft_labels_are_the_divergence_from_the_mean_probabilities(shape, temperature, teachers):
    own, others = logits(*shape), [logits(*shape, seed=1 + at) for at in range(teachers)]
    found = soft_labels(own, others, batch_of(torch.zeros(shape[0])), temperature)
    q = softmax(own.numpy(), temperature)
    p = np.mean([softmax(item.numpy(), temperature) for item in others], axis=0)
    expected = temperature**2 * (p * np.log(p / q)).sum(1)
    assert found.numpy() == pytest.approx(expected, abs=EXACT, rel=1e-7)


def test_their_gradient_is_that_of_the_published_cross_entropy():
    own, other, temperature = logits(4, 5).requires_grad_(), logits(4, 5, seed=1), 3.0
    soft_labels(own, [other], batch_of(torch.zeros(4)), temperature).sum().backward()
    q, p = (softmax(item.detach().numpy(), temperature) for item in (own, other))
    # Hinton et al. 2015, equation 2, times T².
    assert own.grad.numpy() == pytest.approx(temperature * (q - p), abs=EXACT)


@settings(max_examples=30, deadline=None)
@given(SHAPES, SOFTNESS)
def test_decoupled_parts_weigh_the_target_and_the_others_apart(shape, temperature):
    own, other = logits(*shape), logits(*shape, seed=1)
    targets = torch.arange(shape[0]) % shape[1]
    found = decoupled(own, [other], batch_of(targets), temperature).numpy()
    q, p = (softmax(item.numpy(), temperature) for item in (own, other))
    for row, target in enumerate(targets.tolist()):
        others = np.arange(shape[1]) != target
        of_target = p[row, target] * np.log(p[row, target] / q[row, target])
        rest_p, rest_q = p[row, others].sum(), q[row, others].sum()
        of_target += rest_p * np.log(rest_p / rest_q)
        share_p, share_q = p[row, others] / rest_p, q[row, others] / rest_q
        of_others = (share_p * np.log(share_p / share_q)).sum()
        expected = temperature**2 * (of_target + NON_TARGET * of_others)
        assert found[row] == pytest.approx(expected, abs=1e-8, rel=1e-6)
        # Zhao et al. 2022, equation 6: the plain divergence ties both together.
        whole = temperature**2 * (of_target + rest_p * of_others)
        plain = soft_labels(own, [other], batch_of(targets), temperature).numpy()
        assert plain[row] == pytest.approx(whole, abs=1e-8, rel=1e-6)


def test_a_sample_without_a_label_takes_the_likeliest_class_as_target():
    own, other = logits(3, 4), logits(3, 4, seed=1)
    open_ = decoupled(own, [other], batch_of(torch.full((3,), -1)), 2.0)
    named = decoupled(own, [other], batch_of(other.argmax(1)), 2.0)
    assert torch.equal(open_, named)
    mixed = torch.tensor([[0.7, 0.3, 0, 0], [0, 0.1, 0.9, 0], [0, 0, 0.2, 0.8]])
    assert torch.equal(
        decoupled(own, [other], batch_of(mixed), 2.0),
        decoupled(own, [other], batch_of(torch.tensor([0, 2, 3])), 2.0),
    )


def test_decoupled_gradients_are_numbers_where_a_teacher_is_certain():
    own = logits(2, 3).float().requires_grad_()
    sure = torch.tensor([[500.0, 0.0, 0.0], [0.0, -500.0, 500.0]])
    decoupled(own, [sure], batch_of(torch.tensor([0, 2])), 1.0).sum().backward()
    assert torch.isfinite(own.grad).all()


def test_each_label_is_a_divergence_of_two_outcomes():
    own, others = logits(3, 4), [logits(3, 4, seed=1), logits(3, 4, seed=2)]
    found = each_label(own, others, batch_of(torch.zeros(3, 4)), 2.0).numpy()
    q = 1 / (1 + np.exp(-own.numpy() / 2))
    p = np.mean([1 / (1 + np.exp(-item.numpy() / 2)) for item in others], axis=0)
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert found == pytest.approx(4 * each.mean(1), abs=EXACT)


def test_padding_of_tokens_and_of_frames_does_not_count():
    own, other = logits(2, 4, 5), logits(2, 4, 5, seed=1)
    tokens = torch.tensor([[3, 2, 0, 0], [0, 0, 0, 0]])
    found = each_token(own, [other], Batch((), (tokens,)), 2.0)
    each = soft_labels(own, [other], batch_of(tokens), 2.0)
    assert found[0].item() == pytest.approx(each[0, :2].mean().item(), abs=EXACT)
    assert found[1].item() == 0.0
    steps = torch.tensor([3, 1])
    frames = each_frame((own, steps), [(other, steps)], batch_of(tokens), 2.0)
    expected = [each[0, :3].mean().item(), each[1, 0].item()]
    assert frames.tolist() == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("kind", [kind for kind, loss in SOFTENED.items() if loss is not None])
def test_where_both_agree_there_is_no_loss(kind):
    values, steps = logits(2, 4, 5), torch.tensor([4, 2])
    own = values if kind.is_generative else values[:, 0]
    if kind == OutputKind.CTC:
        own = (values, steps)
    targets = torch.ones(2, 4, dtype=torch.int64) if kind.is_generative else torch.zeros(2)
    assert SOFTENED[kind](own, [own], batch_of(targets), 3.0).abs().max() < EXACT


def test_numbers_are_compared_by_the_loss_of_the_targets():
    own, answers = torch.tensor([[1.0], [2.0]]), [torch.tensor([[3.0], [2.0]])] * 2
    targets = RegressionLoss(scale=torch.tensor([2.0]))
    objective = Distillation(targets, lambda _: answers, None, 1.0, 0.75, labelled=2)
    losses, weights = objective(own, batch_of(torch.tensor([[1.0], [4.0]])))
    hard, soft = [0.0, 1.0], [1.0, 0.0]  # Squares of differences of half the numbers.
    scale = targets(own, batch_of(answers[0]))[0][0].item() / soft[0]
    expected = [scale * (0.25 * one + 0.75 * two) for one, two in zip(hard, soft, strict=True)]
    assert losses.tolist() == pytest.approx(expected)
    assert weights.tolist() == [1.0, 1.0]


def test_of_samples_without_a_target_the_answers_are_all_the_loss():
    own, other = logits(3, 4), logits(3, 4, seed=1)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    objective = Distillation(
        CrossEntropy(class_weights=weights), lambda _: [other], soft_labels, 2.0, 0.4, labelled=2
    )
    targets = torch.tensor([1, 3, -1])
    losses, counts = objective(own, batch_of(targets))
    taught = soft_labels(own, [other], batch_of(targets), 2.0)
    hard = torch.nn.functional.cross_entropy(own[:2], targets[:2], reduction="none")
    assert torch.allclose(losses[:2], 0.6 * hard + 0.4 * taught[:2])
    assert torch.equal(losses[2], taught[2])
    assert counts.tolist() == [2.0, 4.0, 1.0]
    sets = Distillation(binary_cross_entropy, lambda _: [other], each_label, 2.0, 0.4, labelled=0)
    losses, _ = sets(own, batch_of(torch.zeros(3, 4, dtype=torch.bool)))
    assert torch.equal(losses, each_label(own, [other], batch_of(targets), 2.0))


def test_likeness_is_the_published_distance_of_similarity_matrices():
    own, other = logits(5, 3), logits(5, 7, seed=1)

    def alike(values: np.ndarray) -> np.ndarray:
        products = values @ values.T
        return products / np.linalg.norm(products, axis=1, keepdims=True)

    difference = alike(other.numpy()) - alike(own.numpy())
    found = likeness(own, [other])
    # Tung and Mori 2019, equation 4: the squared Frobenius norm over the squared batch size.
    assert found.mean().item() == pytest.approx((difference**2).sum() / 25, abs=EXACT)
    assert likeness(own, [own * 2]).abs().max() < EXACT
    objective = Distillation(
        CrossEntropy(), lambda _: [own], soft_labels, 1.0, 1.0, 5, alike=lambda: found
    )
    losses, _ = objective(own, batch_of(torch.zeros(5, dtype=torch.int64)))
    assert torch.allclose(losses, ALIKE * found)


def test_the_features_of_a_copy_are_seen_too():
    import copy

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(2, 3), nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.first(x))

    network, inputs = Net(), torch.ones(4, 2)
    seen = HeadInput(network)
    copy.deepcopy(network)(inputs)
    assert torch.equal(seen(), network.first(inputs))


def test_the_distance_to_a_teacher_is_none_to_itself() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 5, 3, generator=draw)
    for kind in (OutputKind.SINGLE_LABEL, OutputKind.REGRESSION):
        assert distance(one, one, kind).abs().max() < 1e-6
        assert bool((distance(one, other, kind) > 1e-3).all())
    steps = torch.ones(5, dtype=torch.long)
    pair = distance((one, steps), (other, steps), OutputKind.CTC)
    torch.testing.assert_close(pair, distance(one, other, OutputKind.CTC))
    # Adding the same to all logits of a sample changes no probability.
    assert distance(one + 5, one, OutputKind.SINGLE_LABEL).abs().max() < 1e-5
