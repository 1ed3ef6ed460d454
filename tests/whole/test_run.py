"""The whole pipeline on small runs: again, cut short, killed, side by side, on a full disk."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelwright import modelfile
from modelwright.errors import DataError, RequestError, ResourceError, StoppedError
from modelwright.files import locked, read_json, read_lines
from modelwright.ledger import Ledger, exact
from modelwright.pipeline import run
from modelwright.pipeline.running import _keep_evidence
from tests.data.making import folder

DIGITS = """\
version: 1
data: {source: digits}
augment: {translate: 1}
model: {name: cnn, blocks: [{filters: 4}, {filters: 8}], head: [16]}
train:
  epochs: 1
  batch_size: 64
  optimizer: {name: adamw, lr: 0.01}
  average: {name: ema, decay: 0.9}
  precision: fp32
  compile: off
evaluate: {baselines: false, latency: false}
resources: {threads: 1, device: cpu}
"""
IN_A_RUN = {
    "decisions.json",
    "model.mw",
    "recipe.json",
    "report.html",
    "result.json",
    "samples",
    "stages",
}
"""What a finished run holds for certain, in its folder."""
METRICS = "stages/train/metrics.jsonl"


def recipe_in(folder: Path, text: str = DIGITS, **changes: str) -> Path:
    path = folder / "digits.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def hears_ctrl_c():
    """Let SIGINT interrupt, as on a terminal: a shell's background jobs are started deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """One finished run that no test changes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return run(recipe_in(folder), out=folder / "runs")


def visible(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir() if not item.name.startswith(".")}


def left_aside(folder: Path) -> list[str]:
    """Return the files and folders that writing aside has left behind."""
    return sorted(str(item) for item in folder.rglob(".*") if item.name != ".lock")


# -- a finished run ----------------------------------------------------------------------------


def test_a_run_leaves_model_report_samples_and_its_papers(undisturbed):
    folder = undisturbed.folder
    assert visible(folder) >= IN_A_RUN
    assert left_aside(folder) == []
    assert not list(folder.rglob("checkpoints"))
    assert modelfile.verify(undisturbed.model).digest == modelfile.digest(undisturbed.model)
    page = undisturbed.report.read_text(encoding="utf-8")
    accuracy = undisturbed.ledger.find("accuracy")
    assert accuracy is not None
    assert accuracy.low < accuracy.value < accuracy.high
    assert accuracy.model == modelfile.digest(undisturbed.model)
    assert f"{100 * accuracy.value:.1f}" in page
    assert len(read_lines(folder / METRICS)) == 1
    samples = sorted((folder / "samples").glob("*.png"))
    assert samples
    model = modelfile.load(undisturbed.model)
    assert all(len(model.predict(sample)) == 5 for sample in samples)


def test_the_file_bears_its_own_size(undisturbed, tmp_path):
    """Whatever the ledger holds: a checksum of fewer digits once made two sizes take turns."""
    path = tmp_path / "model.mw"
    shutil.copy(undisturbed.model, path)
    for seconds in range(60):
        others = Ledger([*undisturbed.ledger, exact("training_s", seconds, method="counted")])
        kept = _keep_evidence(path, others)
        for ledger in (kept, modelfile.load(path).ledger):
            (recorded,) = [item for item in ledger if item.metric == "file_bytes"]
            assert recorded.value == path.stat().st_size


def test_again_it_gives_the_same_result_and_works_no_more(undisturbed, tmp_path):
    shutil.copytree(undisturbed.folder.parents[1], tmp_path / "copy")
    before = {item: item.stat().st_mtime_ns for item in (tmp_path / "copy").rglob("*.*")}
    seen = []
    again = run(tmp_path / "copy/digits.yaml", out=tmp_path / "copy/runs", observe=seen.append)
    assert again.finished_before
    assert not undisturbed.finished_before
    assert seen == []
    first, second = undisturbed.to_json(), again.to_json()
    for result in (first, second):
        del result["model"], result["report"]
    assert second == first
    assert again.notes == undisturbed.notes
    changed = {item for item, at in before.items() if item.stat().st_mtime_ns != at}
    assert {item.name for item in changed} <= {".lock"}


