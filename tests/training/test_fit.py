from __future__ import annotations

import contextlib
import copy
import math
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modelwright.errors import StoppedError, TrainingError
from modelwright.files import read_lines
from modelwright.kinds import OutputKind
from modelwright.models.lora import adapt
from modelwright.recipe.preparation import AugmentSpec
from modelwright.tasks import TASKS
from modelwright.training import time_steps
from modelwright.training.optimizers import Optimizer, group_parameters
from tests.training import small
from tests.training.small import StopAt

SCRIPT = Path(small.__file__)


def test_it_learns_and_ships_the_best_epoch(tmp_path):
    found, report = small.trained(tmp_path, epochs=25)
    accuracies = [record["val_accuracy"] for record in report.history]
    assert max(accuracies) > 0.8
    assert (
        report.chosen == accuracies.index(max(accuracies)) or accuracies.count(max(accuracies)) > 1
    )
    assert not found.network.training
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["val_accuracy"] for line in lines] == accuracies
    # Planning takes time too, in which no sample passes.
    assert report.samples_per_s >= 32 * report.steps / report.seconds


def test_the_given_candidate_is_left_as_it_was(tmp_path):
    start = small.candidate()
    kept = small.candidate()
    small.trained(tmp_path, start=start, epochs=1)
    assert small.equal(start.network, kept.network)


def test_the_same_seed_gives_the_same_bits(tmp_path):
    one, _ = small.trained(tmp_path / "a", epochs=3)
    other, _ = small.trained(tmp_path / "b", epochs=3)
    assert small.equal(one.network, other.network)


@pytest.mark.parametrize("average", [None, {"name": "ema"}, {"name": "look-ahead"}])
@pytest.mark.parametrize(
    "optimizer", [{"name": "sgd", "lr": 0.1}, {"name": "adamw"}, {"name": "muon", "lr": 0.02}]
)
def test_resumed_is_undisturbed(tmp_path, optimizer, average):
    setting = {"epochs": 5, "optimizer": optimizer, "average": average}
    undisturbed, whole = small.trained(tmp_path / "whole", **setting)
    folder = tmp_path / "cut"
    for step in (7, 20):
        with pytest.raises(StoppedError, match="stopped"):
            small.trained(folder, observe=StopAt(step), **setting)
    resumed, report = small.trained(folder, **setting)
    assert small.equal(resumed.network, undisturbed.network)
    without_time = [{k: v for k, v in r.items() if k != "seconds"} for r in report.history]
    assert without_time == [{k: v for k, v in r.items() if k != "seconds"} for r in whole.history]
    assert len(read_lines(folder / "metrics.jsonl")) == len(whole.history)


def test_adapters_are_resumed_undisturbed_and_the_rest_stands_still(tmp_path):
    start = small.candidate(batch_norm=False)
    before = {name: item.clone() for name, item in start.network.state_dict().items()}
    torch.manual_seed(5)
    adapt(start.network, rank=3, alpha=6.0, match=("*",), head=False)
    setting = {"epochs": 5, "optimizer": {"name": "adamw", "lr": 0.01}, "start": start}
    undisturbed, _ = small.trained(tmp_path / "whole", **setting)
    with pytest.raises(StoppedError, match="stopped"):
        small.trained(tmp_path / "cut", observe=StopAt(7), **setting)
    resumed, _ = small.trained(tmp_path / "cut", **setting)
    assert small.equal(resumed.network, undisturbed.network)
    after = resumed.network.state_dict()
    assert all(torch.equal(after[name], item) for name, item in before.items())
    assert any(after[name].any() for name in after if name.endswith("lora_b"))


def test_a_group_that_stands_still_is_so_after_a_resume_too(tmp_path):
    held = [{"match": "*bias", "lr": 2.0, "until": 0.1}]
    setting = {"epochs": 5, "groups": held, "clip_norm": 0.1}
    undisturbed, _ = small.trained(tmp_path / "whole", **setting)
    with pytest.raises(StoppedError, match="stopped"):
        small.trained(tmp_path / "cut", observe=StopAt(20), **setting)
    resumed, _ = small.trained(tmp_path / "cut", **setting)
    assert small.equal(resumed.network, undisturbed.network)


