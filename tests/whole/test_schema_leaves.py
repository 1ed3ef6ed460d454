"""Every setting of the recipe does something: for each there are two values that differ in effect.

The settings are found by walking the schema, so a new one without a witness fails here.
"""

from __future__ import annotations

import json
import sys
import typing
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import save_file

from modelwright.errors import MissingExtraError, ModelwrightError
from modelwright.initialization.published import published_files
from modelwright.recipe import Draft, Recipe
from modelwright.recipe.finetuning import PUBLISHED_MODELS
from modelwright.recipe.spec import Spec
from tests.models.timm_like import create_model, timm_like
from tests.whole.leaves.data import write_all
from tests.whole.leaves.effects import EFFECTS, Place, effects, write_untrained
from tests.whole.leaves.witnesses import BASES, FURTHER, WITNESSES, Witness

Leaf = tuple[str, str]


def sections(kind: object) -> Iterator[type[BaseModel]]:
    """Yield the sections that a type may hold."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for option in typing.get_args(kind):
        yield from sections(option)


def leaves(section: type[BaseModel]) -> Iterator[Leaf]:
    """Yield the settings below a section: those that hold values, and sections that may be none."""
    for name, held in section.model_fields.items():
        inner = list(sections(held.annotation))
        options = typing.get_args(held.annotation)
        if not inner or any(
            option not in inner and not list(sections(option)) for option in options
        ):
            yield section.__name__, name
        for item in inner:
            yield from leaves(item)


LEAVES = frozenset(leaves(Recipe))


def leaf_of(witness: Witness) -> Leaf:
    """Return the setting that a witness is of."""
    held: object = Draft.from_settings(witness.documents()[0]).recipe()
    *path, key = witness.path.split(".")
    for name in path:
        held = held[int(name)] if name.isdigit() else getattr(held, name)
    assert isinstance(held, Spec)
    return type(held).__name__, key


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The data, and what is worked out from it."""
    here = tmp_path_factory.mktemp("leaves")
    (here / "data").mkdir()
    (here / "runs").mkdir()
    write_all(here / "data")
    return Place(here / "data", here / "runs")


@pytest.fixture
def outside(witness, place, request, monkeypatch):
    """Stand in for what a witness needs beside the data, or skip it where that isn't here."""
    if "weights" in witness.needs:
        try:
            for name in PUBLISHED_MODELS:
                published_files(name)
        except MissingExtraError:
            pytest.skip("the published weights aren't installed")
    if "transformers" in witness.needs:
        pytest.importorskip("transformers")
        pytest.importorskip("tokenizers")
        encoders(place.data)
    if "timm" in witness.needs:
        monkeypatch.setitem(sys.modules, "timm", timm_like())
        networks(place.data)
    if "file" in witness.needs:
        for seed, name in enumerate(("first.mw", "second.mw")):
            if not (place.data / name).is_file():
                write_untrained({**BASES["photos"], "seed": seed}, place, place.data / name)
    if "hub" in witness.needs:
        hub = request.getfixturevalue("fake_hub")
        for name, folder in HUB.items():
            if (place.data / folder).is_dir():
                hub.put(name, place.data / folder)


HUB = {
    "org/bert": "encoder",
    "org/other-bert": "encoder2",
    "org/net": "weights",
    "org/other-net": "weights2",
}
"""The folders that are repositories of the hub."""


def encoders(folder):
    """Save two encoders, once."""
    from tests.whole.folders import encoder

    if not (folder / "encoder").is_dir():
        encoder(folder / "encoder")
        encoder(folder / "encoder2", "electra")


def networks(folder):
    """Save the weights of two networks of the stand-in's, once."""
    for seed, name in enumerate(("weights", "weights2")):
        if not (folder / name).is_dir():
            (folder / name).mkdir()
            torch.manual_seed(seed)
            made = create_model("tiny", pretrained=False, num_classes=10, in_chans=3)
            save_file(made.state_dict(), folder / name / "model.safetensors")
            config = {"architecture": "tiny", "num_classes": 10}
            (folder / name / "config.json").write_text(json.dumps(config))


def test_every_setting_has_one_witness():
    found = Counter(map(leaf_of, WITNESSES))
    assert LEAVES - set(found) == set()
    assert set(found) - LEAVES == set()
    assert {leaf for leaf, count in found.items() if count > 1} == set()


SLOW = ("answered", "measured")
"""Depths at which a graph is exported, for each witness anew or for a few."""


def cases(items, *, all_slow=False):
    """Return the parameters of a test, the slow ones marked."""
    return [
        pytest.param(
            item,
            id=f"{item.base}-{item.path}",
            marks=[pytest.mark.slow]
            if all_slow or item.effect in SLOW or "weights" in item.needs
            else [],
        )
        for item in items
    ]


@pytest.mark.parametrize("witness", cases(WITNESSES) + cases(FURTHER, all_slow=True))
def test_it_has_an_effect(witness, place, outside):
    before, after = witness.documents()
    first = effects(witness.effect, before, place)
    if witness.refused:
        with pytest.raises(ModelwrightError, match=witness.refused):
            effects(witness.effect, after, place)
        return
    second = effects(witness.effect, after, place)
    names = witness.only or first.keys() | second.keys()
    assert any(first.get(name) != second.get(name) for name in names)


BEFORE = {(item.base, item.effect): item for item in WITNESSES if not item.given}


@pytest.mark.parametrize("witness", cases(BEFORE.values()))
def test_the_same_recipe_has_the_same_effects(witness, place, outside):
    """Else the test above would pass whatever a setting does."""
    before, _ = witness.documents()
    known = effects(witness.effect, before, place)
    place.prepared.clear()
    assert EFFECTS[witness.effect](before, place) == known
