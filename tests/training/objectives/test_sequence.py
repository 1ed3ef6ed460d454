from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from modelwright.training.objectives import sequence
from modelwright.training.objectives.sequence import SequenceCrossEntropy, token_losses
from tests.training.objectives.making import batch

TARGETS = torch.tensor([[5, 2, 7, 0, 0], [1, 1, 3, 6, 8], [0, 0, 0, 0, 0]])


def logits(dtype=torch.float64):
    return torch.randn(3, 5, 9, generator=torch.Generator().manual_seed(2), dtype=dtype)


def mean(objective, outputs, targets):
    losses, weights = objective(outputs, batch(targets))
    return (losses * weights).sum() / weights.sum()


def reference(outputs, targets, smoothing):
    return F.cross_entropy(
        outputs.flatten(0, 1).float() if outputs.dtype == torch.bfloat16 else outputs.flatten(0, 1),
        targets.flatten(),
        ignore_index=0,
        label_smoothing=smoothing,
    )


@pytest.fixture(params=[1, 1 << 18], ids=["many-slices", "one-slice"])
def sliced(request, monkeypatch):
    monkeypatch.setattr(sequence, "_SLICE", request.param)


@pytest.mark.usefixtures("sliced")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_batch_loss_and_gradient_are_torchs_mean_over_tokens(smoothing):
    ours, theirs = (logits().requires_grad_() for _ in "ab")
    found = mean(SequenceCrossEntropy(smoothing), ours, TARGETS)
    expected = reference(theirs, TARGETS, smoothing)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.usefixtures("sliced")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_are_right(smoothing):
    outputs = logits().requires_grad_()
    objective = SequenceCrossEntropy(smoothing)
    assert torch.autograd.gradcheck(lambda item: objective(item, batch(TARGETS))[0], (outputs,))


def test_loss_is_a_samples_mean_and_weight_its_number_of_tokens():
    losses, weights = SequenceCrossEntropy()(logits(), batch(TARGETS))
    assert weights.tolist() == [3.0, 5.0, 0.0]
    alone = F.cross_entropy(logits()[0, :3], TARGETS[0, :3])
    torch.testing.assert_close(losses[0], alone)
    assert losses[2] == 0.0


def test_nothing_flows_into_padding():
    outputs = logits().requires_grad_()
    losses, weights = SequenceCrossEntropy(0.1)(outputs, batch(TARGETS))
    (losses * weights).sum().backward()
    assert not outputs.grad[TARGETS == 0].any()
    assert outputs.grad[TARGETS != 0].abs().sum(-1).min() > 0


@given(extra=st.integers(0, 4), smoothing=st.sampled_from([0.0, 0.2]))
def test_more_padding_changes_nothing(extra, smoothing):
    objective = SequenceCrossEntropy(smoothing)
    wide = F.pad(logits(), (0, 0, 0, extra), value=3.0)
    torch.testing.assert_close(
        objective(wide, batch(F.pad(TARGETS, (0, extra)))), objective(logits(), batch(TARGETS))
    )


def test_bf16_logits_are_summed_in_fp32():
    outputs = logits(torch.bfloat16).requires_grad_()
    losses, weights = SequenceCrossEntropy(0.1)(outputs, batch(TARGETS))
    assert losses.dtype == weights.dtype == torch.float32
    expected = reference(outputs.detach(), TARGETS, 0.1)
    torch.testing.assert_close((losses * weights).sum() / weights.sum(), expected)
    losses.sum().backward()
    assert outputs.grad.dtype == torch.bfloat16


def test_large_logits_do_not_overflow():
    outputs = torch.tensor([[0.0, 1e4, -1e4]]).requires_grad_()
    losses = token_losses(outputs, torch.tensor([2]))
    assert losses.item() == pytest.approx(2e4)
    losses.sum().backward()
    assert outputs.grad.tolist() == [[0.0, 1.0, -1.0]]
