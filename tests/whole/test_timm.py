"""Networks of timm's from a recipe to a model file, and further.

What is ours is tested with a small stand-in everywhere; published networks where timm can be
imported.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from modelwright import modelfile
from modelwright.errors import MissingExtraError, ModelwrightError, RecipeError
from modelwright.pipeline import check, layers, run
from modelwright.recipe import load_recipe, parse_recipe
from tests.models.timm_like import create_model, timm_like

SETTINGS = """\
train: {epochs: 2, batch_size: 8, precision: fp32, compile: off, optimizer: {name: adamw, lr: 0.01}}
evaluate: {baselines: false, latency: false}
resources: {threads: 1}
"""
RECIPE = "version: 1\ndata: {source: folder, path: photos}\nmodel: {name: timm, model: tiny}\n"
FROM_FOLDER = RECIPE.replace("tiny}", "tiny, weights: hub}")
HALF = {"input_size": [3, 8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
SAME = 1e-4
"""The graph sums in another order, through some dozens of layers of fp32."""


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", timm_like())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Red and blue pictures of 8×8, a table that says how red they are, and a folder of weights."""
    here = tmp_path_factory.mktemp("timm")
    random, rows = np.random.default_rng(0), ["image,redness"]
    for number in range(48):
        label = ("red", "blue")[number % 2]
        pixels = random.integers(0, 100, (8, 8, 3), dtype=np.uint8)
        pixels[..., 0 if label == "red" else 2] += 120
        path = here / "photos" / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        rows.append(f"photos/{label}/{number}.png,{pixels[..., 0].mean() / 255:.4f}")
    (here / "red.csv").write_text("\n".join(rows) + "\n")
    torch.manual_seed(1)
    whole = create_model("tiny", pretrained=False, num_classes=10, in_chans=3)
    (here / "hub").mkdir()
    save_file(whole.state_dict(), here / "hub/model.safetensors")
    config = {"architecture": "tiny", "num_classes": 10, "pretrained_cfg": HALF}
    (here / "hub/config.json").write_text(json.dumps(config))
    return here


def recipe(place, name, text=RECIPE):
    (place / f"{name}.yaml").write_text(text + ("" if "train:" in text else SETTINGS))
    return place / f"{name}.yaml"


