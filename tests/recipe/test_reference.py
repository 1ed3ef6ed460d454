"""Law and words: a recipe written out reads as itself, and nothing of the specs goes unsaid."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.recipe import (
    Recipe,
    json_schema,
    parse_recipe,
    recipe_reference,
    render_config,
)
from modelwright.recipe.schema import (
    choices,
    item_kind,
    kinds_phrase,
    phrase,
    settings_of,
    tag_of,
    variants,
)
from modelwright.recipe.spec import Spec
from modelwright.recipe.targets import METRICS

DIGITS = {"version": 1, "data": {"source": "digits"}}

RECIPES = {
    "digits": {},
    "table": {
        "data": {
            "source": "table",
            "path": "a b.csv",
            "split": {"by": "group", "column": "patient", "val": 100, "test": 0.25},
            "limit": 50,
        }
    },
    "folder": {"data": {"source": "folder", "path": "../Fotos: neu #1"}},
    "cifar10": {
        "data": {"source": "cifar10"},
        "transforms": {"size": [24, 32], "color_mode": "grayscale"},
    },
    "augment": {
        "augment": {
            "flip": "alternating",
            "crop": {"scale": [0.5, 1]},
            "color_jitter": {"brightness": 0.1},
            "mixup": 0.2,
        }
    },
    "mlp": {"model": {"name": "mlp", "hidden": []}},
    "cnn": {"model": {"name": "cnn", "blocks": [{"filters": 4, "pool": 1}], "head": []}},
    "resnet": {"model": {"name": "resnet", "depth": 18, "width": 0.5}},
    "speednet": {"model": {"name": "speednet"}},
    "init": {"model": {"init": "yes", "freeze": ["*", "a.*", "1"]}},
    "train": {
        "train": {
            "epochs": None,
            "budget": "10m",
            "loss": {"name": "cross-entropy", "label_smoothing": 0.1},
            "optimizer": {"name": "muon"},
            "schedule": {"name": "step", "at": [0.5]},
            "groups": [{"match": "*.bias", "lr": 64, "until": 0.3}],
            "average": {"name": "look-ahead"},
            "resolution": [{"until": 0.5, "size": 16}],
            "clip_norm": 1,
        }
    },
    "targets": {"targets": {"accuracy": ">= 0.9", "a: b": "<= 3", "": "< 1", "null": "> 1e3"}},
    "tiny": {"train": {"l1": 1e-300, "l2": 0.1, "optimizer": {"name": "adamw", "eps": 1e-12}}},
}


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "targets"])
def test_a_recipe_written_out_reads_as_itself(name):
    recipe = Recipe.model_validate(DIGITS | RECIPES[name])
    again = parse_recipe(render_config(recipe), where="x")
    assert again == recipe
    assert again.result_digest() == recipe.result_digest()
    assert render_config(again) == render_config(recipe)


def test_two_recipes_that_differ_are_not_equal():
    one, other = (Recipe.model_validate(DIGITS | {"seed": seed}) for seed in (0, 1))
    assert one != other
    assert one.result_digest() != other.result_digest()


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_survives(text):
    recipe = Recipe.model_validate(
        DIGITS
        | {"data": {"source": "folder", "path": text}, "model": {"init": text, "freeze": [text]}}
    )
    assert parse_recipe(render_config(recipe), where="x") == recipe


@settings(max_examples=200, deadline=None)
@given(
    value=st.floats(0, 10, exclude_min=True),
    share=st.floats(0, 1, exclude_max=True),
    count=st.integers(1, 10**6),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_number_survives(value, share, count, seed):
    recipe = Recipe.model_validate(
        DIGITS
        | {
            "data": {"source": "digits", "split": {"val": share, "test": count}},
            "train": {"l1": value, "epochs": value, "batch_size": count},
            "seed": seed,
        }
    )
    assert parse_recipe(render_config(recipe), where="x") == recipe


def test_names_of_targets_survive():
    recipe = Recipe.model_validate(DIGITS | {"targets": {"accuracy": ">= 0.9", "null": "> 1e3"}})
    assert parse_recipe(render_config(recipe), where="x") == recipe


# The digest of the result


def digest(text):
    return parse_recipe(text, where="x").result_digest()


def test_the_digest_is_blind_to_form():
    assert (
        digest("version: 1\ndata: {source: digits}\ntrain: {epochs: 3, l1: 0.5}\nseed: 4")
        == digest(
            "seed: 4\ntrain:\n  l1: 5e-1 # half\n  epochs: 3.0\n"
            "data:\n  source: 'digits'\nversion: 1"
        )
        == digest("version: 1\ndata: {source: digits}\ntrain: {epochs: 3, l1: 0.5, l2: 0}\nseed: 4")
    )


@pytest.mark.parametrize(
    ("one", "other"), [("val: 0", "val: 0.0"), ("test: 0.2", "test: 2e-1"), ("", "seed: 0")]
)
def test_two_ways_to_say_the_same_have_one_digest(one, other):
    base = "version: 1\ndata: {source: digits, split: {%s}}"
    assert digest(base % one) == digest(base % other)


def test_the_digest_leaves_resources_out():
    base = "version: 1\ndata: {source: digits}\n"
    assert digest(base) == digest(base + "resources: {device: cpu, threads: 2}")
    assert digest(base) != digest(base + "inference: {tta: flip}")


# Nothing goes unsaid


def _specs(spec, seen):
    seen.add(spec)
    for setting in settings_of(spec).values():
        of = item_kind(setting.kind)
        for inner in [*variants(setting.kind).values(), *(variants(of).values() if of else [])]:
            if inner not in seen:
                _specs(inner, seen)
    return sorted(seen, key=lambda item: item.__name__)


SPECS = _specs(Recipe, set())


def test_every_spec_of_the_room_is_reached():
    def below(spec):
        return {spec} | {item for child in spec.__subclasses__() for item in below(child)}

    public = {s for s in below(Spec) if not s.__name__.startswith("_") and s.model_fields}
    assert {s for s in public if s.__module__.startswith("modelwright.recipe.")} == set(SPECS)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_every_setting_says_what_it_is(spec):
    reference = recipe_reference()
    assert (spec.__doc__ or "").strip().split("\n\n")[0].endswith(".")
    tag = tag_of(spec)
    for key, setting in settings_of(spec).items():
        assert setting.sentence.endswith((".", "…")), f"{spec.__name__}.{key} has no sentence"
        assert phrase(setting.kind)
        if (key, choices(setting.kind)) == (tag[0], tag[1:]):
            assert f"`{key}: {tag[1]}`" in reference
            continue
        rows = [line for line in reference.splitlines() if line.startswith(f"| `{key}` |")]
        # A metric, whose table has more columns, may have the name of a setting.
        row = next(line for line in rows if key not in METRICS or line.count(" | ") == 3)
        assert row.count(" | ") == 3
        assert " ".join(setting.sentence.split()).replace("|", "\\|") in reference


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_every_section_has_its_table(spec):
    about = " ".join((spec.__doc__ or "").split("\n\n")[0].split())
    kinds = kinds_phrase(spec.inputs, spec.outputs)
    about += f" For {kinds}." if kinds else ""
    assert recipe_reference().count(f"\n\n{about}\n\n") == 1
    key, tag = tag_of(spec)
    if tag:
        assert f"`{key}: " in recipe_reference()


def test_what_sources_have_in_common_is_said_once_and_what_is_rare_comes_last():
    reference = recipe_reference()
    for key in ("limit", "leaks"):
        assert reference.count(f"\n| `{key}` |") == 1
    (common,) = [part for part in reference.split("\n## ") if part.startswith("`data`\n")]
    usual, _, rare = common.partition("Rarely needed:")
    assert "| `limit` |" in usual
    assert "| `leaks` |" in rare


def test_the_commented_recipe_comments_every_setting():
    lines = render_config(Recipe.model_validate(DIGITS | RECIPES["train"])).splitlines()
    for before, line in itertools.pairwise(lines):
        if ":" in line and not line.lstrip().startswith(("#", "-", '"')):
            assert before.lstrip().startswith("#"), line
    assert all(len(line) <= 100 for line in lines)


def test_the_schema_refuses_what_the_specs_refuse():
    schema = json_schema()
    json.dumps(schema)
    assert schema["required"] == ["version", "data"]
    for definition in [schema, *schema["$defs"].values()]:
        assert definition["additionalProperties"] is False
        for name, setting in definition["properties"].items():
            assert setting.get("description") or {"$ref", "const"} & set(setting), name
    durations = schema["$defs"]["TrainSpec"]["properties"]["checkpoint_every"]
    assert durations["pattern"]


def test_the_examples_are_recipes():
    examples = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
    for path in examples:
        parse_recipe(path.read_text(encoding="utf-8"), where=path.name)


def test_reading_a_recipe_needs_neither_torch_nor_numpy():
    code = "import sys, modelwright.recipe; print({'torch', 'numpy', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
