"""Trainings of other kinds, through the loop as it is: each changes a part, none the loop.

What they need is defined here and nowhere else: a gradient rule that clips each sample's gradient,
an objective that asks a teacher, a constraint that keeps weights at zero.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from modelwright.data.batches import Batch
from modelwright.errors import StoppedError
from modelwright.training.distributed import DistributedContext
from modelwright.training.objectives.classification import CrossEntropy
from modelwright.training.precision import Precision
from modelwright.training.rules import StepContext
from tests.training import small
from tests.training.small import StopAt

SAME = 1e-12
"""Sums of a few doubles, taken in another order."""


# -- a gradient rule -------------------------------------------------------------------------


@dataclass
class PerSampleClipping:
    """The sum of each sample's gradient, shortened to a length, over the expected batch size.

    As in differentially private training (Abadi et al. 2016), with a length that follows how many
    gradients are longer (Andrew et al. 2021), and so is part of the state.
    """

    length: torch.Tensor = field(default_factory=lambda: torch.tensor(1.0))
    noise: float = 0.0

    def gradients(self, network, objective, parts, context):
        names = {id(item): name for name, item in network.named_parameters()}
        trained = {names[id(item)]: item.detach() for item in context.parameters}

        def loss(weights, inputs, target):
            outputs = functional_call(network, weights, tuple(item[None] for item in inputs))
            losses, weight = objective(outputs, Batch(inputs, target[None]))
            return (losses * weight).sum()

        sums = {name: torch.zeros_like(item) for name, item in trained.items()}
        totals, short, count = torch.zeros(2), 0, 0
        for part in parts:
            found, losses = vmap(grad_and_value(loss), in_dims=(None, 0, 0))(
                trained, part.inputs, part.targets
            )
            norms = sum(item.flatten(1).square().sum(1) for item in found.values()).sqrt()
            factors = (self.length.to(norms.dtype) / norms.clamp_min(1e-12)).clamp(max=1.0)
            for name, item in found.items():
                sums[name] += torch.einsum("n,n...->...", factors, item)
            totals += torch.stack([losses.sum(), torch.tensor(float(len(losses)))]).float()
            short, count = short + int((norms <= self.length).sum()), count + len(norms)
        if count:
            self.length = self.length * torch.tensor(-0.2 * (short / count - 0.5)).exp()
        drawn = torch.Generator().manual_seed(context.step)
        for parameter in context.parameters:
            total = sums[names[id(parameter)]]
            noise = torch.randn(total.shape, generator=drawn, dtype=total.dtype)
            parameter.grad = (total + self.noise * self.length * noise) / context.batch_size
        return totals

    def state(self):
        return {"length": self.length}

    def load_state(self, state):
        self.length = state["length"].clone()


def step_of(network, *, batch_size, num_parts=1):
    return StepContext(
        step=0,
        batch_size=batch_size,
        num_parts=num_parts,
        parameters=list(network.parameters()),
        precision=Precision("fp32", "cpu"),
        distributed=DistributedContext("cpu"),
    )


def naive(network, inputs, targets, *, length, batch_size):
    """Take one sample at a time."""
    sums = [torch.zeros_like(item) for item in network.parameters()]
    for sample, target in zip(inputs, targets, strict=True):
        loss = F.cross_entropy(network(sample[None]), target[None])
        own = torch.autograd.grad(loss, list(network.parameters()))
        norm = torch.cat([item.flatten() for item in own]).norm()
        for total, item in zip(sums, own, strict=True):
            total += item * min(1.0, length / norm.item())
    return [total / batch_size for total in sums]


@settings(max_examples=20, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 9), max_size=3).map(sorted),
    length=st.floats(0.1, 3.0),
    seed=st.integers(0, 9),
)
def test_clipping_each_sample_is_the_naive_loop(cuts, length, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    inputs, targets = torch.randn(9, 5).double(), torch.randint(0, 3, (9,))
    parts = [
        Batch((inputs[a:b],), targets[a:b])
        for a, b in zip([0, *cuts], [*cuts, 9], strict=True)
        if a < b
    ]
    rule = PerSampleClipping(torch.tensor(length, dtype=torch.float64))
    totals = rule.gradients(
        network, CrossEntropy(), parts, step_of(network, batch_size=12, num_parts=len(cuts) + 1)
    )
    expected = naive(network, inputs, targets, length=length, batch_size=12)
    for parameter, wanted in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=SAME, atol=SAME)
    assert totals[1] == 9
    rule.gradients(network, CrossEntropy(), [], step_of(network, batch_size=12))
    assert not any(item.grad.any() for item in network.parameters())


def test_the_state_of_a_rule_survives_a_stop(tmp_path):
    def clipping(network, parts):
        rules.append(PerSampleClipping(noise=0.1))
        return replace(parts, rule=rules[-1])

    rules = []
    start = small.candidate(batch_norm=False, dropout=0.0)
    setting = {"epochs": 4, "start": start, "change": clipping, "gradient_accumulation": 2}
    undisturbed, _ = small.trained(tmp_path / "whole", **setting)
    for step in (7, 20):
        with pytest.raises(StoppedError):
            small.trained(tmp_path / "cut", observe=StopAt(step), **setting)
    resumed, _ = small.trained(tmp_path / "cut", **setting)
    assert small.equal(resumed.network, undisturbed.network)
    assert torch.equal(rules[-1].length, rules[0].length)
    assert abs(rules[0].length.item() - 1.0) > 0.01


# -- an objective ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Distillation:
    """The cross-entropy to what a teacher says of the same inputs; labels don't count."""

    teacher: nn.Module

    def __call__(self, outputs, batch):
        with torch.no_grad():
            soft = self.teacher(*batch.inputs).softmax(-1)
        return CrossEntropy()(outputs, replace(batch, targets=soft))


