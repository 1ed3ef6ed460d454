"""`model: auto`: a linear model and a network are trained, and the better on validation ships."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from modelwright import modelfile
from modelwright.data import prepare
from modelwright.errors import TrainingError
from modelwright.files import read_json
from modelwright.pipeline import check, model_selection, run
from modelwright.pipeline.model_selection import Trained, least_lead, select_model
from modelwright.pipeline.network_choice import NetworkChoice
from modelwright.pipeline.request import read_request, run_in
from modelwright.run import StageReport, silent
from modelwright.training.linear import FitTiming
from tests.whole.test_linear import write_texts

AUTO = """\
version: 1
task: text-classification
data: {{source: table, path: texts.csv, split_column: split{more}}}
train: {{{train}, precision: fp32}}
evaluate: {{latency: false}}
resources: {{threads: 1}}
"""


@pytest.fixture
def recipe(tmp_path):
    write_texts(tmp_path / "texts.csv", ["praise", "blame", "neither"])

    def written(train, more=""):
        path = tmp_path / "recipe.yaml"
        path.write_text(AUTO.format(train=train, more=more), "utf-8")
        return path

    return written


def test_the_better_one_ships_and_the_report_says_why(recipe, tmp_path):
    result = run(recipe("epochs: 1"), out=tmp_path)
    decided = read_json(result.folder / "decisions.json")["model_selection"]
    assert decided["chosen"] == "linear"  # A pass over 120 texts teaches a network little.
    assert decided["linear"] > decided["network"]
    packed = modelfile.describe(result.model)
    assert packed["lineage"][-2]["step"] == "choose"
    assert modelfile.load(result.model).spec.architecture["name"] == "linear"
    page = result.report.read_text("utf-8")
    assert "A linear model and a network were trained; the linear model ships" in page
    assert (result.folder / "stages/linear/metrics.jsonl").exists()
    assert (result.folder / "stages/train/metrics.jsonl").exists()


def test_without_time_or_validation_no_model_is_selected(recipe, tmp_path):
    notes = []
    result = run(
        recipe("budget: 1s"),
        out=tmp_path,
        name="short",
        observe=lambda item: notes.append(item.note),
    )
    assert modelfile.load(result.model).spec.architecture["name"] == "linear"
    assert any("No network is trained" in note for note in notes)
    text = (tmp_path / "texts.csv").read_text("utf-8")
    (tmp_path / "texts.csv").write_text(text.replace(",val", ",train"), "utf-8")
    result = run(recipe("epochs: 1", ", split: {val: 0}"), out=tmp_path, name="whole")
    architecture = modelfile.load(result.model).spec.architecture
    assert architecture["name"] == "bow"
    # The size follows the words seen: 262,144 hashed vectors would take 67 MB.
    decided = read_json(result.folder / "decisions.json")
    assert architecture["buckets"] == decided["buckets"]["buckets"] <= 4096
    assert result.model.stat().st_size < 3_000_000


def test_the_forecast_holds_both(recipe):
    both = check(recipe("epochs: 1")).forecast
    network = check(recipe("epochs: 1"), overrides=["model={name: bow}"]).forecast
    assert both.steps == network.steps
    assert both.training_s > 0


def test_a_lead_within_a_standard_error_is_none():
    # Of a share: the root of p (1 - p) / n, and half a point at most.
    assert least_lead("accuracy", 0.9, 9000) == pytest.approx(0.00316, abs=1e-5)
    assert least_lead("accuracy", 0.9, 90) == 0.005
    assert least_lead("r2", 0.9, 900) == 0.0


def test_with_very_many_classes_a_linear_model_that_takes_too_long_is_left_out(tmp_path):
    rows = "".join(f"words of kind {at // 2} and {at},kind {at // 2}\n" for at in range(2002))
    (tmp_path / "t.csv").write_text("text,label\n" + rows, "utf-8")
    (tmp_path / "r.yaml").write_text(
        "version: 1\ntask: text-classification\ndata: {source: table, path: t.csv}\n"
        "train: {budget: 0.01s}\n",
        "utf-8",
    )
    request, notes = read_request(tmp_path / "r.yaml"), []
    context = run_in(request, tmp_path / "run", observe=lambda item: notes.append(item.note))
    prepared = prepare(request.recipe, base=tmp_path, observe=silent)
    trained = select_model(request, prepared, context, lambda asked: "the network")
    assert trained == "the network"
    assert any("left out: with 1,001 classes it would take about" in note for note in notes)


def test_of_many_samples_a_linear_model_learns_from_a_part(recipe, tmp_path, monkeypatch):
    class BegunError(Exception):
        pass

    def network(choice):
        raise BegunError

    timing = FitTiming(seconds=5.0, feature_bytes=0, held_bytes=None)
    monkeypatch.setattr(model_selection, "time_linear", lambda *_, **__: timing)
    monkeypatch.setattr(model_selection, "_MANY_SAMPLES", 100)
    request, notes = read_request(recipe("budget: 20s")), []
    context = run_in(request, tmp_path / "run", observe=lambda item: notes.append(item.note))
    prepared = prepare(request.recipe, base=tmp_path, observe=silent)
    with pytest.raises(BegunError):
        select_model(request, prepared, context, network)
    # Half of the budget is for linear models, and a fifth of that for this one.
    assert any("fitted to 48 of 120 training samples" in note for note in notes)


@dataclass
class Fitted:
    """Of a candidate what a choice looks at."""

    reports: tuple[StageReport, ...]
    lineage: tuple[dict[str, object], ...] = ()


@pytest.fixture
def networks(recipe, tmp_path, monkeypatch):
    """Train a published network, and what it leaves time for, with given scores."""

    def trained(scores, *, taken_s=1.0, more="", budget="100s"):
        texts = tmp_path / "texts.csv"
        if more:
            texts.write_text(texts.read_text("utf-8").replace(",val", ",train"), "utf-8")
        request = read_request(recipe(f"budget: {budget}", more))
        context = run_in(request, tmp_path / "run", observe=silent)
        prepared = prepare(request.recipe, base=tmp_path, observe=silent)
        choice = NetworkChoice(request, prepared, "", True, default_epoch_s=1.0)
        asked = []

        def train_network(choice):
            asked.append(choice)
            if isinstance(scores[len(asked) - 1], Exception):
                raise scores[len(asked) - 1]
            return Trained(Fitted((StageReport("train", taken_s),)), prepared)

        def scored(models, recipe, context):
            return dict(zip(models, scores, strict=True))

        monkeypatch.setattr(model_selection, "_scored", scored)
        found = model_selection._networks(choice, request, prepared, context, train_network)
        return found, asked, context

    return trained


@pytest.mark.parametrize(
    ("scores", "chosen", "other"),
    [((0.8, 0.9), "default", "published"), ((0.9, 0.8), "published", "default")],
)
def test_the_better_of_two_networks_is_taken_and_the_other_one_kept(
    networks, scores, chosen, other
):
    found, asked, context = networks(scores)
    assert [choice.suffix for choice in asked] == ["", "-2"]
    assert asked[1].request.recipe.train.budget == "99.000s"
    assert found.candidate.lineage[-1]["chosen"] == chosen
    assert list(found.others) == [other]
    assert context.decisions.taken()["network_scores"] == dict(
        zip(("published", "default"), scores, strict=True)
    )


@pytest.mark.parametrize(
    "given", [{"taken_s": 95.0}, {"more": ", split: {val: 0}"}], ids=["no time", "no validation"]
)
def test_without_time_or_validation_the_default_family_is_not_trained_too(networks, given):
    found, asked, _ = networks((0.9,), **given)
    assert len(asked) == 1
    assert not found.others


def test_a_second_training_that_fails_costs_nothing_of_the_first(networks):
    found, asked, _ = networks((0.9, TrainingError("the loss became infinite")))
    assert len(asked) == 2
    assert not found.others