def answers_as_in_torch(path):
    """Compare a file's answers with those of the network that is built again from it."""
    model, candidate = modelfile.load(path), modelfile.rebuild(path)
    shape = (5, candidate.input.height, candidate.input.width, candidate.input.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with torch.no_grad():
        expected = candidate.network(torch.from_numpy(pixels)).numpy()
    (temperature,) = model.inference.temperature or (1.0,)
    logits = model.outputs({"pixels": pixels}) * temperature
    np.testing.assert_allclose(logits, expected, rtol=SAME, atol=SAME)


def declared(path):
    """Return the mean by which a model file normalises."""
    return modelfile.rebuild(path).network.steps.mean.tolist()


# -- from recipe to file ---------------------------------------------------------------------


def test_it_starts_from_a_folder_and_says_so(place, stand_in):
    result = run(recipe(place, "folder", FROM_FOLDER), out=place / "runs")
    assert next(item.value for item in result.ledger if item.metric == "accuracy") >= 0.9
    assert any("starts from hub (timm's tiny); its last layer is left" in it for it in result.notes)
    assert any("as the weights' folder says: mean 0.5 0.5 0.5" in it for it in result.notes)
    assert declared(result.model) == [0.5, 0.5, 0.5]
    from modelwright.files import digest

    step = modelfile.describe(result.model)["lineage"][0]
    assert step == {
        "step": "pretrained",
        "file": "hub",
        "model": "timm:tiny",
        "weights": digest((place / "hub/model.safetensors").read_bytes()),
    }
    answers_as_in_torch(result.model)


def test_a_recipe_may_normalise_otherwise(place, stand_in):
    text = FROM_FOLDER + "transforms: {normalize: dataset}\n"
    result = run(recipe(place, "dataset", text), out=place / "runs")
    assert any("as the recipe says (`dataset`)" in note for note in result.notes)
    assert declared(result.model) != [0.5, 0.5, 0.5]


def test_a_file_alone_is_normalised_as_is_usual(place, stand_in):
    text = FROM_FOLDER.replace("hub", "hub/model.safetensors")
    result = run(recipe(place, "file", text), out=place / "runs")
    assert any("as is usual with this network: mean 0.485" in note for note in result.notes)


def test_a_new_network_answers_with_numbers(place, stand_in):
    data = "data: {source: table, path: red.csv, target_columns: [redness]}"
    text = f"version: 1\ntask: regression\n{data}\nmodel: 'timm:tiny'\n"
    result = run(recipe(place, "numbers", text), out=place / "runs")
    assert modelfile.describe(result.model)["lineage"][0]["step"] == "train"
    answers_as_in_torch(result.model)


def test_the_short_form_names_the_same():
    short = RECIPE.replace("{name: timm, model: tiny}", '"timm:tiny"')
    assert parse_recipe(short, where="a") == parse_recipe(RECIPE, where="b")


def test_check_and_layers_know_it(place, stand_in):
    path = recipe(place, "looked", FROM_FOLDER)
    assert check(path).forecast
    assert {"network.stem", "head"} <= {item.name for item in layers(path).layers}


def test_adapters_are_trained_alone_and_leave_plain_weights(place, stand_in):
    text = FROM_FOLDER.replace("hub}", "hub, adapters: {rank: 2, match: ['*.blocks.0']}}")
    result = run(recipe(place, "adapted", text), out=place / "runs")
    assert any("parameters learn" in note for note in result.notes)
    from safetensors.numpy import load_file

    held = load_file(place / "hub/model.safetensors")
    after = modelfile.read_weights(result.model)
    assert np.array_equal(after["body.network.stem.weight"], held["stem.weight"])
    assert not np.array_equal(after["body.network.blocks.0.weight"], held["blocks.0.weight"])


def test_a_model_file_of_it_is_trained_further(place, stand_in, monkeypatch):
    first = run(recipe(place, "first", FROM_FOLDER), out=place / "runs").model
    text = RECIPE.replace("{name: timm, model: tiny}", f"{{init: {first}}}")
    result = run(recipe(place, "further", text), out=place / "runs")
    steps = [step["step"] for step in modelfile.describe(result.model)["lineage"]]
    assert steps == ["pretrained", "train", "export", "init", "train", "export"]
    assert declared(result.model) == [0.5, 0.5, 0.5]
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match="isn't installed") as caught:
        layers(place / "further.yaml")
    assert "modelwright[timm]" in str(caught.value)


def test_predicting_imports_neither_torch_nor_timm(place, stand_in):
    path = run(recipe(place, "used", FROM_FOLDER), out=place / "runs").model
    picture = place / "photos/red/0.png"
    program = (
        "import sys; sys.modules['timm'] = None; from modelwright import modelfile; "
        f"print(modelfile.load({str(path)!r}).predict({str(picture)!r})[0]['label']); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "red"), done.stderr


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (RECIPE.replace("tiny", "hf-hub:a/tiny"), 3, "timm has no network `hf-hub:a/tiny`"),
        (FROM_FOLDER.replace("hub", "timm/tiny.a1"), 3, "there is no `timm/tiny.a1`"),
        (FROM_FOLDER.replace("tiny", "tiny_deep"), None, "are of `tiny`"),
        (
            FROM_FOLDER + "transforms: {color_mode: grayscale}",
            4,
            "for images of 3 channels, and these",
        ),
        (
            RECIPE.replace("tiny", "tiny_fixed") + "transforms: {size: 8}\n"
            "train: {resolution: [{until: 0.5, size: 4}], batch_size: 8, precision: fp32}",
            5,
            "is built for one",
        ),
    ],
)
def test_it_is_refused_with_its_place(place, stand_in, tmp_path, text, line, words):
    with pytest.raises(ModelwrightError) as caught:
        run(recipe(place, "refused", text + "\n"), out=tmp_path)
    assert isinstance(caught.value, RecipeError)
    assert words in str(caught.value)
    if line is not None:
        assert caught.value.where.endswith(f"refused.yaml:{line}")