def start_training(folder, epochs):
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.training.small", str(folder), str(epochs)]
    return subprocess.Popen(command, cwd=SCRIPT.parents[2])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_points_it_comes_to_the_same_weights(tmp_path, seed):
    chance = random.Random(seed)
    undisturbed = tmp_path / "whole"
    assert start_training(undisturbed, 150).wait() == 0
    folder, kills = tmp_path / "killed", 0
    while not (folder / "final.pt").exists():
        process = start_training(folder, 150)
        if kills < 6:
            # Once the first checkpoint stands, at any moment, of writing one too.
            while process.poll() is None and not list((folder).glob("checkpoints/step-*")):
                time.sleep(0.01)
            time.sleep(chance.uniform(0.0, 1.5 if kills else 0.3))
            process.kill()
            kills += 1
        process.wait()
    kept, found = (torch.load(at / "final.pt", weights_only=True) for at in (undisturbed, folder))
    assert kills
    assert kept.keys() == found.keys()
    assert all(torch.equal(kept[name], found[name]) for name in kept)


def test_a_kill_leaves_a_checkpoint_that_goes_on(tmp_path):
    undisturbed = tmp_path / "whole"
    small.trained(undisturbed, epochs=60)
    folder = tmp_path / "killed"
    process = start_training(folder, 400)
    while process.poll() is None and len(read_lines(folder / "metrics.jsonl")) < 40:
        time.sleep(0.01)
    process.kill()
    process.wait()
    said = []
    found, _ = small.trained(folder, observe=lambda p: said.append(p.note), epochs=400)
    whole, _ = small.trained(tmp_path / "again", epochs=400)
    assert any("Going on from step" in note for note in said)
    assert small.equal(found.network, whole.network)


def test_a_training_that_runs_away_is_stopped_with_advice(tmp_path):
    with pytest.raises(TrainingError) as raised:
        small.trained(
            tmp_path,
            start=small.candidate(batch_norm=False),
            epochs=30,
            average=None,
            optimizer={"name": "sgd", "lr": 1000.0},
        )
    assert "diverged" in str(raised.value)
    assert "train.optimizer.lr" in str(raised.value)


def test_a_training_that_changes_nothing_is_refused(tmp_path):
    start = small.candidate(batch_norm=False)
    for parameter in start.network.parameters():
        parameter.requires_grad = False
    with pytest.raises(TrainingError, match="no parameter"):
        small.trained(tmp_path, start=start, epochs=1)


class Recorder:
    """A constraint that does nothing but keep the weights after each step."""

    def __init__(self, network):
        self.network, self.seen = network, []

    def after_step(self, step, progress):
        weights = {name: item.detach().clone() for name, item in self.network.named_parameters()}
        self.seen.append((step, progress, weights))

    def applied(self):
        return contextlib.nullcontext()

    def state(self):
        return {}

    def load_state(self, state):
        pass


def averaged(spec, seen, last):
    """Return the averages of the recorded weights after step `last`, written out."""
    start = dict(small.candidate(batch_norm=False).network.named_parameters())
    slow = {name: item.detach().clone() for name, item in start.items()}
    for step, progress, weights in seen[:last]:
        kept = min(0.9, (1 + step) / (10 + step))
        if spec["name"] == "look-ahead":
            if step % spec["every"]:
                continue
            kept = spec["decay"] ** spec["every"] * progress ** spec["power"]
        for name in slow:
            slow[name] = kept * slow[name] + (1 - kept) * weights[name]
    return slow


@pytest.mark.parametrize("select", ["best", "last"])
@pytest.mark.parametrize(
    "average",
    [
        {"name": "ema", "decay": 0.9},
        {"name": "look-ahead", "every": 3, "decay": 0.95, "power": 2.0},
    ],
    ids=lambda item: item["name"],
)
def test_what_is_shipped_is_the_average(tmp_path, average, select):
    recorders = []

    def recorded(network, parts):
        recorders.append(Recorder(network))
        return replace(parts, constraints=(recorders[0], *parts.constraints))

    start = small.candidate(batch_norm=False)
    new, report = small.trained(
        tmp_path, start=start, change=recorded, average=average, select=select, epochs=4
    )
    chosen = report.history[-1 if report.chosen is None else report.chosen]
    seen = recorders[0].seen
    expected = averaged(average, seen, int(chosen["step"]))
    for name, item in new.network.named_parameters():
        torch.testing.assert_close(item, expected[name], rtol=1e-4, atol=1e-5)
    own = seen[int(chosen["step"]) - 1][2]
    assert any(not torch.equal(own[name], expected[name]) for name in own)


@pytest.mark.parametrize(("decay", "is_said"), [(0.999, True), (0.5, False)])
def test_an_average_that_never_comes_to_its_decay_is_told(tmp_path, decay, is_said):
    notes = []
    average = {"name": "ema", "decay": decay}
    small.trained(
        tmp_path, average=average, epochs=2, observe=lambda progress: notes.append(progress.note)
    )
    assert any(f"`train.average.decay: {decay}` has no effect" in it for it in notes) == is_said


