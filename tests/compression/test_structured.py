"""Channels, heads and layers that are taken out while a network trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelwright import modelfile
from modelwright.compression import check_step, step_of
from modelwright.compression.coupling import Width
from modelwright.compression.cut_plan import CutPlan
from modelwright.compression.importance import by_activations, by_taylor
from modelwright.compression.structured import check_structured
from modelwright.data import Dataset
from modelwright.data.batches import Batch
from modelwright.errors import RequestError
from modelwright.modelfile.layer_costs import SHARES, LayerCosts, layer_costs
from modelwright.models.modifications import Drop, modify
from modelwright.models.summary import multiply_adds
from modelwright.recipe import parse_recipe
from modelwright.recipe.compression import PruneStep, QuantizeStep
from modelwright.run import Decisions
from modelwright.tasks import TASKS
from tests.compression.making import RECIPE, Said, compress, run_in, split_of
from tests.compression.networks import small

HALF = PruneStep(name="prune", kind="structured", multiply_adds=0.5, rounds=2, epochs=2)


def pixels(candidate: Any) -> tuple[Tensor]:
    return (torch.from_numpy(split_of(candidate).inputs[:1].copy()),)


def test_half_of_the_multiply_adds_are_left_and_the_file_answers_as_the_network(
    tmp_path: Path,
) -> None:
    before, said = small("cnn"), Said()
    after, facts = compress(before, HALF, tmp_path, observe=said)
    inputs = pixels(before)
    counts = [multiply_adds(item.network, *inputs) for item in (before, after)]
    assert counts[1] <= counts[0] / 2
    assert facts["multiply_adds_share"] == counts[1] / counts[0]
    assert "multiply-adds have become" in said.notes[-1]
    assert type(after.network) is type(before.network)
    modelfile.write_model(tmp_path / "after.mw", after)  # It compares graph and network.
    modelfile.verify(tmp_path / "after.mw", sandbox=False)
    again = modelfile.rebuild(tmp_path / "after.mw").network
    with torch.no_grad():
        assert torch.equal(again(*inputs), after.network.eval()(*inputs))
    kinds = {change["kind"] for change in after.architecture["modifications"]}
    assert "resize" in kinds
    names = [(item["kind"], item["layer"]) for item in after.architecture["modifications"]]
    assert len(set(names)) == len(names)  # Rounds are one modification a layer.


@pytest.mark.slow
def test_a_second_step_goes_on_from_the_first(tmp_path: Path) -> None:
    once, _ = compress(small("cnn"), HALF, tmp_path / "once")
    twice, facts = compress(once, HALF, tmp_path / "twice")
    assert facts["multiply_adds_share"] <= 0.5
    path = tmp_path / "twice.mw"
    modelfile.write_model(path, twice)
    assert modelfile.rebuild(path).architecture == twice.architecture


@pytest.mark.slow
def test_heads_and_the_insides_of_layers_of_a_transformer_go(tmp_path: Path) -> None:
    step = HALF.model_copy(update={"multiply_adds": 0.35, "rounds": 1})
    after, facts = compress(small("transformer"), step, tmp_path)
    assert facts["heads"] + facts["layers"] > 0
    path = tmp_path / "after.mw"
    modelfile.write_model(path, after)
    modelfile.verify(path, sandbox=False)


def timed(
    candidate: Any, step: PruneStep, folder: Path, shares: list[float], *, least: float = 0.0
) -> Any:
    """Prune by latency on a machine whose times are known: layers by their products."""
    folder.mkdir()
    tables = {
        name: (cost.multiply_adds * np.outer(SHARES, SHARES)).tolist()
        for name, cost in layer_costs(candidate.network, pixels(candidate)).items()
    }
    run = replace(run_in(folder), decisions=Decisions(folder / "decisions.json"))
    run.decisions.decide("layer_seconds", lambda: tables)
    run.decisions.decide("whole_seconds", lambda: [0.0])
    run.decisions.decide("least_seconds", lambda: [1.0, least])
    round_folder = folder / f"stages/round-{step.rounds}"
    round_folder.mkdir(parents=True)
    measured = Decisions(round_folder / "decisions.json")
    for at, share in enumerate(shares):
        measured.decide(f"seconds-{at + 1}", lambda share=share: [1.0, share])
    recipe = parse_recipe(RECIPE, where="recipe")
    data = Dataset(split_of(candidate), None, candidate.labels)
    task = TASKS[candidate.task, candidate.output_kind]
    return step_of(step)[1](candidate, step, recipe, data, run, task)


QUICK = PruneStep(name="prune", kind="structured", latency=0.5, rounds=1, epochs=1)


@pytest.mark.parametrize("scores", ["taylor", "activations"])
def test_time_is_a_goal_and_more_goes_until_what_is_measured_is_as_asked(
    scores: str, tmp_path: Path
) -> None:
    step = QUICK.model_copy(update={"scores": scores})
    found = []
    for name, shares in (("once", [0.5]), ("twice", [0.8, 0.5])):
        after, facts = timed(small("mlp"), step, tmp_path / name, shares)
        found.append(facts["multiply_adds_share"])
        width = after.network.body.hidden[0].out_features
        assert width % 8 == 0
    assert found[0] == pytest.approx(0.5, abs=0.07)
    assert found[1] < found[0]


def test_time_that_is_not_reached_is_refused_with_what_was_measured(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="can't be reached") as caught:
        timed(small("mlp"), QUICK, tmp_path / "run", [0.6] * 4)
    assert "0.60" in caught.value.why
    assert not (tmp_path / "run/stages/round-1/checkpoints").exists()  # Nothing was trained.
    # By its estimate it can't be reached; the narrowest network is measured all the same.
    deep = QUICK.model_copy(update={"latency": 0.05})
    with pytest.raises(RequestError, match="can't be reached") as caught:
        timed(small("mlp"), deep, tmp_path / "deep", [0.3] * 4)
    assert "0.30" in caught.value.why
    after, _ = timed(small("mlp"), deep, tmp_path / "narrow", [0.05])
    assert after.network.body.hidden[0].out_features == 8


def test_of_several_rounds_a_time_out_of_reach_is_refused_before_the_first(tmp_path: Path) -> None:
    twice = QUICK.model_copy(update={"rounds": 2})
    with pytest.raises(RequestError, match="can't be reached") as caught:
        timed(small("mlp"), twice, tmp_path / "run", [0.5], least=0.6)
    assert "0.60" in caught.value.why
    assert not list((tmp_path / "run").rglob("checkpoints"))
    after, facts = timed(small("mlp"), twice, tmp_path / "reached", [0.5], least=0.4)
    # What the narrowest network lost for that isn't lost to the one that goes on.
    assert 0.4 < facts["multiply_adds_share"] < 0.8
    assert after.network.body.hidden[0].out_features > 8


def test_a_run_that_goes_on_comes_to_the_same_bits(tmp_path: Path) -> None:
    candidate = small("cnn")
    recipe = parse_recipe(RECIPE, where="recipe")
    data = Dataset(split_of(candidate), None, candidate.labels)
    task = TASKS[candidate.task, candidate.output_kind]
    _, carry_out = step_of(HALF)

    def done(folder: Path, rounds_taken: int) -> Any:
        folder.mkdir(exist_ok=True)
        run = replace(run_in(folder), decisions=Decisions(folder / "decisions.json"))
        notes = 0

        def stop(progress: Any) -> None:
            nonlocal notes
            notes += progress.note.startswith("Training") if progress.note else 0
            if notes > rounds_taken:
                raise KeyboardInterrupt

        return carry_out(candidate, HALF, recipe, data, replace(run, observe=stop), task)

    for rounds in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            done(tmp_path / "killed", rounds)
    resumed, facts = done(tmp_path / "killed", 9)
    again, same = done(tmp_path / "killed", 9)
    assert facts == same
    assert resumed.architecture == again.architecture
    one, other = resumed.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rnn", "linear"])
def test_a_network_of_which_nothing_can_go_is_refused(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_structured(small(name), HALF)
    assert caught.value.why
    assert caught.value.fix


def test_more_than_there_is_is_refused_before_anything_is_trained() -> None:
    step = HALF.model_copy(update={"multiply_adds": 0.01})
    with pytest.raises(RequestError, match="no less than") as caught:
        check_structured(small("cnn"), step)
    assert "0." in caught.value.fix


def test_layers_of_few_bits_are_refused(tmp_path: Path) -> None:
    step = QuantizeStep(name="quantize", dtype="int8", max_drop=9.0)
    after, _ = compress(small("cnn"), step, tmp_path)
    with pytest.raises(RequestError, match="few bits"):
        check_step(after, HALF)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "structured"}, "give one of"),
        ({"kind": "structured", "multiply_adds": 0.5, "latency": 0.5}, "give one of"),
        ({"kind": "structured", "multiply_adds": 1.0}, "less than 1"),
        ({"kind": "structured", "latency": 0.0}, "greater than 0"),
        ({"kind": "structured", "latency": 0.5, "sparsity": 0.5}, "`sparsity` has no effect"),
        ({"multiply_adds": 0.5}, "`multiply_adds` has no effect"),
        ({"scores": "activations"}, "`scores` has no effect"),
        ({"rounds": 2}, "`rounds` has no effect"),
    ],
)
def test_settings_without_effect_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PruneStep(name="prune", **given)


# -- what goes first -------------------------------------------------------------------------------


def costs(inputs: int, outputs: int, seconds: float) -> LayerCosts:
    table = seconds * np.outer(SHARES, SHARES)
    return LayerCosts(inputs, outputs, float(inputs * outputs), False, table)


def chain() -> tuple[dict[str, LayerCosts], list[Width]]:
    """Return two widths between three layers, the second ten times as slow as the first."""
    layers = {"a": costs(4, 4, 1.0), "b": costs(4, 4, 1.0), "c": costs(4, 4, 19.0)}
    widths = []
    for one, other in (("a", "b"), ("b", "c")):
        axes = ((one, "out"), (other, "in"))
        units = tuple({key: [place] for key in axes} for place in range(4))
        widths.append(Width(axes, units, 4))
    return layers, widths


def test_what_loses_least_for_its_time_goes_first() -> None:
    layers, widths = chain()
    losses = [np.array([4.0, 1.0, 2.0, 3.0]), np.array([4.0, 1.0, 2.0, 3.0])]
    plan = CutPlan(layers, widths, [], (losses, []))
    assert plan.cut_to(1, 17.0)
    # Only the slow layer's inputs were worth it, those that matter least.
    assert plan.gone() == {("b", "out"): [1], ("c", "in"): [1]}
    cheap = [np.array([4e-9, 1e-9, 2e-9, 3e-9]), losses[1]]
    other = CutPlan(layers, widths, [], (cheap, []))
    assert other.cut_to(1, 20.7)
    assert other.gone() == {("a", "out"): [1], ("b", "in"): [1]}


def test_the_least_leaves_out_the_blocks_that_cost_most() -> None:
    layers, widths = chain()
    layers |= {"d.one": costs(4, 4, 1.0), "e.one": costs(8, 8, 1.0)}
    whole = CutPlan(layers, (), ()).spent()[0]
    assert CutPlan(layers, (), ["d", "e"]).least()[0] == whole
    assert CutPlan(layers, (), ["d", "e"], most_blocks=1).least()[0] == whole - 64
    assert CutPlan(layers, (), ["d", "e"], most_blocks=2).least()[0] == whole - 80
    assert CutPlan(layers, widths, ["d"], most_blocks=1).least()[0] < whole - 16


def test_a_layer_is_left_out_where_that_costs_least_and_as_few_as_may_be() -> None:
    layers, widths = chain()
    losses = [np.full(4, 100.0), np.full(4, 100.0)]
    plan = CutPlan(layers, widths, ["x"], (losses, [0.1]), most_blocks=0)
    assert plan.cut_to(1, 17.0)
    assert not plan.dropped
    named = {"x.a": layers["a"], "x.b": layers["b"], "c": layers["c"]}
    inside = [
        Width((("x.a", "out"), ("x.b", "in")), widths[0].units, 4),
    ]
    units = tuple({("x.a", "out"): [at], ("x.b", "in"): [at]} for at in range(4))
    inside = [replace(inside[0], units=units)]
    plan = CutPlan(named, inside, ["x"], ([np.full(4, 100.0)], [0.1]), most_blocks=1)
    assert plan.cut_to(1, 20.0)
    assert plan.dropped == ["x"]
    assert plan.gone() == {}
    assert not plan.cut_to(1, 1.0)  # Nothing more is there.


class Stack(nn.Module):
    """Two layers, with a list of one that adds to what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.blocks = nn.ModuleList([Added()])
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks[0](self.first(x)))


