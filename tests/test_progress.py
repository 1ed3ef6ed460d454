from __future__ import annotations

import builtins
import contextlib
import io
import os

import pytest

from modelwright import progress
from modelwright.progress import EVERY_S, PlainLines, figures, shown, watching
from modelwright.run import Progress, silent


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def lines_of(stream):
    return stream.getvalue().splitlines()


def test_each_stage_and_note_gets_a_line_and_the_rest_is_quiet(clock):
    stream = io.StringIO()
    lines = PlainLines(stream, clock=clock)
    lines.observe(Progress("store", 0, 100))
    for done in range(100):
        lines.observe(Progress("store", done, 100))
    lines.observe(Progress("note", 0, 0, note="Something to know"))
    lines.observe(Progress("audit", 0, 1))
    assert lines_of(stream) == [
        "Building the store 0/100",
        "Something to know",
        "Looking through the data",
    ]


def test_a_long_stage_speaks_now_and_again(clock):
    stream = io.StringIO()
    lines = PlainLines(stream, clock=clock)
    for step in range(100):
        lines.observe(Progress("train", step, 100, values={"loss": 1.0, "left_s": 61.0}))
        clock.now += 1.0
    assert len(lines_of(stream)) == 100 / EVERY_S
    assert lines_of(stream)[1] == "Training 10/100 loss 1 · 1 min 1 s left"


def test_epochs_are_told_but_not_several_a_second(clock):
    stream = io.StringIO()
    lines = PlainLines(stream, clock=clock)
    for step in range(1, 101):
        lines.observe(Progress("train", step, 100, values={"val_accuracy": step / 100}))
        clock.now += 0.25
    assert len(lines_of(stream)) == 1 + 24 + 1
    assert lines_of(stream)[-1] == "Training 100/100 accuracy 1 (validation)"


def test_a_reader_of_progress_that_goes_away_does_not_end_the_work(clock):
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    lines = PlainLines(stream, clock=clock)
    lines.observe(Progress("store", 0, 10))
    lines.observe(Progress("audit", 0, 10))
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_file_name_cannot_steer_the_terminal(clock):
    stream = io.StringIO()
    PlainLines(stream, clock=clock).observe(Progress("note", 0, 0, note="bad \x1b[2J name"))
    assert lines_of(stream) == ["bad ·[2J name"]


def test_figures_of_all_kinds():
    assert (
        figures({"train_loss": 0.5, "val_f1_macro": 0.25})
        == "loss 0.5 · f1 macro 0.25 (validation)"
    )
    assert figures({}) == ""


def test_quiet_shows_nothing():
    stream = io.StringIO()
    with watching(quiet=True, stream=stream) as observe:
        observe(Progress("note", 0, 0, note="x"))
    assert stream.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_live_line_and_keeps_what_training_came_to(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    with watching(stream=terminal) as observe:
        observe(Progress("note", 0, 0, note="Data [red]and[/red] more"))
        observe(Progress("train", 1, 10, values={"loss": 0.5, "left_s": 3.0}))
        observe(Progress("train", 10, 10, values={"val_accuracy": 0.75, "train_loss": 0.25}))
        observe(Progress("measure", 0, 0))
    said = terminal.getvalue()
    assert "Data [red]and[/red] more" in said
    assert "Training: loss 0.5 · accuracy 0.75 (validation)" in said
    assert "\x1b[" in said


def test_no_color_holds_on_a_terminal_too(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    with watching(stream=terminal) as observe:
        observe(Progress("train", 1, 10, values={"loss": 0.5}))
    assert "\x1b[3" not in terminal.getvalue()  # No colour; moving the cursor is no colour.


class ZMQInteractiveShell:
    """What `get_ipython` returns in a notebook, by name."""


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)


def test_outside_a_notebook_nothing_is_shown_unasked(capsys):
    with shown(None) as observe:
        observe(Progress("train", 1, 2))
    assert capsys.readouterr() == ("", "")


def test_a_notebook_without_widgets_gets_plain_lines(notebook, monkeypatch, capsys):
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    with shown(None) as observe:
        observe(Progress("train", 1, 2))
    assert capsys.readouterr() == ("Training 1/2\n", "")


def test_a_notebook_with_widgets_gets_a_live_line(notebook, monkeypatch):
    streams = []

    @contextlib.contextmanager
    def live(stream):
        streams.append(stream)
        yield silent

    monkeypatch.setattr(progress, "find_spec", lambda name: name)
    monkeypatch.setattr(progress, "_live", live)
    with shown(None) as observe:
        assert observe is silent
    assert streams == [None]  # So that rich finds the notebook by itself.


def test_what_observes_is_asked_first_in_a_notebook_too(notebook):
    with shown(print) as observe:
        assert observe is print