def test_progress_says_how_far_it_is_and_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("modelwright.training.loop._PROGRESS_S", 0.0)
    told = []
    small.trained(tmp_path, epochs=2, checkpoint_every="1h", observe=told.append)
    steps = [item for item in told if item.stage == "train" and "left_s" in item.values]
    assert [item.done for item in steps] == [*range(2, 7), *range(8, 14)]  # Not at an epoch's end.
    for item in steps:
        assert item.total == 14
        assert item.values["epoch"] == pytest.approx(item.done / 7)
        assert 0.5 < item.values["loss"] < 2.0
        # 32 samples a step.
        speed, left = item.values["samples_per_s"], item.values["left_s"]
        assert speed * left == pytest.approx(32 * (14 - item.done))


def test_patience_stops_early(tmp_path):
    _, report = small.trained(tmp_path, epochs=400, patience=2)
    assert len(report.history) < 400
    assert report.chosen == len(report.history) - 3


def test_a_budget_ends_in_time_with_the_schedule_at_its_end(tmp_path):
    _, report = small.trained(tmp_path, epochs=None, budget="1.5s")
    taken = small.run_in(tmp_path).decisions.taken()
    assert taken["steps"]["why"] == "budget"
    revisions = [name for name in taken if name.startswith("steps_from_")]
    assert revisions
    last = max(revisions, key=lambda name: int(name.rpartition("_")[2]))
    assert report.steps == taken[last]["total"]


def test_a_budget_of_too_few_epochs_is_said_before_the_first_step(tmp_path):
    seen = []
    small.trained(tmp_path, epochs=None, budget="0.001s", observe=seen.append)
    said = next(at for at, item in enumerate(seen) if "holds about" in item.note)
    assert "fewer than three" in seen[said].note
    assert all(item.note for item in seen[:said])  # No step was reported before it.


def test_measured_steps_are_those_of_the_loop(tmp_path):
    spec = small.spec(epochs=3)
    cost = time_steps(
        small.candidate(),
        spec,
        small.dataset(),
        small.run_in(tmp_path, observe=small.silent),
        task=TASKS["image-classification", OutputKind.SINGLE_LABEL],
        augment=small.AUGMENT,
    )
    assert cost.step_s > 0
    assert cost.validation_s > 0
    assert cost.before_bytes is None or 0 < cost.before_bytes <= cost.peak_bytes
    assert not (tmp_path / "checkpoints").exists()


def test_a_budgeted_run_replays_its_decisions(tmp_path):
    _, report = small.trained(tmp_path, epochs=None, budget="1s")
    taken = small.run_in(tmp_path).decisions.taken()
    for kept in (tmp_path / "checkpoints").iterdir():
        for file in kept.iterdir():
            file.unlink()
        kept.rmdir()
    (tmp_path / "metrics.jsonl").unlink()
    _, replayed = small.trained(tmp_path, epochs=None, budget="1s")
    assert replayed.steps == report.steps
    assert small.run_in(tmp_path).decisions.taken() == taken


def test_without_validation_the_last_weights_are_shipped(tmp_path):
    whole = small.dataset()
    data = type(whole)(train=whole.train, validation=None, labels=whole.labels)
    _, report = small.trained(tmp_path, data=data, epochs=2)
    assert report.chosen is None
    assert len(report.history) == 2


