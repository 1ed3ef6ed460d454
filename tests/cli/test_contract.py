"""The contract for scripts: what each command prints with `--json`, and how it exits."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from modelwright.cli import main
from modelwright.evaluation.access_log import list_path

MODEL = "runs/quick/model.mw"
METRIC = {"value", "low", "high", "n"}


@pytest.fixture
def call(capsys):
    """Return a function that runs a command with `--json`, and gives exit code and value."""

    def run(*words, code=0):
        assert main([*words, "--json"]) == code
        out = capsys.readouterr().out
        assert out.count("\n") == 1, out
        return json.loads(out)

    return run


def test_run_prints_its_result_and_again_when_asked_again(workspace, call):
    found = call("run", "quick.yaml", "--name", "again")
    assert set(found) == {"model", "report", "passed", "metrics", "targets", "seconds"}
    assert found["passed"] is True
    assert Path(found["model"]) == Path("runs/again/model.mw")
    assert Path(found["model"]).is_file()
    assert Path(found["report"]).is_file()
    assert all(set(figure) == METRIC for figure in found["metrics"].values())
    accuracy, size = found["metrics"]["accuracy"], found["metrics"]["size_bytes"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert accuracy["n"] > 300
    assert size["low"] == size["high"] == size["value"]
    assert size["n"] == 1
    assert [target["metric"] for target in found["targets"]] == ["accuracy", "size_bytes"]
    assert call("run", "quick.yaml", "--name", "again") == found


def test_a_missed_target_exits_with_1_and_prints_the_same_line(workspace, call):
    setting = ("--set", "targets.accuracy=>= 0.9999", "--set", "train.epochs=1")
    found = call("run", "quick.yaml", "--name", "poor", *setting, code=1)
    assert found["passed"] is False
    assert [target["passed"] for target in found["targets"]] == [False, True]
    assert Path(found["model"]).is_file()


def test_files_land_under_out_and_name_and_the_recipes_stem(workspace, call):
    found = call("run", "quick.yaml", "--out", "other", "--set", "train.epochs=1")
    assert Path(found["model"]) == Path("other/quick/model.mw")


@pytest.mark.parametrize("name", ["a/b", "..", "", "."])
def test_a_name_that_leads_elsewhere_is_refused(name, workspace, call):
    error = call("run", "quick.yaml", "--name", name, code=2)["error"]
    assert "name" in error["what"]


def test_another_recipe_under_the_same_name_is_refused(workspace, call):
    error = call("run", "quick.yaml", "--set", "seed=7", code=2)["error"]
    assert "different recipe" in error["what"]
    assert "--name" in error["fix"]


def test_a_misspelt_key_names_line_and_nearest(workspace, call):
    Path("bad.yaml").write_text("version: 1\ndata: {source: digits}\ntrain:\n  epocs: 3\n")
    error = call("run", "bad.yaml", code=2)["error"]
    assert error["where"] == "bad.yaml:4"
    assert "`epochs`" in error["fix"] + error["what"] + error["why"]


@pytest.mark.parametrize("command", ["run", "check", "fetch", "inspect", "config"])
def test_a_recipe_that_is_not_there_is_a_wrong_request(command, workspace, call):
    assert call(command, "nope.yaml", code=2)["error"]["kind"] == "RecipeError"


def test_predict_answers_each_input_in_order_best_first(workspace, call):
    samples = sorted(str(path) for path in Path("runs/quick/samples").glob("*.png"))
    assert len(samples) > 1
    asked = [*samples, samples[0]]
    found = call("predict", MODEL, *asked)
    assert [item["input"] for item in found] == asked
    for item in found:
        shares = [answer["probability"] for answer in item["predictions"]]
        assert len(shares) == 5
        assert shares == sorted(shares, reverse=True)
    assert found[0]["predictions"] == found[-1]["predictions"]
    assert len(call("predict", MODEL, samples[0], "--top", "2")[0]["predictions"]) == 2
    assert len(call("predict", MODEL, samples[0], "--top", "99")[0]["predictions"]) == 10


def test_predict_reads_standard_input(workspace, sample, call, monkeypatch):
    named = call("predict", MODEL, str(sample))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sample.read_bytes())))
    (given,) = call("predict", MODEL, "-")
    assert given == {"input": "-", "predictions": named[0]["predictions"]}


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("text.png", b"this is text, not an image\n", "isn't an image"),
        ("empty.png", b"", ""),
        ("cut.png", None, ""),
    ],
)
def test_an_unreadable_input_prints_no_other_answer(name, content, word, workspace, sample, call):
    Path(name).write_bytes(sample.read_bytes()[:60] if content is None else content)
    error = call("predict", MODEL, str(sample), name, str(sample), code=1)["error"]
    assert error["kind"] == "DataError"
    assert error["where"] == name
    assert word in error["what"]


def test_predict_refuses_folders_missing_files_and_a_second_standard_input(workspace, sample, call):
    error = call("predict", MODEL, "runs", code=2)["error"]
    assert "runs/*" in error["fix"]
    assert call("predict", MODEL, "nope.png", code=1)["error"]["where"] == "nope.png"
    assert call("predict", MODEL, "-", "-", code=2)["error"]["kind"] == "RequestError"
    assert call("predict", MODEL, str(sample), "--top", "0", code=2)["error"]["what"]


def test_predict_for_people_is_a_line_for_each_input(workspace, sample, capsys):
    assert main(["predict", MODEL, str(sample), str(sample)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    line = rf"{re.escape(str(sample))}: \d \d+\.\d %(, \d \d+\.\d %){{4}}\n"
    assert re.fullmatch(line * 2, captured.out)


SLOW_TO_IMPORT = {
    *("torch", "onnx", "onnxscript", "sklearn", "scipy", "pandas", "transformers", "timm"),
    *("pyarrow", "tokenizers", "pydantic", "ruamel", "rich", "jinja2", "safetensors"),
    *("asyncio", "email", "importlib.metadata", "multiprocessing", "sqlite3", "urllib.request"),
    *(f"modelwright.{name}" for name in ("data", "evaluation", "models", "recipe", "training")),
}
"""What predicting has no use for, or images have none for."""


@pytest.mark.parametrize(
    ("commands", "unused"),
    [
        ([f"predict {MODEL} SAMPLE"], SLOW_TO_IMPORT),
        ([f"verify {MODEL}", f"inspect {MODEL}"], {"torch", "sklearn", "onnx", "rich"}),
    ],
)
def test_little_is_imported_to_predict_verify_or_inspect(workspace, sample, commands, unused):
    commands = [line.replace("SAMPLE", str(sample)).split() for line in commands]
    code = (
        "import sys; from modelwright.cli import main\n"
        f"assert [main(line) for line in {commands}] == [0] * {len(commands)}\n"
        f"found = {unused} & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_verify_tells_whole_from_changed_cut_and_foreign(workspace, call):
    found = call("verify", MODEL)
    assert found["intact"] is True
    assert found["digest"].startswith("sha256:")
    whole = Path(MODEL).read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    for content in (bytes(changed), whole[:-1], b"", b"PK\x03\x04", b"hello"):
        Path("bad.mw").write_bytes(content)
        found = call("verify", "bad.mw", code=1)
        assert found["intact"] is False
        assert "bad.mw" in found["why"]
    assert call("verify", "nope.mw", code=1)["intact"] is False


def test_inspect_gives_the_manifest_with_its_figures(workspace, call):
    found = call("inspect", MODEL)
    assert found["parameters"] > 1000
    assert found["multiply_adds"] > 1000
    assert found["labels"] == [str(digit) for digit in range(10)]
    assert 0 < found["size_bytes"] < found["file_bytes"] == Path(MODEL).stat().st_size
    assert {"members", "format"} <= set(found)


def test_inspect_of_a_recipe_gives_its_layers(workspace, call, capsys):
    found = call("inspect", "quick.yaml", "--set", "model.hidden=[7]")
    assert found["parameters"] == 64 * 7 + 7 + 7 * 10 + 10
    assert main(["inspect", "quick.yaml", "-q"]) == 0
    assert "Linear" in capsys.readouterr().out
    assert call("inspect", MODEL, "--set", "a=1", code=2)["error"]["kind"] == "RequestError"


@pytest.mark.parametrize("name", ["nope.mw", "text.txt"])
def test_inspect_of_what_is_neither_is_a_clear_error(name, workspace, call):
    Path("text.txt").write_bytes(b"\x00\x01\x02")
    assert call("inspect", name, code=2 if name == "text.txt" else 1)["error"]["where"]


def test_evaluate_shows_what_was_measured_and_measures_anew(workspace, call):
    recorded = call("evaluate", MODEL)["metrics"]
    assert recorded["accuracy"]["n"] > 300
    folder = Path("pictures")
    for path in Path("runs/quick/samples").glob("*.png"):
        label = path.stem.partition("-")[2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.open(path).save(folder / label / path.name)
    found = call("evaluate", MODEL, "pictures")
    assert set(found) == {"metrics", "is_test", "seen"}
    assert found["is_test"] is True
    assert found["seen"]["train"] == 0
    assert found["metrics"]["accuracy"]["n"] == len(list(folder.glob("*/*.png")))
    looks = [json.loads(line) for line in list_path().read_text().splitlines()]
    assert looks[-1]["run"] == f"evaluate {MODEL}"
    assert all(set(figure) == METRIC for figure in found["metrics"].values())


def test_evaluate_on_nothing_is_a_clear_error(workspace, call):
    Path("empty").mkdir()
    assert call("evaluate", MODEL, "empty", code=1)["error"]["kind"] == "DataError"
    assert "error" in call("evaluate", MODEL, "nope", code=1)


def test_fetch_prints_nothing_fetched_where_a_recipe_names_no_hub(workspace, call):
    assert call("fetch", "quick.yaml") == {"fetched": []}


def test_check_prints_findings_and_forecast(workspace, call):
    found = call("check", "quick.yaml")
    assert set(found) == {"findings", "forecast", "download"}
    assert found["download"] is None
    for finding in found["findings"]:
        assert set(finding) == {"kind", "severity", "rows", "message", "fix"}
    assert found["forecast"]["steps"] > 1
    assert not Path("runs/check").exists()


def make_pictures(folder):
    for label, shade in (("dark", 20), ("light", 220)):
        (folder / label).mkdir(parents=True)
        for number in range(8):
            image = Image.new("L", (12, 12), shade)
            image.putpixel((number, number), 255 - shade)
            image.save(folder / label / f"{number}.png")


def test_a_leak_makes_check_exit_with_1(workspace, call):
    for split in ("train", "test"):
        make_pictures(Path("leaky") / split)
    Path("leaky.yaml").write_text("version: 1\ndata: {source: folder, path: leaky}\n")
    found = call("check", "leaky.yaml", code=1)
    assert "error" in {finding["severity"] for finding in found["findings"]}
    assert call("run", "leaky.yaml", code=1)["error"]["kind"] == "DataError"


def test_new_writes_a_recipe_that_runs_and_never_over_another(workspace, call):
    make_pictures(Path("pictures"))
    found = call("new", "pictures")
    assert set(found) == {"recipe", "findings", "command", "notes", "choices"}
    assert Path(found["recipe"]) == Path("recipe.yaml")
    assert call("config", "recipe.yaml")["data"]["path"] == "pictures"
    assert call("new", "pictures", code=2)["error"]["where"] == "recipe.yaml"
    assert call("new", "nowhere", "--out", "b.yaml", code=1)["error"]
    assert not Path("b.yaml").exists()


def test_config_and_schema_and_version(workspace, call, capsys):
    document = call("config", "quick.yaml", "--set", "train.epochs=9")
    assert document["train"]["epochs"] == 9.0
    assert main(["config"]) == 0
    assert "source: digits" in capsys.readouterr().out
    schema = call("schema")
    assert "data" in schema["properties"]
    assert re.match(r"\d+\.\d+", call("version")["version"])
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("modelwright ")


def test_run_for_people_ends_with_report_and_a_line_that_works(workspace, capsys):
    assert main(["run", "quick.yaml"]) == 0
    said = capsys.readouterr().out
    assert "Every target is met." in said
    assert "report  runs/quick/report.html" in said
    line = re.search(r"^try it  (.*)$", said, re.MULTILINE)[1]
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert " %" in done.stdout


def test_quiet_says_nothing_but_the_answer(workspace, capsys):
    assert main(["check", "quick.yaml", "-q"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "Training would take" in captured.out