class Added(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.tanh(self.layer(x))


def stack() -> tuple[nn.Module, list[Width], list[Batch]]:
    torch.manual_seed(0)
    network = Stack().eval()
    axes = (("first", "out"), ("blocks.0.layer", "in"), ("head", "in"))
    width = Width(axes, tuple({key: [at] for key in axes} for at in range(6)), 6)
    batches = [Batch((torch.randn(8, 4),), torch.randn(8, 2)) for _ in range(3)]
    return network, [width], batches


def loss(network: nn.Module, batch: Batch) -> Tensor:
    return (network(*batch.inputs) - batch.targets).square().mean()


def test_taylor_is_what_the_loss_changes_by_where_readers_fade() -> None:
    network, widths, batches = stack()
    (units,), (block,) = by_taylor(network, widths, ["blocks.0"], batches, loss)
    step = 1e-3
    for at in range(6):
        expected = 0.0
        for batch in batches:
            faded = Stack()
            faded.load_state_dict(network.state_dict())
            with torch.no_grad():
                for name in ("blocks.0.layer", "head"):
                    faded.get_submodule(name).weight[:, at] *= 1 - step
                    change = loss(faded, batch) - loss(network, batch)
                expected += float(change / step) ** 2
        assert units[at] == pytest.approx(expected, rel=0.05, abs=1e-5)
    without = Stack()
    without.load_state_dict(network.state_dict())
    modify(without, [Drop(layer="blocks.0")])
    with torch.no_grad():
        worse = [max(float(loss(without, item) - loss(network, item)), 0.0) for item in batches]
    assert block == pytest.approx(sum(value**2 for value in worse), rel=1e-4)


def test_activations_are_shares_of_what_readers_are_given() -> None:
    network, widths, batches = stack()
    with torch.no_grad():
        network.first.weight[2] = 0.0
        network.first.bias[2] = 0.0
    (units,), (block,) = by_activations(network, widths, ["blocks.0"], batches)
    assert units.sum() == pytest.approx(1.0)
    assert units.argmin() == 2
    assert 0 < block < 0.2  # It adds at most a tenth.