def test_the_same_seed_gives_the_same_model_and_another_one_another(undisturbed, tmp_path):
    recipe = recipe_in(tmp_path)
    same = run(recipe, out=tmp_path / "a")
    other = run(recipe, out=tmp_path / "b", overrides=["seed=7"])
    expected = modelfile.digest(undisturbed.model)
    assert modelfile.digest(same.model) == expected
    assert modelfile.digest(other.model) != expected


def test_another_recipe_under_one_name_is_refused_with_what_differs(undisturbed, tmp_path):
    shutil.copytree(undisturbed.folder.parent, tmp_path / "runs")
    recipe = recipe_in(tmp_path, **{"lr: 0.01": "lr: 0.02"})
    with pytest.raises(RequestError) as raised:
        run(recipe, out=tmp_path / "runs")
    assert raised.value.exit_code == 2
    assert "`train.optimizer.lr` was 0.01 and is 0.02 now" in str(raised.value)
    assert "--name" in str(raised.value)
    named = run(recipe, out=tmp_path / "runs", name="other")
    assert named.folder == tmp_path / "runs/other"
    assert read_json(tmp_path / "runs/digits/result.json") == read_json(
        undisturbed.folder / "result.json"
    )


def test_where_it_runs_is_no_other_recipe(undisturbed, tmp_path):
    shutil.copytree(undisturbed.folder.parent, tmp_path / "runs")
    recipe = recipe_in(tmp_path, **{"threads: 1": "threads: 2"})
    assert run(recipe, out=tmp_path / "runs").finished_before


def test_a_missed_target_is_told_and_the_model_is_there(tmp_path):
    targets = 'targets: {accuracy: ">= 0.999", size_bytes: "<= 1_000_000"}\n'
    recipe = recipe_in(tmp_path, DIGITS + targets)
    result = run(recipe, out=tmp_path / "runs")
    again = run(recipe, out=tmp_path / "runs")
    for found in (result, again):
        assert found.passed is False
        told = {verdict.metric: verdict.passed for verdict in found.verdicts}
        assert told == {"accuracy": False, "size_bytes": True}
    assert modelfile.verify(result.model)
    assert result.to_json()["targets"] == again.to_json()["targets"]


def test_decisions_are_replayed(undisturbed, tmp_path):
    """A run that finds decisions written down takes them, whatever its own clock would say."""
    recipe = recipe_in(tmp_path, **{"epochs: 1\n": "budget: 2s\n  epochs: 30\n"})
    first = run(recipe, out=tmp_path / "a")
    files = ("decisions.json", "stages/train/decisions.json")
    taken = [read_json(first.folder / name) for name in files]
    assert any(name.startswith("steps_from_") for name in taken[1])
    claimed = tmp_path / "b/digits"
    (claimed / "stages/train").mkdir(parents=True)
    for name in (*files, "recipe.json"):
        shutil.copy(first.folder / name, claimed / name)
    second = run(recipe, out=tmp_path / "b")
    assert not second.finished_before
    assert [read_json(second.folder / name) for name in files] == taken
    assert modelfile.digest(second.model) == modelfile.digest(first.model)


def test_nothing_to_measure_on_is_told_before_training(tmp_path):
    folder(tmp_path / "pets", each=1)
    recipe = recipe_in(tmp_path, **{"{source: digits}": "{source: folder, path: pets}"})
    with pytest.raises(DataError, match="neither a test nor a validation split"):
        run(recipe, out=tmp_path / "runs")
    assert not (tmp_path / "runs/digits" / METRICS).exists()


# -- cut short ---------------------------------------------------------------------------------


