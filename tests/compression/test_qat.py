"""Training in int8: what learnt is what ships, and it regains what rounding lost."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelwright import modelfile
from modelwright.compression import step_of
from modelwright.compression.qat import RATE, train_rounded, training_of
from modelwright.compression.quantize import build, plan
from modelwright.data import Dataset
from modelwright.data.dataset import Split
from modelwright.errors import RequestError
from modelwright.modelfile.tracing import trace
from modelwright.models.candidate import Candidate
from modelwright.models.quantized import FakeQuantizedLayer, QuantizedLayer
from modelwright.recipe import Recipe, parse_recipe
from modelwright.recipe.compression import QuantizeStep
from modelwright.recipe.train import TrainSpec
from modelwright.run import Progress, silent
from modelwright.tasks import TASKS
from modelwright.training import fit, validation_scores
from tests.compression.making import Said, run_in
from tests.compression.networks import small
from tests.modelfile.test_tracing import inputs_of

STEP = QuantizeStep(
    name="quantize", dtype="int8", ranges="min-max", reduce_range=True, qat=True, max_drop=1.0
)
TASK = TASKS["image-classification", small("cnn").output_kind]


def recipe_of(**train: Any) -> Recipe:
    lines = "".join(f", {name}: {value}" for name, value in train.items())
    text = f"""
