from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys

import pytest

from modelwright.cli import main
from modelwright.cli.commands import Answer
from modelwright.cli.main import BROKEN_PIPE
from modelwright.cli.stopping import noting_signals
from modelwright.errors import (
    DataError,
    MissingExtraError,
    ModelFileError,
    RecipeError,
    StoppedError,
    TrainingError,
)

HERE = [sys.executable, "-m", "modelwright"]


def raising(error):
    def carry_out(asked):
        raise error

    return {"version": carry_out, "run": carry_out}


def errors_of(captured):
    line = captured.out
    assert line.count("\n") == 1
    return json.loads(line)["error"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError("wrong", where="recipe.yaml:7", why="because", fix="do that"), 2),
        (DataError("wrong", where="recipe.yaml:7", why="because", fix="do that"), 1),
        (ModelFileError("wrong", where="recipe.yaml:7", why="because", fix="do that"), 1),
        (TrainingError("wrong", where="recipe.yaml:7", why="because", fix="do that"), 1),
        (MissingExtraError("wrong", where="recipe.yaml:7", why="because", fix="do that"), 1),
    ],
)
def test_errors_have_words_an_exit_code_and_one_line_of_json(error, code, capsys):
    assert main(["version", "--json"], carry_out=raising(error)) == code
    captured = capsys.readouterr()
    assert captured.err == "error: recipe.yaml:7: wrong. because. do that.\n"
    assert errors_of(captured) == {
        "kind": type(error).__name__,
        "what": "wrong",
        "where": "recipe.yaml:7",
        "why": "because",
        "fix": "do that",
    }


def test_our_own_mistake_is_short_and_leaves_the_traceback_in_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["version"], carry_out=raising(KeyError("height"))) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "our fault" in captured.err
    (left,) = tmp_path.iterdir()
    assert str(left) in captured.err
    assert "Traceback" in left.read_text()
    assert "KeyError: 'height'" in left.read_text()


def test_our_own_mistake_is_told_even_where_no_file_can_be_left(capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    assert main(["version", "--json"], carry_out=raising(KeyError("height"))) == 1
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert errors_of(captured)["kind"] == "InternalError"


@pytest.mark.parametrize(
    ("number", "word"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "no permission")]
)
def test_a_full_disk_or_a_closed_folder_is_not_our_mistake(number, word, capsys):
    error = OSError(number, os.strerror(number), "/some/file")
    assert main(["version"], carry_out=raising(error)) == 1
    said = capsys.readouterr().err
    assert word in said
    assert "/some/file" in said
    assert "our fault" not in said


def test_too_little_memory_says_what_to_do(capsys):
    assert main(["version"], carry_out=raising(MemoryError())) == 1
    assert "memory" in capsys.readouterr().err


def test_ctrl_c_is_one_line_that_says_how_to_go_on(capsys):
    code = main(["run", "a.yaml", "--json"], carry_out=raising(KeyboardInterrupt()))
    assert code == 130
    captured = capsys.readouterr()
    assert captured.err == "stopped. Run the same command again to go on.\n"
    assert errors_of(captured)["kind"] == "StoppedError"


def test_sigterm_unwinds_what_is_open_and_exits_with_143(capsys):
    closed = []

    def carry_out(asked):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            closed.append(True)

    before = signal.getsignal(signal.SIGTERM)
    assert main(["version"], carry_out={"version": carry_out}) == 143
    assert closed == [True]
    assert capsys.readouterr().err == "stopped.\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_that_stops_by_itself_keeps_the_signals_exit_code(number, capsys):
    def carry_out(asked):
        seen = []
        before = signal.signal(number, lambda *_: seen.append(True))  # As training does.
        try:
            os.kill(os.getpid(), number)
            assert seen == [True]
        finally:
            signal.signal(number, before)
        raise StoppedError("stopped at step 7 of 9", fix="The state is saved")

    assert main(["version"], carry_out={"version": carry_out}) == 128 + number
    assert capsys.readouterr().err == "stopped at step 7 of 9. The state is saved.\n"


@pytest.mark.parametrize("error", [ModelFileError("it can't be exported"), RuntimeError("odd")])
def test_a_library_that_calls_a_stop_a_failure_of_its_own(error, capsys):
    def carry_out(asked):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise error from None

    assert main(["run", "x"], carry_out={"run": carry_out}) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "stopped. Run the same command again to go on.\n"


def test_no_error_steers_a_terminal(capsys):
    error = DataError("the label `\x1b[2J` isn't known", why="Use one of `a\u202eb`")
    assert main(["version"], carry_out=raising(error)) == 1
    assert capsys.readouterr().err == "error: the label `·[2J` isn't known. Use one of `a·b`.\n"


def test_a_forked_worker_dies_of_sigterm_as_any_process_does():
    with noting_signals():
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_what_a_library_prints_never_reaches_the_answer(capsys):
    def carry_out(asked):
        sys.stdout.write("[some library] working…\n")
        return Answer({"a": 1}, "text")

    assert main(["version", "--json"], carry_out={"version": carry_out}) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": 1}
    assert "some library" in captured.err


@pytest.mark.parametrize("label", ["猫 🐈", "a\u2028b\x85c", "\ud800", 'line\nbreak"'])
def test_no_label_breaks_the_one_line(label, capsys):
    carry_out = {"version": lambda asked: Answer({"label": label}, "")}
    assert main(["version", "--json"], carry_out=carry_out) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["label"] == label


def test_an_answer_without_a_value_prints_nothing(capsys):
    assert main(["version"], carry_out={"version": lambda asked: Answer(None, "")}) == 0
    assert capsys.readouterr().out == ""


def test_a_stream_that_lacks_a_letter_shows_its_code(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["version"], carry_out={"version": lambda asked: Answer(1, "猫")}) == 0
    stream.seek(0)
    assert stream.read() == "\\u732b\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": ""}, False)])
def test_errors_are_red_on_a_terminal_unless_no_color_is_set(variables, coloured, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["nonsense"]) == 2
    assert ("\033[31m" in terminal.getvalue()) is coloured


def test_a_reader_that_goes_away_ends_it_quietly():
    shell = (
        f"{sys.executable} -m modelwright schema | head -c 10 > /dev/null; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert int(done.stdout) in (0, BROKEN_PIPE)  # 0 where the pipe took all of it first.


def test_no_reader_at_all_ends_it_quietly_too():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*HERE, "schema"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_an_answer_that_cannot_be_written_is_an_error():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*HERE, "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys; from modelwright.cli import main\n"
        "assert main(['--help']) == 0 and main(['version']) == 0\n"
        "heavy = {'torch', 'pyarrow', 'onnxruntime', 'numpy', 'pydantic', 'rich', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
