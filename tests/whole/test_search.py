"""`compress: auto` and `model: auto` under limits, from end to end."""

from __future__ import annotations

import json
import re

import pytest

import modelwright as mw
from modelwright import modelfile
from modelwright.cli.main import main
from modelwright.errors import DataError, RecipeError, RequestError, ResourceError, StoppedError
from modelwright.pipeline import chains, model_selection, searching
from modelwright.pipeline.compressing import network_request
from modelwright.pipeline.request import read_request, run_in
from modelwright.recipe.spec import seconds
from modelwright.run import silent
from tests.whole.test_linear import write_texts

RECIPE = {
    "version": 1,
    "data": {"source": "digits", "limit": 600},
    "model": {"name": "cnn", "blocks": [{"filters": 16}, {"filters": 32}]},
    "train": {"epochs": 4, "optimizer": {"name": "adamw", "lr": 0.005}},
    "compress": "auto",
    "evaluate": {"baselines": False},
    "resources": {"threads": 1},
}
LIMITS = {"targets": {"size_bytes": "<= 40_000"}}


@pytest.fixture(autouse=True)
def few_trials(monkeypatch):
    monkeypatch.setattr(searching, "MOST_TRIALS", 4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "MOST_TRIALS", 4)
        return mw.run({**RECIPE, **LIMITS}, out=tmp_path_factory.mktemp("runs"), name="digits")


def record(result):
    return json.loads((result.folder / "search.json").read_text())


def test_what_ships_meets_the_limit_and_is_the_best_that_does(finished):
    assert finished.passed
    found = record(finished)
    assert found["targets"] == {"size_bytes": "<= 40_000"}
    accuracy = {item["name"]: item["figures"]["accuracy"]["value"] for item in found["points"]}
    size = {item["name"]: item["figures"]["size_bytes"]["value"] for item in found["points"]}
    assert size[found["chosen"]] == modelfile.describe(finished.model)["size_bytes"]
    assert accuracy[found["chosen"]] == max(
        value for name, value in accuracy.items() if size[name] <= 40_000
    )
    assert next(iter(accuracy)) == "cnn"  # The network as it was trained.
    assert size["cnn"] > 40_000
    assert found["chosen"] in found["front"]
    assert "has the best `accuracy`" in found["notes"][0]


def test_the_file_is_whole_and_the_test_set_was_opened_once(finished):
    modelfile.verify(finished.model, sandbox=False)
    tested = [
        item for item in finished.ledger if item.metric == "accuracy" and item.split == "test"
    ]
    assert len({item.model for item in tested if item.subject == "model"}) == 1
    assert finished.ledger.find("size_ratio").value > 2
    kept = modelfile.load(finished.model).inference.temperature
    assert kept == (pytest.approx(finished.ledger.find("temperature").value),)
    again = modelfile.load(finished.model)
    found = finished.ledger.find("log_loss")
    assert found.model == again.digest


def test_files_of_the_front_are_kept_and_nothing_else_of_the_search(finished):
    found = record(finished)
    kept = {path.stem for path in (finished.folder / "front").iterdir()}
    assert kept == {str(at) for at, name in enumerate(found["front"]) if name != "cnn"}
    for path in (finished.folder / "front").iterdir():
        name = found["front"][int(path.stem)]
        (point,) = [item for item in found["points"] if item["name"] == name]
        described = modelfile.describe(path)
        assert described["size_bytes"] == point["figures"]["size_bytes"]["value"]
    assert not (finished.folder / "search").exists()
    assert not (finished.folder / "search.db").exists()


def test_the_report_shows_what_was_tried(finished):
    page = finished.report.read_text()
    section = page[page.index("What the search tried") :]
    for item in record(finished)["points"]:
        assert item["name"].replace("→", "→") in section
    assert section.count("<b>ships</b>") == 1
    assert re.search(r"<title>.* by size of the model</title>", section)
    named = set(re.findall(r"front/\d+\.mw", section))
    assert named == {f"front/{path.name}" for path in (finished.folder / "front").iterdir()}


def test_run_again_it_is_finished(finished):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "MOST_TRIALS", 4)
        again = mw.run({**RECIPE, **LIMITS}, out=finished.folder.parent, name="digits")
    assert again.finished_before


