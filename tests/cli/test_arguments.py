from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from modelwright.cli import main
from modelwright.cli.arguments import COMMANDS, JSON, parse
from modelwright.cli.commands import CARRY_OUT
from modelwright.errors import RequestError

REFERENCE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_every_command_has_a_function_and_no_function_is_left_over():
    assert list(CARRY_OUT) == list(COMMANDS)


def test_help_names_every_command_and_the_exit_codes(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(re.search(rf"^    {name}\s", said, re.MULTILINE) for name in COMMANDS)
    assert "130 and 143" in said


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_names_all_its_arguments(name, capsys):
    assert main([name, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for argument in (*COMMANDS[name].arguments, JSON):
        assert argument.name in said
        assert argument.sentence in said


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_documents_each_command(name):
    section = REFERENCE.read_text(encoding="utf-8").partition(f"\n### {name}\n")[2]
    section = section.partition("\n### ")[0]
    assert COMMANDS[name].shown in section
    assert all(item.sentence in section for item in COMMANDS[name].arguments)


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ("rnu recipe.yaml", "no command `rnu`", "`run`"),
        ("run recipe.yaml --nmae a", "`modelwright run` has no option `--nmae`", "`--name`"),
        ("run recipe.yaml --nam a", "no option `--nam`", "`--name`"),  # No abbreviations.
        ("predict a.mw b.png --set a=1", "`modelwright predict` has no option `--set`", ""),
        ("run", "required: RECIPE", "modelwright run --help"),
        ("predict a.mw", "required: INPUT", "modelwright predict --help"),
        ("predict a.mw b.png --top few", "'few'", "modelwright predict --help"),
        ("run a.yaml --set", "expected one argument", "modelwright run --help"),
        ("verify a.mw b.mw", "`b.mw` is one argument too many", "modelwright verify --help"),
        ("--frobnicate", "no option `--frobnicate`", ""),
        ("", "a command is missing", "modelwright --help"),
    ],
)
def test_what_makes_no_sense_says_what_and_what_to_do(line, what, fix, capsys):
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert what in captured.err
    assert fix in captured.err
    assert "Traceback" not in captured.err


def test_a_wrong_line_with_json_is_one_line_too(capsys):
    assert main(["run", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "RequestError"
    assert "RECIPE" in error["what"]


def test_options_are_read():
    asked = parse(
        [
            "run",
            "a.yaml",
            "--set",
            "a=1",
            "--set",
            "b=2",
            "--out",
            "there",
            "--name",
            "me",
            "--site",
            "s.yaml",
            "-q",
        ]
    )
    assert (asked.command, asked.recipe, asked.set) == ("run", "a.yaml", ["a=1", "b=2"])
    assert (asked.out, asked.name, asked.site, asked.quiet) == ("there", "me", Path("s.yaml"), True)
    assert not asked.json


def test_inputs_may_look_like_numbers_and_follow_two_dashes():
    assert parse(["predict", "a.mw", "--", "-1.png", "--x"]).input == ["-1.png", "--x"]


def test_a_folder_of_parsers_never_abbreviates():
    with pytest.raises(RequestError):
        parse(["run", "a.yaml", "--js"])