class Interrupt:
    """Sends SIGINT once, when a stage is seen for the first time, or at a step of training."""

    def __init__(self, stage: str, *, done: int = 0) -> None:
        self.stage, self.done, self.was_sent = stage, done, False

    def __call__(self, progress):
        if progress.stage == self.stage and progress.done >= self.done and not self.was_sent:
            self.was_sent = True
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_in_training_saves_and_the_next_run_goes_on(tmp_path):
    recipe = recipe_in(tmp_path, **{"epochs: 1": "epochs: 3"})
    whole = run(recipe, out=tmp_path / "whole")
    for done in (1, 40):
        with pytest.raises(StoppedError, match="run the same command again"):
            run(recipe, out=tmp_path / "cut", observe=Interrupt("train", done=done))
        assert left_aside(tmp_path / "cut") == []
        assert not (tmp_path / "cut/digits/model.mw").exists()
    resumed = run(recipe, out=tmp_path / "cut")
    assert not resumed.finished_before
    assert modelfile.digest(resumed.model) == modelfile.digest(whole.model)
    assert visible(resumed.folder) == visible(whole.folder)
    epochs = [line["epoch"] for line in read_lines(resumed.folder / METRICS)]
    assert epochs == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "stage",
    ["note", "measure", *(pytest.param(s, marks=pytest.mark.slow) for s in ("store", "audit"))],
)
def test_ctrl_c_elsewhere_leaves_nothing_half_written(undisturbed, tmp_path, monkeypatch, stage):
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "cache"))
    recipe = recipe_in(tmp_path)
    interrupt = Interrupt(stage)
    try:
        run(recipe, out=tmp_path / "runs", observe=interrupt)
    except (KeyboardInterrupt, StoppedError):
        assert interrupt.was_sent
        assert left_aside(tmp_path) == []
        assert not (tmp_path / "runs/digits/result.json").exists()
    else:
        assert not interrupt.was_sent, "Ctrl-C was swallowed"
        pytest.skip(f"this run has no stage `{stage}`")
    result = run(recipe, out=tmp_path / "runs")
    assert modelfile.digest(result.model) == modelfile.digest(undisturbed.model)


CHILD = """\
import sys
from pathlib import Path
from modelwright.pipeline import run
run(sys.argv[1], out=Path(sys.argv[2]))
"""