@pytest.mark.parametrize("stopped_at", [3, pytest.param(9, marks=pytest.mark.slow)])
def test_stopped_it_goes_on_to_the_same(finished, tmp_path, monkeypatch, stopped_at):
    calls, point = [], chains.Chains.point

    def stopping(self, start, steps):
        calls.append(steps)
        if len(calls) == stopped_at:
            raise StoppedError("stopped here")
        return point(self, start, steps)

    monkeypatch.setattr(chains.Chains, "point", stopping)
    with pytest.raises(StoppedError):
        mw.run({**RECIPE, **LIMITS}, out=tmp_path, name="digits")
    result = mw.run({**RECIPE, **LIMITS}, out=tmp_path, name="digits")
    found, expected = record(result), record(finished)
    for key in ("figures", "seconds"):  # Times differ.
        for item in (*found["points"], *expected["points"]):
            item.pop(key, None)
    assert found["points"] == expected["points"]
    assert found["rejected"] == expected["rejected"]


@pytest.mark.slow
def test_a_trial_that_ends_the_process_twice_is_given_up(tmp_path, monkeypatch):
    write, killed = chains.write_candidate, []

    def dying(path, candidate, *more, **options):
        if any(step["step"] == "quantize" for step in candidate.lineage):
            killed.append(path)
            raise KeyboardInterrupt  # As if the process ended: nothing is noted of the trial.
        return write(path, candidate, *more, **options)

    monkeypatch.setattr(chains, "write_candidate", dying)
    for _ in range(12):
        try:
            result = mw.run({**RECIPE, **LIMITS}, out=tmp_path, name="digits")
            break
        except KeyboardInterrupt:
            continue
    given_up = [why for why in record(result)["rejected"].values() if "ended twice" in why]
    assert given_up
    assert len(killed) == 2 * len(given_up)


@pytest.mark.slow
def test_a_full_disk_stops_the_search_which_goes_on_later(tmp_path, monkeypatch):
    write = chains.write_candidate
    with monkeypatch.context() as patch:

        def full(path, *more, **options):
            if path.parent.name == "search":
                raise ResourceError("the disk is full", where=str(path))
            return write(path, *more, **options)

        patch.setattr(chains, "write_candidate", full)
        with pytest.raises(ResourceError, match="disk is full"):
            mw.run({**RECIPE, **LIMITS}, out=tmp_path, name="digits")
    assert mw.run({**RECIPE, **LIMITS}, out=tmp_path, name="digits").passed


def test_what_cannot_be_met_is_said_with_the_distance_and_what_would_help(tmp_path):
    targets = {"latency_p50_ms": "<= 0", "accuracy": ">= 0.5"}
    result = mw.run({**RECIPE, "targets": targets}, out=tmp_path, name="digits")
    assert not result.passed
    notes = record(result)["notes"]
    assert "None of" in notes[0]
    assert "100% off" in notes[0]
    assert any(note.startswith("With `latency_p50_ms") for note in notes[1:])


@pytest.mark.slow
def test_without_a_limit_it_looks_for_the_smallest_that_is_hardly_worse(tmp_path):
    result = mw.run(RECIPE, out=tmp_path, name="digits")
    found = record(result)
    (bound,) = found["targets"].values()
    assert bound.startswith(">= 0.")
    assert result.ledger.find("size_ratio").value > 1
    assert "costs least" in found["notes"][0]


def test_what_meets_its_targets_already_is_left_as_it_is(tmp_path):
    targets = {"size_bytes": "<= 4_000_000"}
    result = mw.run({**RECIPE, "targets": targets}, out=tmp_path, name="digits")
    assert result.passed
    assert "as it is" in record(result)["notes"][0]
    assert result.ledger.find("size_ratio") is None