# -- published networks ----------------------------------------------------------------------

PUBLISHED = {
    "resnet18": 32,
    "mobilenetv3_small_100": 32,
    "efficientnet_b0": 32,
    "convnext_atto": 32,
    "vit_tiny_patch16_224": 32,
}
"""Some of timm's, each with a side of images for which a run takes seconds."""


@pytest.fixture
def published():
    try:
        import timm
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        pytest.skip(f"timm can't be imported: {error}")
    return timm


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_networks_are_trained_exported_and_built_again(place, published, model):
    side = PUBLISHED[model]
    # As timm saves one for the hub: the whole network, with a head for other classes.
    torch.manual_seed(1)
    size = {"img_size": side} if "vit" in model else {}
    whole = published.create_model(model, pretrained=False, num_classes=5, **size)
    folder = place / model
    published.models.save_for_hf(whole, folder, safe_serialization=True)
    own = whole.pretrained_cfg
    text = (
        RECIPE.replace("tiny", f"{model}, weights: {model}")
        + f"transforms: {{size: {side}}}\n"
        + SETTINGS.replace("epochs: 2", "epochs: 1")
    )
    result = run(recipe(place, f"published-{model}", text), out=place / "runs")
    assert modelfile.verify(result.model).golden_difference <= SAME
    np.testing.assert_allclose(declared(result.model), own["mean"], rtol=1e-6)
    step = modelfile.describe(result.model)["lineage"][0]
    assert (step["file"], step["model"]) == (model, f"timm:{model}")
    answers_as_in_torch(result.model)


@pytest.mark.parametrize("model", PUBLISHED)
def test_before_training_it_computes_what_timm_computes(published, tmp_path, model):
    from modelwright.models.network import Frame
    from modelwright.models.timm_networks import (
        TimmNetwork,
        build_timm,
        open_weights,
        take_weights,
    )

    side = PUBLISHED[model]
    size = {"img_size": side} if "vit" in model else {}
    whole = published.create_model(model, pretrained=False, num_classes=5, **size).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    spec = TimmNetwork(name="timm", model=model, settings={})
    frame = Frame(3, side, side, 5)
    body = build_timm(spec, frame).eval()
    left = take_weights(body, spec, frame, open_weights(tmp_path / "w.safetensors", model))
    assert len(left) == 2
    last = whole.get_classifier()
    body.head.load_state_dict(last.state_dict())
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        torch.testing.assert_close(body(images), whole(images))


def test_adapters_of_a_published_network(place, published):
    whole = published.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32)
    save_file(whole.state_dict(), place / "vit.safetensors")
    given = "vit_tiny_patch16_224, weights: vit.safetensors, adapters: {match: ['*.qkv']}"
    text = RECIPE.replace("tiny}", given + "}") + "transforms: {size: 32}\n"
    result = run(recipe(place, "adapted-vit", text), out=place / "runs")
    after = modelfile.read_weights(result.model)
    for name, item in whole.state_dict().items():
        if not name.startswith("head."):
            same = np.array_equal(after[f"body.network.{name}"], item.numpy())
            assert same != name.endswith("qkv.weight"), name
    answers_as_in_torch(result.model)


def test_names_that_fetch_and_settings_that_load_are_none_of_timms_own(published):
    names = published.list_models()
    assert not [name for name in names if set(name) & set(":/.@ ")]
    assert all(published.models.get_pretrained_cfg(name) is not None for name in names)


def test_weights_for_another_size_or_network(place, published):
    whole = published.create_model("vit_tiny_patch16_224", num_classes=5, img_size=64)
    save_file(whole.state_dict(), place / "vit64.safetensors")
    given = "vit_tiny_patch16_224, weights: vit64.safetensors}"
    with pytest.raises(ModelwrightError, match="pos_embed") as caught:
        layers(recipe(place, "vit64", RECIPE.replace("tiny}", given) + "transforms: {size: 32}\n"))
    assert "transforms: {size: 224}" in str(caught.value)


def test_a_recipe_of_a_published_network_is_read(place):
    path = recipe(place, "read", RECIPE.replace("tiny", "resnet18"))
    assert load_recipe(path).model.model == "resnet18"
