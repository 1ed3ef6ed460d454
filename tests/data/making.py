"""Small data of every kind, for the tests of this room."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from modelwright.recipe import parse_recipe
from modelwright.run import silent


def picture(number, side=12, kind="PNG", colour=None):
    """Return an image file that differs by number: a few random blocks."""
    chance = np.random.default_rng(number)
    blocks = chance.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    if colour is not None:
        blocks[:] = colour
    pixels = np.kron(blocks, np.ones((side // 4, side // 4, 1), dtype=np.uint8))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def folder(root, classes=("cat", "dog"), each=10, first=0):
    """Write a folder of class folders, each image unlike every other."""
    number = first
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for at in range(each):
            (root / name / f"{at:03d}.png").write_bytes(picture(number))
            number += 1
    return root


def recipe(data, more=""):
    """Return a recipe with this section `data`, in YAML's flow style."""
    return parse_recipe(f"version: 1\ndata: {{{data}}}\n{more}", where="recipe.yaml")


def prepared(base, data, more="", run_folder=None, observe=silent):
    """Prepare the data of a recipe."""
    from modelwright.data import prepare

    return prepare(recipe(data, more), base=base, run_folder=run_folder, observe=observe)
