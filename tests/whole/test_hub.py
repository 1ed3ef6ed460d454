"""A network of a hub, from its name in a recipe to the model file; the hub is on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from modelwright import modelfile
from modelwright.cli import main
from modelwright.errors import DataError, MissingExtraError, ModelwrightError, RecipeError
from modelwright.files import digest, read_json
from modelwright.pipeline import check, fetch, layers, run
from modelwright.recipe import parse_recipe
from tests.hub_server import Fault
from tests.models.timm_like import create_model, timm_like

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from tests.whole.folders import edit, encoder, meals

RECIPE = """\
version: 1
task: text-classification
data: {source: table, path: meals.csv}
model:
  name: transformers
  hub: org/tiny
train: {epochs: 2, batch_size: 16, precision: fp32, compile: off,
        optimizer: {name: adamw, lr: 0.003}}
evaluate: {baselines: false, latency: false}
resources: {threads: 1}
"""
PHOTOS = """\
version: 1
data: {source: folder, path: photos}
model: {name: timm, hub: org/net}
train: {epochs: 1, batch_size: 8, precision: fp32, compile: off, optimizer: {name: adamw, lr: 0.01}}
evaluate: {baselines: false, latency: false}
resources: {threads: 1}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a tiny encoder and a table."""
    here = tmp_path_factory.mktemp("made")
    encoder(here / "tiny", masked=True)
    meals(here / "meals.csv", each=40)
    return here


@pytest.fixture
def place(made, tmp_path, fake_hub):
    """A folder of one's own with a recipe; the encoder is on the hub."""
    shutil.copytree(made, tmp_path / "here")
    (tmp_path / "here/meals.yaml").write_text(RECIPE)
    fake_hub.put("org/tiny", tmp_path / "here/tiny")
    return tmp_path / "here"


def carry_out(place, **options):
    return run(place / "meals.yaml", out=place / "runs", **options)


def commit_of(fake_hub, branch="main"):
    return fake_hub.branches["org/tiny"][branch]


# -- a run -----------------------------------------------------------------------------------


def test_fetched_once_a_run_needs_no_network_and_keeps_which_files_it_took(
    place, fake_hub, monkeypatch
):
    commit = commit_of(fake_hub)
    (found,) = fetch(place / "meals.yaml").networks
    assert found.commit == commit
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fake_hub.asked.clear()
    result = carry_out(place)
    files = {
        name: digest((place / "tiny" / name).read_bytes())
        for name in ("config.json", "tokenizer.json", "model.safetensors")
    }
    assert modelfile.describe(result.model)["lineage"][0] == {
        "step": "pretrained",
        "hub": "org/tiny",
        "commit": commit,
        "files": files,
        "model_type": "bert",
        "weights": files["model.safetensors"],
    }
    taken = read_json(result.folder / "decisions.json")["hub"]
    assert taken == {"repo": "org/tiny", "commit": commit, "files": files}
    assert any(f"starts from org/tiny, commit {commit[:7]} (bert)" in it for it in result.notes)
    assert any("HF_HUB_OFFLINE is set" in note for note in result.notes)
    # The recipe in the file means exactly these files, and the run is still that of its own.
    shipped = parse_recipe(modelfile.load(result.model).recipe, where="recipe.yaml")
    assert shipped.model.hub == f"org/tiny@{commit}"
    assert carry_out(place).finished_before
    assert modelfile.load(result.model).predict("the soup was good")
    assert fake_hub.asked == []


class EnoughError(Exception):
    """The weights are in the network; nothing needs to train."""


def stop_at_start(progress):
    if "The network starts from" in progress.note:
        raise EnoughError(progress.note)


def test_a_run_that_goes_on_takes_the_same_commit(place, fake_hub):
    begun = commit_of(fake_hub)
    with pytest.raises(EnoughError, match=f"org/tiny, commit {begun[:7]}"):
        carry_out(place, observe=stop_at_start)
    encoder(place / "other")
    assert fake_hub.put("org/tiny", place / "other") != begun
    shutil.rmtree(place.parent / "cache/hub")
    with pytest.raises(EnoughError, match=f"org/tiny, commit {begun[:7]}"):
        carry_out(place, observe=stop_at_start)
    # A hub that has something else under that commit is found out.
    config = json.loads((place / "tiny/config.json").read_text())
    changed = json.dumps({**config, "hidden_dropout_prob": 0.5}).encode()
    fake_hub.repos["org/tiny"][begun]["config.json"] = changed
    shutil.rmtree(place.parent / "cache/hub")
    with pytest.raises(DataError, match="isn't the one that this run began with"):
        carry_out(place)


