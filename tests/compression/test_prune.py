"""Weights that become zero while a network trains."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modelwright import modelfile
from modelwright.compression.prune import RISING, Mask, check_prune, weights_of
from modelwright.errors import RequestError
from modelwright.models.modifications import Group, group_weights
from modelwright.recipe.compression import DistillStep, PruneStep, QuantizeStep
from tests.compression.making import compress
from tests.compression.networks import small


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 10))


def zeros(network: nn.Module) -> float:
    weights = torch.cat([item.flatten() for item in weights_of(network).values()])
    return float((weights == 0).float().mean())


def test_the_share_of_zeros_rises_and_stays() -> None:
    network = layers()
    mask, shares = Mask(weights_of(network), 0.8), []
    for step in range(100):
        with torch.no_grad():
            network[0].weight.add_(0.01)  # Training moves all weights, those at zero too.
        mask.after_step(step + 1, step / 100)
        shares.append(zeros(network))
    assert all(one <= other for one, other in itertools.pairwise(shares))
    assert shares[round(RISING * 50)] > 0.5  # Quickly first.
    assert shares[-1] == pytest.approx(0.8, abs=0.02)


def test_the_largest_weights_of_all_layers_stay() -> None:
    network = layers()
    with torch.no_grad():
        network[0].weight.mul_(0.001)
    before = {name: item.detach().abs().clone() for name, item in weights_of(network).items()}
    mask = Mask(weights_of(network), 0.6)
    mask.after_step(1, 1.0)
    after = weights_of(network)
    kept = [float((item != 0).float().mean()) for item in after.values()]
    assert kept[1] > 0.98  # Nearly all of its weights are larger than all of the first layer's.
    assert 0 < kept[0] < 0.5
    first = next(iter(after.values())) != 0
    sizes = next(iter(before.values()))
    assert float(sizes[first].min()) >= float(sizes[~first].max())


def test_no_layer_is_cut_off() -> None:
    network = layers()
    with torch.no_grad():
        network[0].weight.mul_(1e-6)
    Mask(weights_of(network), 0.9).after_step(1, 1.0)
    kept = [float((item != 0).float().mean()) for item in weights_of(network).values()]
    assert kept[0] == pytest.approx(0.02, abs=0.002)


def test_what_is_read_out_obeys_the_mask_and_training_goes_on_without_a_trace() -> None:
    network = layers()
    mask = Mask(weights_of(network), 0.5)
    mask.after_step(1, 1.0)
    with torch.no_grad():
        network[2].weight.add_(1.0)
    inside = network[2].weight.detach().clone()
    with mask.applied():
        assert zeros(network) == pytest.approx(0.5, abs=0.01)
    assert torch.equal(network[2].weight, inside)


def test_a_mask_goes_on_from_its_state() -> None:
    network, other = layers(), layers()
    mask, again = Mask(weights_of(network), 0.7), Mask(weights_of(other), 0.7)
    mask.after_step(1, 0.3)
    other.load_state_dict(network.state_dict())
    again.load_state({name: item.clone() for name, item in mask.state().items()})
    for step in range(2, 9):
        mask.after_step(step, step / 8)
        again.after_step(step, step / 8)
    assert all(
        torch.equal(one, two)
        for one, two in zip(network.parameters(), other.parameters(), strict=True)
    )


def test_the_file_is_smaller_and_holds_the_zeros(tmp_path: Path) -> None:
    before = small("mlp")
    after, facts = compress(before, PruneStep(name="prune", sparsity=0.9), tmp_path)
    packed = modelfile.write_model(tmp_path / "m.mw", after)
    plain = modelfile.write_model(tmp_path / "before.mw", before)
    assert packed.size_bytes < 0.35 * plain.size_bytes
    assert facts["zeros"] / facts["weights"] == pytest.approx(0.9, abs=0.01)
    modelfile.verify(tmp_path / "m.mw", sandbox=False)
    again = modelfile.rebuild(tmp_path / "m.mw")
    assert zeros(again.network) == pytest.approx(0.9, abs=0.01)


def test_zeros_that_are_there_already_are_not_undone(tmp_path: Path) -> None:
    pruned, _ = compress(small("mlp"), PruneStep(name="prune", sparsity=0.6), tmp_path)
    with pytest.raises(RequestError, match="60% of this network's weights are zero already"):
        check_prune(pruned, PruneStep(name="prune", sparsity=0.5))
    check_prune(pruned, PruneStep(name="prune", sparsity=0.7))


@pytest.mark.parametrize("kind", ["structured", "distill"])
def test_zeros_stay_zero_where_a_network_trains_on(kind: str, tmp_path: Path) -> None:
    pruned, _ = compress(small("mlp"), PruneStep(name="prune", sparsity=0.8), tmp_path / "first")
    teacher = tmp_path / "teacher.mw"
    modelfile.write_model(teacher, small("mlp"))
    step = (
        PruneStep(name="prune", kind="structured", multiply_adds=0.5, rounds=1, epochs=1)
        if kind == "structured"
        else DistillStep(name="distill", teacher=str(teacher), epochs=2)
    )
    after, _ = compress(pruned, step, tmp_path / "second")
    before = dict(pruned.network.named_parameters())
    changed = [
        not torch.equal(item, before[name])
        for name, item in after.network.named_parameters()
        if item.shape == before[name].shape
    ]
    assert any(changed)
    weight = after.network.get_parameter("body.hidden.0.weight")
    least = 0.3 if kind == "structured" else 0.7  # Units of few zeros are those that stay.
    assert float((weight == 0).float().mean()) > least


def test_pruned_weights_become_int8_and_stay_compressed(tmp_path: Path) -> None:
    pruned, _ = compress(small("mlp"), PruneStep(name="prune", sparsity=0.9), tmp_path)
    step = QuantizeStep(name="quantize", dtype="int8")
    both, _ = compress(pruned, step, tmp_path / "second")
    sizes = [
        modelfile.write_model(tmp_path / f"{name}.mw", item).size_bytes
        for name, item in (("pruned", pruned), ("both", both))
    ]
    assert sizes[1] < 0.6 * sizes[0]
    held = modelfile.read(tmp_path / "both.mw")
    assert held.spec.encoded["body.hidden.0.weight"].dtype == "I8"


def test_what_has_no_weights_to_prune_is_refused() -> None:
    from modelwright.compression import step_of

    candidate = small("bow")
    for name in ("embedding", "head"):
        if np.prod(candidate.network.get_submodule(name).weight.shape) >= 32 * 16:
            group_weights(candidate.network, Group(layer=name, bits=8, group=32))
    step = PruneStep(name="prune")
    check, _ = step_of(step)
    check(candidate, step)  # Its head is left.
    candidate.network.head.requires_grad_(False)
    with pytest.raises(RequestError, match="to prune"):
        check(candidate, step)
