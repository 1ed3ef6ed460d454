"""Words: every command block of every page runs, what is generated is up to date, links lead on.

A block is fenced with ```sh or ```python. One that can't run in a test has a comment
`<!-- skip: why -->` on the line before it.
"""

from __future__ import annotations

import importlib
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from modelwright.recipe import check_composition, load_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(
    r"^(?:<!-- skip: (?P<skip>[^\n]*?) -->\n)?```(?P<kind>sh|python)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NEEDS = {"finetuning.md": "transformers", "python.md": "pandas", "timm.md": "timm"}
"""What the blocks of a page import, beside what is always there."""
README_COMMANDS = ["make demo", "make test"]
"""What the README opens with; each installs everything first, so CI runs the same lines by hand."""


def on_one_core() -> None:
    """Keep a block to one core: on so little data, several cost more than they bring."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def blocks(page: Path) -> list[re.Match[str]]:
    return list(BLOCK.finditer(page.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def shop(finished_run, tmp_path_factory):
    """Return a folder as a reader of the pages has it: examples, pictures, a run of digits."""
    folder = tmp_path_factory.mktemp("shop")
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copytree(finished_run / "runs" / "quick", folder / "runs" / "digits")
    shutil.copy(min((folder / "runs/digits/samples").glob("*.png")), folder / "seven.png")
    for label, shade in (("day", 200), ("night", 40)):
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(8):
            image = Image.new("L", (16, 16), shade + 5 * number)
            ImageDraw.Draw(image).ellipse((3, 3, 6 + number, 9), fill=255 - shade)
            image.save(folder / "photos" / label / f"{number}.png")
    commands = folder / "bin"
    commands.mkdir()
    for name in ("modelwright", "mw"):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m modelwright "$@"\n')
        (commands / name).chmod(0o755)
    return folder


@pytest.mark.skipif(os.name != "posix", reason="the pages are written for a POSIX shell")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs_in_order(page, shop, tmp_path):
    if page.name in NEEDS:
        try:
            importlib.import_module(NEEDS[page.name])
        except (ImportError, RuntimeError, AttributeError, OSError) as error:
            pytest.skip(f"{NEEDS[page.name]} can't be imported: {error}")
    here = tmp_path / "here"
    shutil.copytree(shop, here)
    paths = os.pathsep.join([str(here / "bin"), str(Path(sys.executable).parent)])
    environment = {**os.environ, "PATH": f"{paths}{os.pathsep}{os.environ['PATH']}"}
    for block in blocks(page):
        if block["skip"] or block["text"].split("\n")[:-1] == README_COMMANDS:
            continue
        program = ["bash", "-e", "-c"] if block["kind"] == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*program, block["text"]],
            cwd=here,
            env=environment,
            preexec_fn=on_one_core,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block['text']}\n{done.stdout}\n{done.stderr}"


def test_a_skipped_block_says_why():
    reasons = [block["skip"] for page in PAGES for block in blocks(page) if block["skip"]]
    assert all(len(reason) > 10 for reason in reasons)


def test_generated_pages_are_up_to_date():
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
    assert pages
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} differs: run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_project_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(#([^)\s]+))?\)", text):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in _anchors(found), f"{page.name}: {target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_names_every_room_and_only_those():
    drawn = re.findall(r"^[├└]── ([a-z]+)(/|\.py)", _tree("src/modelwright/"), re.MULTILINE)
    package = ROOT / "src" / "modelwright"
    rooms = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in package.glob("*.py") if not path.name.startswith("__")}
    assert {name for name, _ in drawn} == rooms | modules


def test_the_readme_names_what_a_run_leaves(finished_run):
    drawn = set(re.findall(r"^[├└]── ([\w.]+)", _tree("runs/digits/"), re.MULTILINE))
    left = {path.name for path in (finished_run / "runs" / "quick").iterdir()}
    assert drawn <= left
    assert "model.mw" in drawn


def _tree(heading: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"```\n({re.escape(heading)}\n.*?)```", text, re.DOTALL)
    return str(found)


def test_the_readme_opens_with_the_makefiles_own_targets():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    opening = blocks(ROOT / "README.md")[0]["text"].split("\n")[:-1]
    assert opening == README_COMMANDS
    assert {line.removeprefix("make ") for line in opening} <= targets
    named = re.findall(r"\bmake ([a-z-]+)\s", (ROOT / "CONTRIBUTING.md").read_text())
    assert set(named) <= targets


def test_every_dependency_has_its_reason_and_its_tested_version():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    pinned = {line.partition("==")[0] for line in _constraints()}
    extras = project["optional-dependencies"]
    for group in (project["dependencies"], extras["train"], extras["dev"]):
        for requirement in group:
            name = re.match(r"[\w.-]+", requirement)[0]
            assert name == "modelwright" or name in page
            assert name in {"modelwright", "pre-commit"} or name in pinned


def _constraints() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_is_a_recipe_with_its_epochs_and_targets(path):
    recipe = load_recipe(path)
    assert check_composition(recipe) == []
    assert recipe.train.epochs is not None
    assert "epochs" in recipe.train.model_fields_set
    assert recipe.targets


def test_the_digits_example_computes_the_same_everywhere():
    train = load_recipe(ROOT / "examples" / "digits.yaml").train
    assert (train.precision, train.compile, train.budget) == ("fp32", "off", None)


def test_the_cifar_example_holds_out_5000_and_averages_six_views():
    recipe = load_recipe(ROOT / "examples" / "cifar10.yaml")
    assert (recipe.model.name, recipe.data.split.val) == ("speednet", 5000)
    assert recipe.inference.tta == "flip_shift"
