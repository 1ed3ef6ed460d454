from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelwright.data.batches import Batch
from modelwright.training.distributed import DistributedContext
from modelwright.training.objectives.classification import CrossEntropy
from modelwright.training.precision import Precision
from modelwright.training.rules import StepContext, WeightedMean, clip

OBJECTIVE = CrossEntropy(class_weights=torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64))


def setting(size=12):
    torch.manual_seed(1)
    return nn.Linear(4, 3).double(), torch.randn(size, 4).double(), torch.arange(size) % 3


def step_of(net, *, step=0, batch_size=12, num_parts=1):
    return StepContext(
        step=step,
        batch_size=batch_size,
        num_parts=num_parts,
        parameters=list(net.parameters()),
        precision=Precision("fp32", "cpu"),
        distributed=DistributedContext("cpu"),
    )


def gradient(cuts, *, rule=None, size=12):
    net, inputs, targets = setting(size)
    parts = [
        Batch((inputs[a:b],), targets[a:b])
        for a, b in zip([0, *cuts], [*cuts, size], strict=True)
        if a < b
    ]
    totals = (rule or WeightedMean()).gradients(
        net, OBJECTIVE, parts, step_of(net, num_parts=len(cuts) + 1)
    )
    return torch.cat([item.grad.flatten() for item in net.parameters()]), totals


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 12), max_size=4).map(sorted))
def test_accumulated_is_the_whole_batch_however_it_is_cut(cuts):
    whole, totals = gradient([])
    parts, part_totals = gradient(cuts)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(part_totals, totals, rtol=1e-12, atol=1e-14)


def test_it_is_the_gradient_of_the_weighted_mean():
    net, inputs, targets = setting()
    nn.CrossEntropyLoss(weight=OBJECTIVE.class_weights)(net(inputs), targets).backward()
    expected = torch.cat([item.grad.flatten() for item in net.parameters()])
    torch.testing.assert_close(gradient([])[0], expected, rtol=1e-12, atol=1e-14)


def test_a_single_weight_is_learnt_from_parts():
    _, inputs, targets = setting()
    net = nn.Linear(4, 3, bias=False).double()
    whole = WeightedMean().gradients(net, OBJECTIVE, [Batch((inputs,), targets)], step_of(net))
    expected = net.weight.grad.clone()
    parts = [Batch((inputs[a : a + 5],), targets[a : a + 5]) for a in (0, 5, 10)]
    totals = WeightedMean().gradients(net, OBJECTIVE, parts, step_of(net, num_parts=3))
    torch.testing.assert_close(totals, whole)
    torch.testing.assert_close(net.weight.grad, expected)


def test_an_empty_batch_gives_a_gradient_of_zero():
    net, _, _ = setting()
    totals = WeightedMean().gradients(net, OBJECTIVE, [], step_of(net, num_parts=2))
    assert totals.tolist() == [0.0, 0.0]
    assert all(item.grad is not None and not item.grad.any() for item in net.parameters())


@pytest.mark.parametrize("most", [0.1, 4.0, 4.000001, 100.0])
@pytest.mark.parametrize("first", [2.0, float("nan"), float("inf")])
def test_clipping_gives_the_bits_that_torch_gives(most, first):
    shapes = [(3, 4), (5,), (2, 2, 2)]
    ours = [torch.linspace(-1, 1, math.prod(shape)).view(shape).sin() for shape in shapes]
    ours[1][0] = first
    theirs = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter, item in zip(theirs, ours, strict=True):
        parameter.grad = item.clone()
    clip(ours, most)
    nn.utils.clip_grad_norm_(theirs, most)
    for parameter, item in zip(theirs, ours, strict=True):
        assert torch.equal(parameter.grad.nan_to_num(9.0), item.nan_to_num(9.0))


def test_clipping_bounds_the_whole_gradient():
    clipped, _ = gradient([5], rule=WeightedMean(clip_norm=0.01))
    whole, _ = gradient([])
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-4)
    assert torch.dot(clipped, whole).item() / (
        clipped.norm() * whole.norm()
    ).item() == pytest.approx(1.0)


def test_gradcheck_of_the_rule():
    net, inputs, targets = setting(5)
    rule = WeightedMean()

    def loss(weight, bias):
        losses, weights = OBJECTIVE(nn.functional.linear(inputs, weight, bias), Batch((), targets))
        return (losses * weights).sum() / weights.sum()

    assert torch.autograd.gradcheck(loss, (net.weight, net.bias))
    rule.gradients(net, OBJECTIVE, [Batch((inputs,), targets)], step_of(net))
    expected = torch.autograd.grad(loss(net.weight, net.bias), [net.weight, net.bias])
    torch.testing.assert_close([net.weight.grad, net.bias.grad], list(expected))