@pytest.mark.slow
def test_a_finished_file_is_searched_from(finished, tmp_path, capsys):
    arguments = ["compress", str(finished.folder / "uncompressed.mw"), "--out", str(tmp_path)]
    settings = ["compress=auto", "targets={size_bytes: '<= 40_000'}", "train.budget=20s"]
    given = [word for item in settings for word in ("--set", item)]
    assert main([*arguments, "--name", "again", *given, "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["size_ratio"]["value"] > 2


def test_a_profile_overwrites_nothing_else(tmp_path):
    (tmp_path / "model.mw").write_bytes(b"a model")
    with pytest.raises(DataError, match="isn't the profile of a machine"):
        mw.profile(tmp_path / "model.mw", threads=1)
    assert (tmp_path / "model.mw").read_bytes() == b"a model"


def test_times_count_as_on_the_machine_that_will_serve(finished, tmp_path):
    profile = mw.profile(tmp_path / "here.json", threads=1)
    slower = {name: 5 * time for name, time in profile.milliseconds.items()}
    there = {**profile.to_json(), "hardware": "a slow one", "milliseconds": slower}
    (tmp_path / "there.json").write_text(json.dumps(there))
    recipe = {**RECIPE, "targets": {"latency_p50_ms": "<= 1e-3"}}
    recipe["evaluate"] = {"baselines": False, "profile": str(tmp_path / "there.json")}
    result = mw.run(recipe, out=tmp_path, name="digits")
    figure = result.ledger.find("latency_p50_ms")
    assert (figure.hardware, figure.basis) == ("a slow one", "derived")
    here = [item for item in result.ledger if item.metric == "latency_p50_ms" and not item.slice]
    measured = next(item for item in here if item.basis == "measured" and item.subject == "model")
    assert 3 < figure.value / measured.value < 8
    (verdict,) = result.verdicts
    assert verdict.value == figure.value
    assert str(tmp_path) not in modelfile.read(result.model).recipe


@pytest.fixture
def without_vnni(tmp_path):
    """Return sections for a machine like this one, whose processor has no VNNI."""
    there = mw.profile(tmp_path / "here.json", threads=1).to_json() | {
        "hardware": "an old one",
        "has_vnni": False,
    }
    (tmp_path / "there.json").write_text(json.dumps(there))
    return {"evaluate": {"baselines": False, "profile": str(tmp_path / "there.json")}}


def test_int8_is_made_for_the_processor_that_will_serve(finished, without_vnni, tmp_path):
    sections = {**without_vnni, "compress": [{"name": "quantize", "dtype": "int8"}], "targets": {}}
    result = mw.compress(finished.folder / "uncompressed.mw", sections, out=tmp_path)
    steps = modelfile.describe(result.model)["lineage"]
    assert [step["weight_bits"] for step in steps if step["step"] == "quantize"] == [7]
    assert any("the processor has no VNNI" in note for note in result.notes)


def test_a_speed_up_is_no_target_for_another_machine(finished, without_vnni, tmp_path):
    sections = {**without_vnni, "targets": {"speedup_batch_1": ">= 2"}}
    with pytest.raises(RecipeError, match="names another one"):
        mw.compress(finished.folder / "uncompressed.mw", sections, out=tmp_path)


def test_a_network_that_ships_as_it_is_is_compared_with_itself(finished, tmp_path):
    targets = {"gain_over_parent": ">= -0.01", "size_bytes": "<= 90_000_000"}
    sections = {"compress": "auto", "targets": targets, "inference": {"tta": "flip"}}
    result = mw.compress(finished.folder / "uncompressed.mw", sections, out=tmp_path)
    assert result.passed
    assert result.ledger.find("gain_over_parent").value == 0
    assert any("not the one given: `inference`" in note for note in result.notes)


def test_the_size_of_a_file_counts_its_evidence(finished):
    found = record(finished)
    (point,) = [item for item in found["points"] if item["name"] == found["chosen"]]
    expected = finished.model.stat().st_size
    evidence = len(finished.ledger.to_bytes())
    assert expected - evidence / 2 < point["figures"]["file_bytes"]["value"] < expected * 1.1


def test_a_network_that_keeps_to_a_limit_is_chosen_from_those_trained(tmp_path):
    recipe = {**RECIPE, "model": "auto", "compress": [], "targets": {"parameters": "<= 20_000"}}
    recipe["train"] = {"budget": "16s"}
    result = mw.run(recipe, out=tmp_path, name="digits")
    assert result.passed
    assert len(record(result)["points"]) >= 2


def test_a_search_needs_a_validation_split(tmp_path):
    recipe = {**RECIPE, "data": {**RECIPE["data"], "split": {"val": 0.0}}, **LIMITS}
    with pytest.raises((RequestError, RecipeError), match="validation"):
        mw.run(recipe, out=tmp_path, name="digits")


def texts(folder, **sections):
    write_texts(folder / "texts.csv", ["praise", "blame", "neither"])
    data = {"source": "table", "path": str(folder / "texts.csv"), "split_column": "split"}
    return {
        "version": 1,
        "task": "text-classification",
        "data": data,
        "train": {"epochs": 1, "precision": "fp32"},
        "evaluate": {"baselines": False},
        "resources": {"threads": 1},
        **sections,
    }


def test_what_ships_may_take_other_inputs_than_the_network_before(tmp_path, monkeypatch):
    monkeypatch.setattr(model_selection, "least_lead", lambda *_: -1.0)  # The network is first.
    monkeypatch.setattr(searching, "_teaching", lambda starts: None)
    recipe = texts(tmp_path, targets={"parameters": "<= 3_000"})
    result = mw.run(recipe, out=tmp_path, name="texts")
    found = record(result)
    assert found["points"][0]["name"] == "bow"
    assert found["chosen"] == "linear"
    assert result.ledger.find("gain_over_parent") is not None
    assert result.ledger.find("speedup_batch_1") is not None


def test_a_linear_model_of_texts_is_searched_from(tmp_path):
    recipe = texts(tmp_path, targets={"size_bytes": "<= 1_000"}, train={})
    recipe |= {"model": {"name": "linear"}, "compress": "auto"}
    result = mw.run(recipe, out=tmp_path, name="texts")
    assert not result.passed
    assert any("nearest" in note for note in result.notes)


def test_where_limits_are_kept_anyway_all_time_is_for_training(tmp_path):
    recipe = {**RECIPE, "model": "auto", "compress": [], "train": {"budget": "6s"}}
    searched = {}
    for name, target in (("wide", "<= 9_000_000"), ("narrow", "<= 20_000")):
        result = mw.run({**recipe, "targets": {"parameters": target}}, out=tmp_path, name=name)
        searched[name] = json.loads((result.folder / "decisions.json").read_text())["search_s"]
    assert searched["wide"] == 0
    assert searched["narrow"] > 1


def test_the_beginning_of_a_chain_whose_end_fails_is_kept(tmp_path, monkeypatch):
    stage = chains.compressing

    def failing(step):
        if step.name == "quantize":
            return lambda *_: (_ for _ in ()).throw(MemoryError)
        return stage(step)

    monkeypatch.setattr(chains, "compressing", failing)
    result = mw.run({**RECIPE, **LIMITS}, out=tmp_path, name="digits")
    found = record(result)
    assert "MemoryError" in found["rejected"].values()
    assert len(found["points"]) > 1


@pytest.mark.parametrize(("keeps_limits", "left"), [(True, (10.0, 0.0)), (False, (5.0, 5.0))])
def test_time_is_left_for_networks_that_learn_from_any_other(tmp_path, keeps_limits, left):
    recipe = {**RECIPE, "compress": [], "train": {"budget": "10s"}}  # Of a network with a name.
    request = read_request(recipe)
    context = run_in(request, tmp_path, observe=silent)
    found = network_request(request, context, keeps_limits=keeps_limits)
    decided = context.decisions.taken()["search_s"]
    assert (seconds(found.recipe.train.budget), decided) == left


def test_a_student_that_is_larger_is_refused_before_it_is_trained(tmp_path):
    recipe = {**RECIPE, "compress": [], "train": {"epochs": 1}}
    result = mw.run(recipe, out=tmp_path, name="digits")
    step = {"name": "distill", "student": {"name": "mlp", "hidden": [2000]}}
    with pytest.raises(RequestError, match="and those of the network before"):
        mw.compress(result.model, {"compress": [step]}, out=tmp_path)
    assert not (tmp_path / "digits-compressed" / "stages").exists()