def test_a_teacher_says_what_is_learnt(tmp_path):
    teacher, _ = small.trained(tmp_path / "teacher", epochs=25)
    data = small.dataset()
    empty = replace(data.train, targets=np.zeros_like(data.train.targets))
    taught, _ = small.trained(
        tmp_path / "student",
        start=small.candidate(dropout=0.0),
        data=replace(data, train=empty),
        change=lambda network, parts: replace(parts, objective=Distillation(teacher.network)),
        epochs=25,
        select="last",
    )
    pixels = torch.from_numpy(data.validation.gather())
    with torch.no_grad():
        said, wanted = (item.network(pixels).argmax(1) for item in (taught, teacher))
    # The labels that it was shown are all of one class, and it took none of that.
    assert (said == wanted).float().mean() > 0.7
    assert len(said.unique()) == 3


def test_its_loss_is_that_of_torch_over_the_inputs_of_the_batch():
    teacher = nn.Linear(5, 3)
    inputs, outputs = torch.randn(4, 5), torch.randn(4, 3)
    batch = Batch((inputs,), torch.zeros(4, dtype=torch.int64))
    losses, weights = Distillation(teacher)(outputs, batch)
    expected = F.cross_entropy(outputs, teacher(inputs).softmax(-1), reduction="none")
    torch.testing.assert_close(losses, expected)
    assert weights.tolist() == [1.0] * 4


# -- a constraint ----------------------------------------------------------------------------

LAYER = "2"
FROM = 0.4
"""The share of training after which a mask that grows does so."""


class Mask:
    """Keeps half of a layer's weights at zero: from the start, or the smallest of them later on."""

    def __init__(self, layer, *, grows):
        self.layer, self.grows = layer, grows
        order = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0))
        self.kept = order > order.quantile(0.1 if grows else 0.5)
        self.project()

    @torch.no_grad()
    def project(self):
        self.layer.weight.mul_(self.kept)

    def after_step(self, step, progress):
        if self.grows and progress >= FROM and self.kept.float().mean() > 0.6:
            sizes = self.layer.weight.detach().abs()
            self.kept = self.kept & (sizes > sizes.quantile(0.5))
        self.project()

    @contextlib.contextmanager
    def applied(self):
        self.project()
        yield

    def state(self):
        return {"kept": self.kept}

    def load_state(self, state):
        self.kept = state["kept"].clone()


def masking(*, grows=False, seen):
    """Return what adds a mask to the parts; `seen` gets it, and the weights at each forward."""

    def change(network, parts):
        layer = network.get_submodule(LAYER)
        mask = Mask(layer, grows=grows)
        seen.append(mask)
        layer.register_forward_pre_hook(
            lambda layer, _: seen.append(bool(layer.weight[~mask.kept].any()))
        )
        return replace(parts, constraints=(mask,))

    return change


AVERAGES = [None, {"name": "ema", "decay": 0.99}, {"name": "look-ahead", "every": 5}]


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("select", ["best", "last"])
def test_masked_weights_stay_zero_through_training_checkpoint_and_resume(tmp_path, average, select):
    seen = []
    setting = {
        "epochs": 5,
        "average": average,
        "select": select,
        "weight_decay": 0.01,
        "change": masking(seen=seen),
    }
    undisturbed, _ = small.trained(tmp_path / "whole", **setting)
    for step in (7, 20):
        with pytest.raises(StoppedError):
            small.trained(tmp_path / "cut", observe=StopAt(step), **setting)
    resumed, _ = small.trained(tmp_path / "cut", **setting)
    mask = seen[0]
    # Whatever the average: at each forward, of training and of validation, half is zero.
    assert not any(item for item in seen if isinstance(item, bool))
    weight = undisturbed.network.get_submodule(LAYER).weight
    assert not weight[~mask.kept].any()
    assert weight[mask.kept].all()
    assert mask.kept.float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert small.equal(resumed.network, undisturbed.network)


@pytest.mark.parametrize("average", AVERAGES)
def test_what_is_shipped_obeys_a_mask_that_grew_though_its_average_began_before(tmp_path, average):
    seen = []
    setting = {
        "epochs": 5,
        "average": average,
        "select": "last",
        "change": masking(grows=True, seen=seen),
    }
    undisturbed, _ = small.trained(tmp_path / "whole", **setting)
    kept = seen[0].kept
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.01)
    weight = undisturbed.network.get_submodule(LAYER).weight
    assert not weight[~kept].any()
    assert weight[kept].all()
    # Which weights are the smallest is seen once; what goes on after a stop has it from the state.
    for step in (7, 20):
        with pytest.raises(StoppedError):
            small.trained(tmp_path / "cut", observe=StopAt(step), **setting)
    resumed, _ = small.trained(tmp_path / "cut", **setting)
    assert small.equal(resumed.network, undisturbed.network)
