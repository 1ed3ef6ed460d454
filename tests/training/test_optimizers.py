from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from modelwright.errors import RecipeError
from modelwright.recipe.train import (
    AdamwOptimizer,
    GdOptimizer,
    GroupSpec,
    MuonOptimizer,
    SgdOptimizer,
    TrainSpec,
)
from modelwright.training.muon import Muon, orthogonalise
from modelwright.training.optimizers import Optimizer, group_parameters, matrices_and_filters

SPECS = (
    GdOptimizer(name="gd", lr=0.1),
    SgdOptimizer(name="sgd", lr=0.1),
    AdamwOptimizer(name="adamw", lr=0.01),
    MuonOptimizer(name="muon", lr=0.1),
)


ORDER = 1e-10
"""Ours and torch's steps are alike but for the order of operations, in float64."""


def network():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 8), nn.Linear(8, 5)
    ).double()


def images():
    chance = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=chance)


def descend(net, optimizer, steps, *, share=1.0, progress=0.0):
    inputs = torch.randn(
        6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    for _ in range(steps):
        for parameter in net.parameters():
            parameter.grad = None
        (net(inputs) ** 2).mean().backward()
        optimizer.step(share, progress)


def weights(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def spec(optimizer, **settings):
    return TrainSpec(optimizer=optimizer, **{"weight_decay": 0.0, **settings})


@pytest.mark.parametrize("optimizer", SPECS, ids=lambda item: item.name)
def test_every_optimizer_lowers_a_loss(optimizer):
    net = network()
    inputs = torch.randn(
        6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    before = (net(inputs) ** 2).mean().item()
    descend(net, Optimizer(net, spec(optimizer)), 5)
    assert (net(inputs) ** 2).mean().item() < before


@pytest.mark.parametrize("optimizer", SPECS, ids=lambda item: item.name)
def test_a_saved_state_goes_on_to_the_same_weights(optimizer):
    straight = network()
    whole = Optimizer(straight, spec(optimizer))
    descend(straight, whole, 3)
    copied = copy.deepcopy(straight)
    other = Optimizer(copied, spec(optimizer))
    other.load_state({name: tensor.clone() for name, tensor in whole.state().items()})
    descend(straight, whole, 3)
    descend(copied, other, 3)
    assert torch.equal(weights(straight), weights(copied))


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        (SPECS[0], lambda items: torch.optim.SGD(items, lr=0.1)),
        (SPECS[1], lambda items: torch.optim.SGD(items, lr=0.1, momentum=0.9, nesterov=True)),
        (SPECS[2], lambda items: torch.optim.AdamW(items, lr=0.01, weight_decay=0.0)),
    ],
    ids=["gd", "sgd", "adamw"],
)
def test_without_extras_the_steps_are_torchs(optimizer, reference):
    ours, theirs = network(), network()
    descend(ours, Optimizer(ours, spec(optimizer)), 4)
    stepper = reference(theirs.parameters())

    class Plain:
        def step(self, share, progress):
            stepper.step()

    descend(theirs, Plain(), 4)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=ORDER, atol=ORDER)


def test_decoupled_decay_of_adamw_is_torchs():
    ours, theirs = network(), network()
    descend(ours, Optimizer(ours, spec(SPECS[2], weight_decay=0.3)), 3)
    decayed = [item for item in theirs.parameters() if item.ndim >= 2]
    plain = [item for item in theirs.parameters() if item.ndim < 2]
    stepper = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.3}, {"params": plain, "weight_decay": 0.0}], lr=0.01
    )

    class Plain:
        def step(self, share, progress):
            stepper.step()

    descend(theirs, Plain(), 3)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=ORDER, atol=ORDER)


def test_l1_and_l2_are_the_gradients_of_their_penalties():
    net = nn.Linear(3, 2, bias=False).double()
    before = net.weight.detach().clone()
    net.weight.grad = torch.zeros_like(net.weight)
    Optimizer(net, spec(GdOptimizer(name="gd", lr=0.5), l1=0.1, l2=0.2)).step(1.0, 0.0)
    expected = before - 0.5 * (0.1 * before.sign() + 0.2 * before)
    torch.testing.assert_close(net.weight.detach(), expected)