def test_accumulation_leaves_the_weights_alike(tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        start = small.candidate(batch_norm=False, dropout=0.0)
        one, _ = small.trained(tmp_path / "a", start=start, epochs=2)
        parts, _ = small.trained(tmp_path / "b", start=start, epochs=2, gradient_accumulation=3)
    finally:
        torch.set_default_dtype(torch.float32)
    for a, b in zip(one.network.parameters(), parts.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_statistics_of_a_part_of_a_batch_are_said_to_be_so(tmp_path, parts, batch_norm):
    notes = []
    start = small.candidate(batch_norm=batch_norm)
    observe = lambda progress: notes.append(progress.note)  # noqa: E731
    small.trained(tmp_path, start=start, epochs=0.3, gradient_accumulation=parts, observe=observe)
    is_said = any("BatchNorm takes its statistics per process and part" in note for note in notes)
    assert is_said == (batch_norm and parts > 1)


def test_full_batch_gradient_descent_takes_one_step_an_epoch(tmp_path):
    _, report = small.trained(tmp_path, epochs=4, optimizer={"name": "gd", "lr": 0.1})
    assert report.steps == 4


def test_the_training_loss_of_an_epoch_is_that_of_its_own_steps(tmp_path):
    """Of one step over all samples it is the loss that the epoch before ended with."""
    data = small.dataset()
    data = replace(data, validation=replace(data.train, name="validation"))
    _, report = small.trained(
        tmp_path,
        start=small.candidate(batch_norm=False, dropout=0.0),
        data=data,
        augment=AugmentSpec(),
        epochs=5,
        optimizer={"name": "gd", "lr": 0.5},
        average=None,
    )
    ends = [record["val_log_loss"] for record in report.history]
    assert ends[-1] < ends[0] - 0.01
    losses = [record["train_loss"] for record in report.history]
    assert losses[1:] == pytest.approx(ends[:-1], rel=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "one-cycle", "trapezoid"])
def test_a_single_step_learns(tmp_path, schedule):
    _, report = small.trained(tmp_path, epochs=0.01, schedule={"name": schedule})
    assert report.steps == 1


def test_validation_in_parts_scores_alike(tmp_path, monkeypatch):
    _, whole = small.trained(tmp_path / "whole", data=small.dataset(6000))
    monkeypatch.setattr("modelwright.training.validation.OUTPUTS_AT_ONCE", 1)
    _, parts = small.trained(tmp_path / "parts", data=small.dataset(6000))
    for one, other in zip(whole.history, parts.history, strict=True):
        assert one["val_accuracy"] == pytest.approx(other["val_accuracy"], abs=1e-12)
        # In fp32 a batch of one is summed in another order than one of 500.
        assert one["val_log_loss"] == pytest.approx(other["val_log_loss"], rel=1e-6)


def test_smaller_images_first(tmp_path):
    sizes = []

    class Eye(nn.Module):
        def forward(self, pixels):
            if self.training:
                sizes.append(pixels.shape[1])
            return pixels.float().mean((1, 2)) / 255

    start = small.candidate()
    network = nn.Sequential(Eye(), nn.Linear(1, 3))
    start = type(start)(network, start.task, start.input, start.labels, {})
    _, report = small.trained(
        tmp_path, start=start, epochs=2, resolution=[{"until": 0.5, "size": 4}]
    )
    # Two samples are passed through at both sizes before anything is decided.
    assert sizes[:2] == [4, 6]
    assert sizes[2:] == [4] * (report.steps // 2) + [6] * (report.steps - report.steps // 2)


def test_what_cannot_pass_is_refused_before_training(tmp_path):
    with pytest.raises(TrainingError, match="more than one sample in each part"):
        small.trained(tmp_path, epochs=1, batch_size=1)
    with pytest.raises(TrainingError, match="can't take images of 4 pixels"):
        small.trained(tmp_path, epochs=1, resolution=[{"until": 0.5, "size": 4}])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_group_stands_still_after_its_share(tmp_path):
    start = small.candidate()
    found, _ = small.trained(
        tmp_path / "a",
        start=start,
        epochs=4,
        average=None,
        select="last",
        groups=[{"match": "2.bias", "lr": 1.0, "until": 0.5}],
    )
    whole, _ = small.trained(tmp_path / "b", start=start, epochs=4, average=None, select="last")
    before = start.network.state_dict()["2.bias"]
    assert not torch.equal(found.network.state_dict()["2.bias"], before)
    assert not small.equal(found.network, whole.network)


def test_frozen_norms_keep_their_statistics(tmp_path):
    start = small.candidate()
    norm = start.network[3]
    for parameter in norm.parameters():
        parameter.requires_grad = False
    found, _ = small.trained(tmp_path, start=start, epochs=1, average=None)
    assert torch.equal(found.network[3].running_mean, norm.running_mean)


def test_a_run_killed_before_its_first_checkpoint_starts_its_history_anew(tmp_path):
    with pytest.raises(StoppedError):
        small.trained(tmp_path, observe=StopAt(20), epochs=5)
    for kept in (tmp_path / "checkpoints").iterdir():
        for file in kept.iterdir():
            file.unlink()
        kept.rmdir()
    _, report = small.trained(tmp_path, epochs=5)
    assert len(read_lines(tmp_path / "metrics.jsonl")) == len(report.history) == 5


def test_validation_samples_of_classes_that_training_has_none_of_count_as_wrong(tmp_path):
    data = small.dataset()
    targets = data.validation.targets.copy()
    targets[:30] = 4
    strange = replace(data.validation, targets=targets, unknown=("y", "z"))
    one, plain = small.trained(tmp_path / "a", epochs=3, data=data, select="last")
    other, report = small.trained(
        tmp_path / "b", epochs=3, data=replace(data, validation=strange), select="last"
    )
    assert small.equal(one.network, other.network)
    for record, before in zip(report.history, plain.history, strict=True):
        assert math.isfinite(record["val_log_loss"])
        assert record["val_accuracy"] <= before["val_accuracy"] <= record["val_accuracy"] + 0.5


def test_without_a_validation_sample_of_a_known_class_nothing_breaks(tmp_path):
    data = small.dataset()
    nothing = replace(data.validation, targets=np.full(60, 3), unknown=("z",))
    _, report = small.trained(tmp_path, epochs=2, data=replace(data, validation=nothing))
    assert [record["val_accuracy"] for record in report.history] == [0.0, 0.0]
    assert report.chosen == 0


# -- the last layer first, and slower layers below it -----------------------------------------


class WithHead(nn.Module):
    """A pretrained body and a new last layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            small.Pixels(), nn.Flatten(), nn.Linear(36, 24), nn.BatchNorm1d(24), nn.ReLU()
        )
        self.head = nn.Linear(24, 3)

    def forward(self, pixels):
        return self.head(self.body(pixels))


def with_head():
    torch.manual_seed(3)
    return replace(small.candidate(), network=WithHead())


UNFROZEN = {"average": None, "select": "last", "optimizer": {"name": "adamw", "lr": 0.01}}


def changed(start, network):
    before, after = start.network.state_dict(), network.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_the_last_layer_learns_alone_until_the_whole_network_does(tmp_path):
    start = with_head()
    found, _ = small.trained(
        tmp_path / "a", start=start, epochs=4, unfreeze={"at": 0.999, "lr": 1e-9}, **UNFROZEN
    )
    # At the last step the others learn too, by next to nothing.
    held = start.network.state_dict()["body.2.weight"]
    torch.testing.assert_close(found.network.state_dict()["body.2.weight"], held, rtol=0, atol=1e-6)
    norms = int(found.network.state_dict()["body.3.num_batches_tracked"])
    assert norms <= 1
    whole, report = small.trained(
        tmp_path / "b", start=start, epochs=4, unfreeze={"at": 0.5, "lr": 0.1}, **UNFROZEN
    )
    assert changed(start, whole.network) == set(start.network.state_dict())
    assert int(whole.network.state_dict()["body.3.num_batches_tracked"]) == report.steps // 2


def test_stopped_while_the_last_layer_learns_alone_it_goes_on_to_the_same_bits(tmp_path):
    settings = {"start": with_head(), "epochs": 4, "unfreeze": {"at": 0.5}, **UNFROZEN}
    whole, _ = small.trained(tmp_path / "whole", **settings)
    for step in (7, 20):
        with pytest.raises(StoppedError):
            small.trained(tmp_path / "parts", observe=StopAt(step), **settings)
    parts, _ = small.trained(tmp_path / "parts", **settings)
    assert small.equal(whole.network, parts.network)


def test_a_last_layer_that_is_held_still_cant_learn_first(tmp_path):
    groups = [{"match": "head.*", "lr": 0}]
    with pytest.raises(TrainingError, match="held still"):
        small.trained(tmp_path, start=with_head(), unfreeze={}, groups=groups, **UNFROZEN)


def test_layers_of_rate_zero_take_no_gradient_and_their_norms_stand_still(tmp_path):
    start, groups = with_head(), [{"match": "body.[23].*", "lr": 0}]
    found, _ = small.trained(tmp_path, start=start, epochs=1, groups=groups, **UNFROZEN)
    assert changed(start, found.network) == {"head.weight", "head.bias"}
    network = copy.deepcopy(start.network)
    Optimizer(network, small.spec(groups=groups))
    learning = {name for name, item in network.named_parameters() if item.requires_grad}
    assert learning == {"head.weight", "head.bias"}


def test_layer_decay_slows_each_layer_down_by_a_factor():
    network = with_head().network
    spec = small.spec(layer_decay=0.5, groups=[{"match": "head.bias", "lr": 3.0}])
    rates = {
        name: group.factor(0.0)
        for group in group_parameters(network, spec)
        for name in group.parameters
    }
    assert rates == {
        "head.weight": 1.0,
        "head.bias": 3.0,
        "body.3.weight": 0.5,
        "body.3.bias": 0.5,
        "body.2.weight": 0.25,
        "body.2.bias": 0.25,
    }