def child(recipe: Path, out: Path, *, limit: int | None = None, **environment: str):
    """Start a run in a process of its own; with a limit, no file there grows beyond it."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(recipe), str(out)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited if limit is not None else None,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_points_it_comes_to_the_same_model(tmp_path, seed):
    chance = random.Random(seed)
    recipe = recipe_in(tmp_path, **{"epochs: 1": "epochs: 20\n  checkpoint_every: 0.1s"})
    whole = run(recipe, out=tmp_path / "whole")
    folder = tmp_path / "killed/digits"
    for _ in range(5):
        process = child(recipe, tmp_path / "killed")
        # Importing torch takes seconds; what matters begins with the folder.
        while process.poll() is None and not (folder / "recipe.json").exists():
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 6.0))
        process.kill()
        process.communicate()
    resumed = run(recipe, out=tmp_path / "killed")
    assert modelfile.digest(resumed.model) == modelfile.digest(whole.model)
    assert visible(resumed.folder) == visible(whole.folder)


def test_killed_in_training_it_comes_to_the_same_model(tmp_path):
    recipe = recipe_in(tmp_path, **{"epochs: 1": "epochs: 4\n  checkpoint_every: 0.01s"})
    process = child(recipe, tmp_path / "killed")
    folder = tmp_path / "killed/digits"
    while process.poll() is None and len(read_lines(folder / METRICS)) < 2:
        time.sleep(0.005)
    process.kill()
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    notes = []
    resumed = run(recipe, out=tmp_path / "killed", observe=lambda p: notes.append(p.note))
    whole = run(recipe, out=tmp_path / "whole")
    assert any("Going on from step" in note for note in notes) or resumed.finished_before
    assert modelfile.digest(resumed.model) == modelfile.digest(whole.model)


# -- side by side, and where nothing can be written --------------------------------------------


def test_two_runs_with_one_name_at_once(tmp_path):
    recipe = recipe_in(tmp_path)
    (tmp_path / "runs/digits").mkdir(parents=True)
    with locked(tmp_path / "runs/digits/.lock"):
        process = child(recipe, tmp_path / "runs")
        _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "another run with this name is under way" in said
    assert "--name" in said
    assert visible(tmp_path / "runs/digits") == set()


def test_a_second_run_is_refused_while_the_first_trains(tmp_path):
    recipe = recipe_in(tmp_path)
    refused = []

    def second(progress):
        if progress.stage == "train" and not refused:
            with pytest.raises(ResourceError, match="another run with this name") as raised:
                run(recipe, out=tmp_path / "runs")
            refused.append(raised.value)

    first = run(recipe, out=tmp_path / "runs", observe=second)
    assert len(refused) == 1
    assert modelfile.verify(first.model)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_clear_error(tmp_path):
    recipe = recipe_in(tmp_path)
    out = tmp_path / "runs"
    out.mkdir()
    out.chmod(0o555)
    try:
        with pytest.raises(ResourceError, match="no permission to write here"):
            run(recipe, out=out)
    finally:
        out.chmod(0o755)
    assert list(out.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_a_clear_error(tmp_path):
    recipe = recipe_in(tmp_path)
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(ResourceError) as raised:
        run(recipe, out=tmp_path / "runs")
    assert str(tmp_path / "runs") in str(raised.value)


WRITTEN = ["recipe.json", "splits.parquet", "model.mw", "report.html"]
"""Files of a run, in the order in which they are written."""


def fills_up(recipe: Path, out: Path, limit: int, **environment: str) -> str:
    """Run where no file may grow beyond a limit, as on a disk that is full; return the error."""
    process = child(recipe, out, limit=limit, **environment)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("modelwright.errors.ResourceError"), said
    assert left_aside(recipe.parent) == []
    assert not (out / "digits/result.json").exists()
    return last


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in WRITTEN[:-1]] + WRITTEN[-1:]
)
def test_a_disk_that_fills_up_leaves_nothing_half_written(undisturbed, tmp_path, name):
    recipe = recipe_in(tmp_path)
    sizes = {item: (undisturbed.folder / item).stat().st_size for item in WRITTEN}
    limit = sizes[name] * 95 // 100
    first = next(item for item in WRITTEN if sizes[item] > limit)
    assert f"{first}: can't be written" in fills_up(recipe, tmp_path / "runs", limit)
    again = run(recipe, out=tmp_path / "runs")
    assert modelfile.digest(again.model) == modelfile.digest(undisturbed.model)


@pytest.mark.slow
def test_a_disk_that_fills_up_under_a_checkpoint(undisturbed, tmp_path):
    """Averages and two moments of each weight make a checkpoint larger than a bare model file."""
    recipe = recipe_in(tmp_path)
    with pytest.raises(StoppedError):
        run(recipe, out=tmp_path / "before", observe=Interrupt("train", done=1))
    (kept,) = (tmp_path / "before").rglob("state.safetensors")
    said = fills_up(recipe, tmp_path / "runs", kept.stat().st_size - 1)
    assert "checkpoints" in said
    assert "can't be written" in said
    again = run(recipe, out=tmp_path / "runs")
    assert modelfile.digest(again.model) == modelfile.digest(undisturbed.model)


@pytest.mark.slow
def test_a_disk_that_fills_up_under_the_store(undisturbed, tmp_path):
    recipe, cache = recipe_in(tmp_path), tmp_path / "cache"
    said = fills_up(recipe, tmp_path / "runs", 60_000, MODELWRIGHT_CACHE=str(cache))
    assert str(cache) in said
    again = run(recipe, out=tmp_path / "runs")
    assert modelfile.digest(again.model) == modelfile.digest(undisturbed.model)


BARE = """\
import json, sys
sys.modules["torch"] = None
import modelwright as mw
answer = mw.load(sys.argv[1]).predict(sys.argv[2], top=2)
print(json.dumps({"answer": answer, "torch": [n for n in sys.modules if n.startswith("torch.")]}))
"""


def test_the_model_predicts_without_torch(undisturbed):
    sample = min((undisturbed.folder / "samples").glob("*.png"))
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(undisturbed.model), str(sample)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["torch"] == []
    assert len(found["answer"]) == 2
    assert found["answer"][0]["probability"] >= found["answer"][1]["probability"]