def test_after_a_network_that_cant_be_used_the_name_is_free_for_another(place, fake_hub):
    edit(place / "tiny/config.json", model_type="mamba")
    fake_hub.put("org/mamba", place / "tiny")
    (place / "meals.yaml").write_text(RECIPE.replace("org/tiny", "org/mamba"))
    refused(place, kind=RecipeError)
    (place / "meals.yaml").write_text(RECIPE)
    with pytest.raises(EnoughError):
        carry_out(place, observe=stop_at_start)


# -- before a run ----------------------------------------------------------------------------


def test_check_says_how_much_is_downloaded_and_leaves_the_weights(place, fake_hub, capsys):
    size = (place / "tiny/model.safetensors").stat().st_size
    result = check(place / "meals.yaml")
    assert result.forecast.steps
    assert result.to_json()["download"] == {
        "repo": "org/tiny",
        "commit": commit_of(fake_hub),
        "size_bytes": size,
    }
    assert not result.download.is_whole
    assert sorted(path.name for path in result.download.folder.iterdir()) == [
        "config.json",
        "tokenizer.json",
    ]
    assert main(["check", str(place / "meals.yaml"), "--quiet"]) == 0
    assert "the weights of org/tiny, commit" in capsys.readouterr().out
    assert layers(place / "meals.yaml").parameters > 1000
    fetch(place / "meals.yaml")
    assert check(place / "meals.yaml").to_json()["download"] is None


def test_fetch_prints_what_it_brought(place, fake_hub, capsys):
    assert main(["fetch", str(place / "meals.yaml"), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert f"org/tiny, commit {commit_of(fake_hub)} (`main`)" in shown
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        assert digest((place / "tiny" / name).read_bytes()).removeprefix("sha256:") in shown
    assert main(["fetch", str(place / "meals.yaml"), "--json", "--quiet"]) == 0
    (network,) = json.loads(capsys.readouterr().out)["fetched"]
    assert set(network) == {"repo", "revision", "commit", "folder", "files"}
    assert [file["downloaded"] for file in network["files"]] == [False] * 3
    (place / "digits.yaml").write_text("version: 1\ndata: {source: digits}\n")
    assert main(["fetch", str(place / "digits.yaml")]) == 0
    assert "needs nothing from a hub" in capsys.readouterr().out


def test_fetch_needs_neither_torch_nor_transformers(place):
    code = (
        "import sys; from modelwright.cli import main; assert main(['fetch', 'meals.yaml']) == 0; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "org/tiny, commit" in done.stdout


# -- what is refused -------------------------------------------------------------------------


def refused(place, what=carry_out, kind=ModelwrightError):
    with pytest.raises(kind) as caught:
        what(place)
    assert caught.value.where == f"{place / 'meals.yaml'}:6"
    return str(caught.value)


def checked(place):
    return check(place / "meals.yaml")


@pytest.mark.parametrize("what", [carry_out, checked])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401, "RepoNotFound"), "has no org/tiny, or it is private"),
        (Fault(404, "RevisionNotFound"), "org/tiny has no such revision"),
        (Fault(403, "GatedRepo"), "org/tiny is gated"),
    ],
)
def test_an_error_names_the_line_and_the_way_by_hand(fault, words, what, place, fake_hub):
    fake_hub.faults["/api/"] = fault
    text = refused(place, what)
    assert words in text
    assert "By hand: download `config.json`, `tokenizer.json` and the weights" in text
    assert f"from {fake_hub.url}/org/tiny/tree/main into a folder" in text
    assert "write `path: FOLDER` in place of `hub`" in text