def test_the_schedules_share_scales_the_step():
    full, half = network(), network()
    start = weights(full)
    descend(full, Optimizer(full, spec(GdOptimizer(name="gd", lr=0.1))), 1)
    descend(half, Optimizer(half, spec(GdOptimizer(name="gd", lr=0.1))), 1, share=0.5)
    torch.testing.assert_close(weights(half) - start, (weights(full) - start) / 2)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_decay_follows_the_schedule(share):
    net = nn.Linear(3, 2, bias=False).double()
    before = net.weight.detach().clone()
    net.weight.grad = torch.zeros_like(net.weight)
    Optimizer(net, spec(SgdOptimizer(name="sgd", lr=0.5), weight_decay=0.1)).step(share, 0.0)
    torch.testing.assert_close(net.weight.detach(), before * (1.0 - 0.5 * share * 0.1))


def test_muon_steps_are_nesterov_momentum_made_orthogonal():
    """Jordan et al. 2024, written out; the weights start each step from the length √out."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(3, 5, dtype=torch.float64))
    expected, buffer = weight.detach().clone(), torch.zeros(3, 5, dtype=torch.float64)
    muon = Muon([{"params": [weight]}], lr=0.1, momentum=0.6, steps=5)
    for _ in range(3):
        gradient = torch.randn(3, 5, dtype=torch.float64)
        weight.grad = gradient.clone()
        muon.step()
        buffer = 0.6 * buffer + gradient
        update = orthogonalise(gradient + 0.6 * buffer, steps=5)
        expected = expected * 3**0.5 / expected.norm() - 0.1 * update
        torch.testing.assert_close(weight.detach(), expected, rtol=ORDER, atol=ORDER)


def test_biases_and_norms_are_left_out_of_decay_unless_a_group_names_them():
    groups = group_parameters(
        network(), TrainSpec(weight_decay=0.1, groups=[GroupSpec(match="1.bias", weight_decay=0.2)])
    )
    decay = {name: group.weight_decay for group in groups for name in group.parameters}
    assert decay["0.weight"] == 0.1
    assert decay["0.bias"] == decay["1.weight"] == 0.0
    assert decay["1.bias"] == 0.2


def test_the_first_group_that_matches_holds_and_zero_freezes():
    net = network()
    before = net[0].weight.detach().clone()
    chosen = spec(SPECS[1], groups=[GroupSpec(match="0.*", lr=0.0), GroupSpec(match="*", lr=2.0)])
    descend(net, Optimizer(net, chosen), 2)
    assert torch.equal(net[0].weight, before)
    assert not torch.equal(net[3].weight, network()[3].weight)


def test_a_group_stands_still_after_its_time():
    net = network()
    before = net[3].weight.detach().clone()
    chosen = spec(SPECS[1], weight_decay=0.1, groups=[GroupSpec(match="3.*", until=0.5)])
    descend(net, Optimizer(net, chosen), 2, progress=0.5)
    assert torch.equal(net[3].weight, before)


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(RecipeError, match="matches no trained parameter"):
        group_parameters(network(), TrainSpec(groups=[GroupSpec(match="9.wieght")]))


@pytest.mark.parametrize("shape", [(8, 8), (4, 20), (20, 4)])
def test_orthogonalising_nears_the_orthogonal_factor(shape):
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = orthogonalise(matrix, steps=6)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linalg.svdvals(found)
    # The published coefficients leave singular values within about 0.7…1.2, by design.
    assert values.min() > 0.65
    assert values.max() < 1.25
    # The singular vectors are kept: the product with the true factor is nearly symmetric, positive.
    product = u.mT @ found @ v.mT
    torch.testing.assert_close(product, torch.diag(torch.diagonal(product)), atol=1e-8, rtol=0)


def test_muon_leaves_the_output_layer_and_vectors_to_sgd():
    net = network()
    optimizer = Optimizer(net, spec(SPECS[3]))
    descend(net, optimizer, 1)
    lengths = [float(net[i].weight.detach().norm()) for i in (0, 3)]
    # Muon starts each step from weights of length √out, and moves them by about lr · √out.
    assert lengths[0] == pytest.approx(2.0, rel=0.25)
    assert lengths[1] == pytest.approx(8**0.5, rel=0.25)
    assert torch.linalg.vector_norm(net[4].weight.detach()) < 2.0


def test_a_decay_that_muon_undoes_is_refused():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    optimizer = {"name": "muon"}
    for match in ("0.weight", "[01].weight"):
        group = {"match": match, "weight_decay": 0.1}
        with pytest.raises(RecipeError, match="Muon keeps the length"):
            Optimizer(net, TrainSpec.model_validate({"optimizer": optimizer, "groups": [group]}))
    group = {"match": "*.weight", "weight_decay": 0.1}  # The last layer's is SGD's.
    Optimizer(net, TrainSpec.model_validate({"optimizer": optimizer, "groups": [group]}))


def test_muon_without_anything_to_train_is_refused():
    frozen = {"optimizer": {"name": "muon"}, "groups": [{"match": "0.*", "lr": 0.0}]}
    for first, settings in (
        (nn.Embedding(5, 4), {"optimizer": {"name": "muon"}}),
        (nn.Linear(4, 4), frozen),
    ):
        with pytest.raises(RecipeError, match=r"`train.optimizer: muon` has no effect"):
            Optimizer(nn.Sequential(first, nn.Linear(4, 2)), TrainSpec.model_validate(settings))


def test_muon_leaves_tables_and_recurrent_weights_to_the_rest():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5, 4)
            self.recurrent = nn.Parameter(torch.randn(2, 8, 4))
            self.filters = nn.Conv1d(4, 4, 3)
            self.inner = nn.Linear(4, 4)
            self.head = nn.Linear(4, 2)

    network = Words()
    assert matrices_and_filters(network) == {"filters.weight", "inner.weight", "head.weight"}
    spec = TrainSpec.model_validate({"optimizer": {"name": "muon"}, "weight_decay": 0.0})
    optimizer = Optimizer(network, spec)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: item.detach().clone() for name, item in network.named_parameters()}
    optimizer.step(1.0, 0.0)
    after = {name: item.detach() for name, item in network.named_parameters()}
    # Muon sets a matrix's length to the root of its rows before it moves it; SGD doesn't.
    rate = spec.optimizer.lr
    for name in ("filters.weight", "inner.weight"):
        assert abs(float(after[name].norm()) - 2.0) < 2.6 * rate, name
    for name in ("embedding.weight", "recurrent", "head.weight"):
        step = before[name] - after[name]
        assert torch.allclose(step, torch.full_like(step, float(step.mean())), atol=1e-6), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", SPECS)
def test_on_a_gpu_training_goes_on_from_its_saved_state(kind):
    net = network().float().cuda()
    inputs = images().float().cuda()

    def steps(net, optimizer):
        for _ in range(3):
            for parameter in net.parameters():
                parameter.grad = None
            (net(inputs) ** 2).mean().backward()
            optimizer.step(1.0, 0.0)

    optimizer = Optimizer(net, spec(kind))
    steps(net, optimizer)
    again = copy.deepcopy(net)
    resumed = Optimizer(again, spec(kind))
    resumed.load_state({name: value.cpu() for name, value in optimizer.state().items()})
    steps(net, optimizer)
    steps(again, resumed)
    torch.testing.assert_close(weights(net), weights(again), rtol=1e-4, atol=1e-5)


def test_muon_doesnt_run_away_on_a_nearly_singular_gradient():
    torch.manual_seed(0)
    for rank in (1, 4):
        matrix = torch.randn(64, rank) @ torch.randn(rank, 300) + 1e-2 * torch.randn(64, 300)
        for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            found = orthogonalise(matrix.to(device), steps=5)
            assert torch.linalg.matrix_norm(found, 2) < 1.3
