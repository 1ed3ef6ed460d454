"""The CTC loss, against the sum over all paths, one by one."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from modelwright.training.objectives.ctc import ctc_loss, steps_needed
from tests.training.objectives.making import batch


def by_paths(logits, labels):
    """Return minus the logarithm of the probability of all paths that read as the labels."""
    shares = torch.softmax(logits, -1).tolist()
    total = 0.0
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        if [item for item, _ in itertools.groupby(path) if item] == labels:
            total += math.prod(shares[step][item] for step, item in enumerate(path))
    return -math.log(total)


def test_losses_are_per_label_over_all_paths():
    torch.manual_seed(0)
    logits = torch.randn(4, 5, 3, dtype=torch.float64)
    steps = torch.tensor([5, 4, 5, 3])
    rows = [[1, 2], [1, 1], [2], []]
    labels = torch.zeros(4, 8, dtype=torch.int64)
    for row, found in zip(labels, rows, strict=True):
        row[: len(found)] = torch.tensor(found)
    length = torch.tensor([len(row) for row in rows])
    losses, weights = ctc_loss((logits, steps), batch((labels, length)))
    assert weights.tolist() == [2, 2, 1, 1]
    for at, row in enumerate(rows):
        expected = by_paths(logits[at, : steps[at]], row) / max(len(row), 1)
        assert losses[at].item() == pytest.approx(expected, rel=1e-9)


def test_gradients_are_right_and_nothing_comes_from_padding():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    steps, targets = torch.tensor([4, 2]), (torch.tensor([[1, 2], [1, 0]]), torch.tensor([2, 1]))

    def loss(values):
        return ctc_loss((values, steps), batch(targets))[0]

    assert torch.autograd.gradcheck(loss, (logits,))
    loss(logits).sum().backward()
    assert not logits.grad[1, 2:].any()


def test_what_does_not_fit_has_no_weight_and_no_gradient():
    logits = torch.randn(3, 2, 3, requires_grad=True)
    labels, length = torch.tensor([[1, 2], [1, 1], [1, 2]]), torch.tensor([2, 2, 2])
    assert steps_needed(labels, length).tolist() == [2, 3, 2]
    losses, weights = ctc_loss((logits, torch.tensor([2, 2, 1])), batch((labels, length)))
    assert weights.tolist() == [2, 0, 0]
    assert losses.isfinite().all()
    (losses * weights).sum().backward()
    assert logits.grad[0].any()
    assert not logits.grad[1:].any()


def test_padding_of_labels_needs_no_steps():
    labels = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0], [2, 1, 0, 0]])
    assert steps_needed(labels, torch.tensor([1, 3, 2])).tolist() == [1, 5, 2]


def test_low_precision_is_taken_in_fp32():
    logits = torch.randn(1, 6, 3).to(torch.bfloat16)
    targets = (torch.tensor([[1, 2]]), torch.tensor([2]))
    found, _ = ctc_loss((logits, torch.tensor([6])), batch(targets))
    expected, _ = ctc_loss((logits.float(), torch.tensor([6])), batch(targets))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_an_empty_batch_goes_through():
    logits = torch.zeros(0, 4, 3, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.int64)
    losses, weights = ctc_loss(
        (logits, nothing), batch((torch.zeros(0, 2, dtype=torch.int64), nothing))
    )
    assert losses.shape == weights.shape == (0,)
    losses.sum().backward()