def test_a_missing_library_is_named_with_what_installs_it(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    text = refused(place, lambda here: fetch(here / "meals.yaml"), MissingExtraError)
    assert "`model.hub` needs the library `huggingface_hub`" in text
    assert "modelwright[hub]" in text


def test_a_network_of_another_kind_is_refused_without_its_weights(place, fake_hub):
    edit(place / "tiny/config.json", model_type="mamba")
    fake_hub.put("org/tiny", place / "tiny")
    for what in (checked, carry_out):
        text = refused(place, what, RecipeError)
        assert "`config.json` of org/tiny: a network of the type `mamba` isn't known" in text


@pytest.mark.parametrize("what", [checked, carry_out])
def test_weights_of_another_shape_are_refused_before_training(what, place, fake_hub):
    edit(place / "tiny/config.json", hidden_size=32)
    fake_hub.put("org/tiny", place / "tiny")
    text = refused(place, what, RecipeError)
    assert "org/tiny: the weights `embeddings.LayerNorm.bias` are [16]" in text
    assert "asks for [32]" in text


def test_weights_that_are_missing_or_no_safetensors_are_refused(place, fake_hub):
    save_file({"pooler.dense.bias": torch.zeros(16)}, place / "tiny/model.safetensors")
    fake_hub.put("org/tiny", place / "tiny")
    for what in (checked, carry_out):
        assert "are missing" in refused(place, what, RecipeError)
    (place / "tiny/model.safetensors").write_bytes(b"not at all")
    fake_hub.put("org/tiny", place / "tiny")
    text = refused(place, kind=RecipeError)
    assert "`model.safetensors` of org/tiny: this file of weights is damaged" in text


# -- timm ------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path, fake_hub, monkeypatch):
    """Red and blue pictures, a stand-in of timm, and one of its networks on the hub."""
    monkeypatch.setitem(sys.modules, "timm", timm_like())
    random = np.random.default_rng(0)
    for number in range(40):
        pixels = random.integers(0, 100, (8, 8, 3), dtype=np.uint8)
        pixels[..., 2 * (number % 2)] += 120
        path = tmp_path / "photos" / ("red", "blue")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (tmp_path / "net").mkdir()
    torch.manual_seed(1)
    network = create_model("tiny", pretrained=False, num_classes=10, in_chans=3)
    save_file(network.state_dict(), tmp_path / "net/model.safetensors")
    declared = {"input_size": [3, 8, 8], "mean": [0.5] * 3, "std": [0.25] * 3}
    config = {"architecture": "tiny", "num_classes": 10, "pretrained_cfg": declared}
    (tmp_path / "net/config.json").write_text(json.dumps(config))
    (tmp_path / "net/pytorch_model.bin").write_bytes(b"a pickle")
    fake_hub.put("org/net", tmp_path / "net")
    (tmp_path / "photos.yaml").write_text(PHOTOS)
    return tmp_path


def test_a_network_of_timms_needs_no_name_beside_the_hubs(photos, fake_hub):
    assert check(photos / "photos.yaml").to_json()["download"]["repo"] == "org/net"
    assert (
        not (photos / "cache/hub/org/net" / fake_hub.branches["org/net"]["main"])
        .joinpath("net/model.safetensors")
        .exists()
    )
    result = run(photos / "photos.yaml", out=photos / "runs")
    step = modelfile.describe(result.model)["lineage"][0]
    weights = digest((photos / "net/model.safetensors").read_bytes())
    assert step["hub"] == "org/net"
    assert step["commit"] == fake_hub.branches["org/net"]["main"]
    assert step["files"]["model.safetensors"] == step["weights"] == weights
    assert step["model"] == "timm:tiny"
    assert modelfile.rebuild(result.model).network.steps.mean.tolist() == [0.5] * 3
    assert set(fake_hub.downloads()) == {"config.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "bert"}, "its `architecture` is `bert`, which isn't a network of timm's"),
        ({"architecture": "tiny_deep"}, "are missing"),
        ({"model_args": {"url": "x"}}, "the network's setting `url` isn't known"),
    ],
)
def test_what_is_no_network_of_timms_is_refused(change, words, photos, fake_hub):
    edit(photos / "net/config.json", **change)
    fake_hub.put("org/net", photos / "net")
    for carried_out in (check, partial(run, out=photos / "runs")):
        with pytest.raises(RecipeError) as caught:
            carried_out(photos / "photos.yaml")
        assert words in str(caught.value)
        assert caught.value.where == f"{photos / 'photos.yaml'}:3"


def test_another_network_than_the_named_one_is_refused(photos):
    text = PHOTOS.replace("hub: org/net", "model: tiny_deep, hub: org/net")
    (photos / "photos.yaml").write_text(text)
    with pytest.raises(RecipeError, match="the weights are of `tiny`, and the recipe asks for"):
        check(photos / "photos.yaml")