version: 1
data: {{source: digits}}
train: {{epochs: 8, batch_size: 32, precision: fp32, compile: "off"{lines}}}
"""
    return parse_recipe(text, where="recipe")


SLOW_RATE = {"optimizer": "{name: adamw, lr: 0.004}"}


def split(name: str, count: int, seed: int) -> Split:
    """Return images of three patterns under noise."""
    draw = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).normal(size=(3, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    labels = draw.integers(0, 3, count)
    noisy = 0.3 * patterns[labels] + draw.normal(size=(count, 32, 32, 3))
    pixels = np.clip(128 + 30 * noisy, 0, 255).astype(np.uint8)
    return Split(name, pixels, np.arange(count), labels)


def trained(folder: Path, *, seed: int = 0, factor: float = 1.0) -> tuple[Candidate, Dataset]:
    """Return a trained network; two of its channels are so many times as large as learnt.

    It answers as before; but rounded to levels of one size, its other channels hardly count.
    """
    candidate = small("cnn", seed=seed)
    data = Dataset(
        split("train", 256, seed), split("validation", 400, 100 + seed), candidate.labels
    )
    recipe = recipe_of(**SLOW_RATE)
    candidate, _ = fit(
        candidate, recipe.train, data, run_in(folder), task=TASK, augment=recipe.augment
    )
    blocks = candidate.network.get_submodule("body.blocks")
    norm, after = blocks.get_submodule("0.norm1"), blocks.get_submodule("1.conv1")
    with torch.no_grad():
        norm.get_parameter("weight")[:2] *= factor
        norm.get_parameter("bias")[:2] *= factor
        after.get_parameter("weight")[:, :2] /= factor
    return candidate, data


def quantized(
    candidate: Candidate,
    data: Dataset,
    folder: Path,
    step: QuantizeStep = STEP,
    *,
    recipe: Recipe | None = None,
    observe: Any = silent,
) -> tuple[Candidate, dict[str, Any]]:
    recipe = recipe or recipe_of(**SLOW_RATE)
    _, carry_out = step_of(step)
    return carry_out(candidate, step, recipe, data, run_in(folder, observe=observe), TASK)


@pytest.mark.parametrize("name", ["cnn", "resnet", "conv-ctc", "transformer"])
def test_integer_layers_answer_exactly_as_those_that_learnt(name: str) -> None:
    candidate = small(name)
    graph, inputs = trace(candidate), inputs_of(candidate)
    ranges = {node.name: (-1.5, 2.0) for node in plan(graph).rounded}
    made = partial(build, ranges=ranges, kept=(), bits=7)
    learning = made(graph, learns=True)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for item in learning.parameters():
            item.add_(0.01 * torch.randn(item.shape, generator=draw))
    moved = copy.deepcopy(graph)
    state = learning.state_dict()
    moved.load_state_dict({key: state[key] for key in moved.state_dict()})
    integers = made(moved)
    with torch.no_grad():
        torch.testing.assert_close(integers(*inputs), learning.eval()(*inputs), rtol=0, atol=1e-6)
    kinds = [
        sum(isinstance(item, kind) for item in network.modules())
        for kind, network in ((FakeQuantizedLayer, learning), (QuantizedLayer, integers))
    ]
    assert kinds[0] == kinds[1] > 0


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_pass_through_the_rounding(bias: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 5, generator=draw)
    layer = FakeQuantizedLayer(
        weight, torch.randn(3, generator=draw) if bias else None, torch.tensor(0.1), None, bits=8
    )
    plain = nn.Linear(5, 3, bias=bias)
    x = torch.randn(4, 5, generator=draw)
    for each in (layer, plain):
        each(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias.grad, plain.bias.grad)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))]
)
def test_training_regains_what_rounding_lost(seed: int, tmp_path: Path) -> None:
    candidate, data = trained(tmp_path / "train", seed=seed, factor=300.0)
    plain = STEP.model_copy(update={"qat": False})
    rounded, _ = quantized(candidate, data, tmp_path / "rounded", plain)
    learnt, facts = quantized(candidate, data, tmp_path / "learnt")
    exact, lost, regained = (
        validation_scores(item, data, run_in(tmp_path), task=TASK)["accuracy"]
        for item in (candidate, rounded, learnt)
    )
    assert exact > 0.99
    assert lost < exact - 0.2  # Else there is nothing to regain.
    assert regained > lost + 0.5 * (exact - lost)
    assert facts["qat"]
    assert facts["kept"] == []
    packed = modelfile.write_model(tmp_path / "m.mw", learnt)  # It compares graph and network.
    assert packed.largest_difference <= learnt.tolerance


def test_it_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    candidate, data = trained(tmp_path / "train")
    recipe = recipe_of(**SLOW_RATE, checkpoint_every="0.01s")
    whole, _ = quantized(candidate, data, tmp_path / "whole", recipe=recipe)

    def killed(progress: Progress) -> None:
        if progress.stage == "train" and progress.done > 8:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        quantized(candidate, data, tmp_path / "killed", recipe=recipe, observe=killed)
    said = Said()
    again, _ = quantized(candidate, data, tmp_path / "killed", recipe=recipe, observe=said)
    assert any(note.startswith("Going on from step") for note in said.notes)
    for name, item in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], item)


def test_training_that_makes_it_worse_is_left_out_and_said(tmp_path: Path) -> None:
    candidate, data = trained(tmp_path / "train")
    wrong = replace(data.train, targets=(data.train.targets + 1) % 3)
    data, said = replace(data, train=wrong), Said()
    fast = recipe_of(optimizer="{name: adamw, lr: 0.05}", select="last")
    after, facts = quantized(candidate, data, tmp_path / "qat", recipe=fast, observe=said)
    assert facts["qat"] is False
    assert any(note.endswith("so it is left out") for note in said.notes)
    plain = STEP.model_copy(update={"qat": False})
    rounded, _ = quantized(candidate, data, tmp_path / "rounded", plain)
    for name, item in rounded.network.state_dict().items():
        assert torch.equal(after.network.state_dict()[name], item)


def test_pruned_weights_stay_zero(tmp_path: Path) -> None:
    candidate, data = trained(tmp_path / "train")
    name = "body.blocks.1.conv1.weight"
    with torch.no_grad():
        weight = candidate.network.get_parameter(name)
        weight[weight.abs() < weight.abs().median()] = 0.0
    zero = candidate.network.get_parameter(name) == 0
    pruned = replace(candidate, codecs={name: "zstd"})
    after, facts = quantized(pruned, data, tmp_path / "qat")
    assert facts["qat"]
    found = after.network.state_dict()[name]
    assert not found[zero].any()
    assert (found[~zero] != 0).float().mean() > 0.9


def test_layers_that_stand_still_do_so_and_at_least_one_learns(tmp_path: Path) -> None:
    candidate, data = trained(tmp_path / "train")
    candidate.network.requires_grad_(False)
    check, _ = step_of(STEP)
    with pytest.raises(RequestError, match="no layer of this network learns"):
        check(candidate, STEP)
    candidate.network.get_submodule("body.head").requires_grad_(True)
    check(candidate, STEP)
    graph = trace(candidate)
    ranges = {node.name: (-4.0, 4.0) for node in plan(graph).rounded}
    learnt, _ = train_rounded(
        candidate,
        graph,
        partial(build, ranges=ranges, kept=(), bits=8),
        STEP,
        recipe_of(**SLOW_RATE, select="last"),
        replace(data, validation=None),
        run_in(tmp_path / "qat"),
        TASK,
    )
    before = graph.state_dict()
    moved = {name for name, item in learnt.state_dict().items() if not item.equal(before[name])}
    assert moved == {"body.head.weight", "body.head.bias"}


def test_the_settings_of_training_that_are_taken() -> None:
    spec = TrainSpec.model_validate(
        {"epochs": 20, "optimizer": {"name": "muon"}, "groups": [{"match": "*norm*", "lr": 0.5}]}
    )
    found = training_of(STEP, spec)
    assert found.epochs == 5
    assert found.optimizer.name == "sgd"
    assert found.optimizer.lr == pytest.approx(RATE * 0.05)
    assert found.groups == ()
    assert training_of(STEP.model_copy(update={"epochs": 2.5}), spec).epochs == 2.5
    short = spec.model_copy(update={"budget": "60s", "epochs": None})
    assert training_of(STEP, short).budget == "15.000s"
