"""What the benchmarks count is counted right: the structure of a small made-up tree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STRUCTURE = Path(__file__).parents[1] / "benchmarks" / "structure.py"

TREE = {
    "recipe/models.py": """\
from typing import Any, Literal

class CnnModel:
    name: Literal["cnn"]
    width: Any

class MlpModel:
    name: Literal["mlp"]
""",
    "pipeline/__init__.py": "from made.pipeline.running import run\n",
    "pipeline/running.py": """\
from typing import Any
from made import tasks
from made.tasks import LOSSES

def run(recipe) -> Any:
    return first(recipe), LOSSES[recipe.task], tasks.name_of(recipe.kind)

def first(recipe):
    return second(recipe)

def second(recipe):
    return third(recipe)

def third(recipe):
    return recipe.fourth()

def nobody():
    return run(None)
""",
    "tasks.py": """\
from made.recipe.models import CnnModel, MlpModel

KINDS = ("label", "numbers")

def squared():
    pass

LOSSES = {"regression": squared, "object-detection": None}
COLUMNS = {"label": 1, "name": 2}
SIZES = {("image", OutputKind.ctc): 1, ("text", OutputKind.boxes): 2}

class Recipe:
    def fourth(self):
        return self.fifth()

    def fifth(self):
        return isinstance(self.model, CnnModel | MlpModel)

def name_of(kind):
    if kind == "label":
        return "one"
    if kind in KINDS:
        return "some"
    match kind:
        case "text":
            return "words"
        case "boxes":
            return "boxes"
    return kind == "next"

def column(name):
    return name == "label" or "label" in name or name == "cnn"
"""
    + "\ndef long():\n"
    + "    pass\n" * 60,
}


def structure(*arguments):
    """Run the benchmark, and return its figures and what it prints below them."""
    line = [sys.executable, str(STRUCTURE), *map(str, arguments)]
    done = subprocess.run(line, stdout=subprocess.PIPE, check=True, text=True)
    first, _, rest = done.stdout.partition("\n")
    return json.loads(first), rest


@pytest.fixture
def tree(tmp_path):
    for name, text in TREE.items():
        path = tmp_path / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "made"


def test_structure_counts_a_small_tree(tree):
    figures, places = structure("--tree", tree, "--verbose")
    assert figures["lines_by_package"] == {
        "pipeline": 1 + 18,
        "recipe": 8,
        "tasks": TREE["tasks.py"].count("\n"),
    }
    assert figures["lines"] == sum(figures["lines_by_package"].values())
    assert (figures["modules"], figures["modules_over_450"]) == (4, 0)
    assert (figures["functions"], figures["functions_over_60"]) == (11, 1)
    assert figures["any"] == 2
    # LOSSES, SIZES; `kind` compared, `kind` matched; the two models. `name == "cnn"` stands alone,
    # and a column called label is no kind.
    assert figures["tables"] == 5
    assert figures["tables_by_form"] == {"chain": 2, "dict": 2, "match": 1}
    assert figures["tables_on_specs_alone"] == 1
    assert figures["single_tests"] == 1
    assert "label, numbers, next" in places
    assert (
        f"tasks.py:{TREE['tasks.py'][: TREE['tasks.py'].index('def long')].count(chr(10)) + 1} long"
    )
    # run, first, squared, name_of; second; third; fourth. Not fifth, nobody, column, long.
    assert figures["within_4_calls"] == round(7 / 11, 4)


def test_structure_names_the_files_of_a_commit(tree):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tree.parent), *who, *arguments], check=True)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "all")
    (tree / "tasks.py").write_text("")
    (tree / "notes.md").write_text("")
    (tree.parent / "outside.py").write_text("")
    git("add", ".")
    git("commit", "--quiet", "-m", "less")
    (tree / "pipeline" / "running.py").write_text("def run():\n    pass\n")
    figures, _ = structure("--tree", tree, "--commit", "HEAD")
    assert figures["touched"] == ["tasks.py"]
