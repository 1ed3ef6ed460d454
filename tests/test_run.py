from __future__ import annotations

import os
import platform
import re

import pytest

from modelwright.errors import RequestError, ResourceError
from modelwright.files import ASIDE, write_json
from modelwright.ledger import Ledger
from modelwright.run import Decisions, Run, claimed, environment, usable_cores

RECIPE = {"train": {"epochs": 3}, "seed": 0}


def test_a_decision_is_taken_once_and_written_before_it_acts(tmp_path):
    path = tmp_path / "decisions.json"
    assert Decisions(path).decide("steps", lambda: {"total": 7}) == {"total": 7}
    again = Decisions(path).decide("steps", lambda: pytest.fail("taken twice"))
    assert again == {"total": 7}


def test_a_folder_remembers_its_recipe_and_refuses_another(tmp_path):
    with claimed(tmp_path / "a", digest="1", document=RECIPE) as folder:
        assert folder.result is None
    other = {"train": {"epochs": 4}, "seed": 0}
    write_json(tmp_path / "a" / "decisions.json", {})
    with (
        pytest.raises(RequestError, match=r"`train\.epochs` was 3 and is 4 now.*--name"),
        claimed(tmp_path / "a", digest="2", document=other),
    ):
        pass


def test_a_run_that_was_refused_leaves_its_folder_to_the_mended_recipe(tmp_path):
    with claimed(tmp_path / "a", digest="1", document=RECIPE):
        (tmp_path / "a" / "splits.parquet").touch()
    with claimed(tmp_path / "a", digest="2", document={"seed": True}):
        pass
    write_json(tmp_path / "a" / "decisions.json", {})
    with (
        pytest.raises(RequestError, match="`seed` was true and is false now"),
        claimed(tmp_path / "a", digest="3", document={"seed": False}),
    ):
        pass


def test_two_runs_with_one_name_at_once_are_refused(tmp_path):
    with (
        claimed(tmp_path / "a", digest="1", document=RECIPE),
        pytest.raises(ResourceError, match="another run with this name"),
        claimed(tmp_path / "a", digest="1", document=RECIPE),
    ):
        pass


def test_a_finished_run_is_known_by_result_and_file(tmp_path):
    with claimed(tmp_path / "a", digest="1", document=RECIPE) as folder:
        folder.finish({"passed": True})
    with claimed(tmp_path / "a", digest="1", document=RECIPE) as folder:
        assert folder.result is None  # The model file is missing, so it isn't finished.
    write_json(tmp_path / "a" / "model.mw", {})
    with claimed(tmp_path / "a", digest="1", document=RECIPE) as folder:
        assert folder.result == {"passed": True}


def test_what_a_killed_run_left_half_written_is_swept(tmp_path):
    (tmp_path / ".aside.rehearsal.x").mkdir()
    (tmp_path / ".aside.rehearsal.x" / "model.mw").write_bytes(b"half")
    (tmp_path / ".aside.model.mw.abc").write_bytes(b"half")
    (tmp_path / ".git").mkdir()
    with claimed(tmp_path, digest="a", document={}):
        assert sorted(p.name for p in tmp_path.iterdir()) == [".git", ".lock", "recipe.json"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with (
        pytest.raises(RequestError, match=r"something else than a run.*thesis\.txt.*--name"),
        claimed(tmp_path, digest="a", document={}),
    ):
        pass
    assert not (tmp_path / "recipe.json").exists()


@pytest.mark.parametrize("name", ["recipe.json", "result.json", "decisions.json"])
@pytest.mark.parametrize("held", ["", '{"half', "[1]", "{}", "a digit"])
def test_a_damaged_file_of_a_run_is_named(tmp_path, name, held):
    with claimed(tmp_path, digest="1", document=RECIPE) as folder:
        folder.finish({"passed": True})
    Decisions(tmp_path / "decisions.json").decide("steps", lambda: {"total": 7})
    (tmp_path / "model.mw").touch()
    if held == "a digit":
        held = re.sub("[37]|true", "8", (tmp_path / name).read_text(), count=1)
    (tmp_path / name).write_text(held)
    with (
        pytest.raises(ResourceError, match=rf"{name}: this file of the run is damaged.*--name"),
        claimed(tmp_path, digest="1", document=RECIPE),
    ):
        Decisions(tmp_path / "decisions.json")


def test_the_environment_names_no_place_and_no_person():
    found = environment(device="cpu")
    assert {"modelwright", "python", "system", "torch", "onnxruntime", "numpy"} <= set(found)
    assert found["device"] == "cpu"
    assert not any(name in "".join(found.values()) for name in (os.sep, platform.node()))


def test_usable_cores_are_those_of_the_process():
    assert 1 <= usable_cores() <= os.cpu_count()


def run_in(folder):
    return Run(
        folder=folder,
        seed=0,
        device="cpu",
        threads=1,
        decisions=Decisions(folder / "decisions.json"),
        ledger=Ledger(),
    )


def test_a_stage_has_a_folder_and_decisions_of_its_own(tmp_path):
    run = run_in(tmp_path)
    one, other = run.stage("one"), run.stage("other")
    run.decisions.decide("steps", lambda: 1)
    assert one.decisions.decide("steps", lambda: 2) == 2
    assert other.decisions.decide("steps", lambda: 3) == 3
    assert (one.stage_name, one.folder) == ("one", tmp_path / "stages/one")
    assert run.decisions.taken() == {"steps": 1, "one": {"steps": 2}, "other": {"steps": 3}}
    again = run_in(tmp_path).stage("other")
    assert again.decisions.decide("steps", lambda: pytest.fail("taken twice")) == 3


def test_a_stage_is_taken_once(tmp_path):
    run = run_in(tmp_path)
    run.stage("train")
    with pytest.raises(AssertionError, match="has a stage `train` already"):
        run.stage("train")


def test_what_a_killed_process_left_aside_in_a_stage_is_swept(tmp_path):
    left = run_in(tmp_path).stage("train").folder / f"{ASIDE}decisions.json"
    left.touch()
    run_in(tmp_path).stage("train")
    assert not left.exists()
