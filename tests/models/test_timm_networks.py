"""Networks of timm's, with what stands in for it: names, weights and settings of strangers."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.timm_like import USUAL, create_model, timm_like

from modelwright import models
from modelwright.errors import MissingExtraError, ModelFileError, RecipeError
from modelwright.models.modifications import Resize, modified
from modelwright.models.network import Frame
from modelwright.models.timm_networks import (
    TimmNetwork,
    build_timm,
    open_weights,
    take_weights,
)
from modelwright.transforms import ImageInput

FRAME = Frame(channels=3, height=8, width=8, num_outputs=4)
HOSTILE = [
    "hf-hub:someone/tiny",
    "hf_hub:someone/tiny",
    "local-dir:/etc",
    "HF-HUB:someone/tiny",
    "someone/tiny",
    "../tiny",
    "tiny.tag",
    "tiny ",
    "TINY",
    "",
    "__init__",
]


@pytest.fixture(autouse=True)
def library(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", timm_like())


def section(model="tiny", **settings):
    return TimmNetwork(name="timm", model=model, settings=settings)


@pytest.fixture
def folder(tmp_path):
    """A folder as timm's are on the hub: of 10 classes, and of another mean than is usual."""
    here = tmp_path / "hub"
    here.mkdir()
    torch.manual_seed(1)
    whole = create_model("tiny", pretrained=False, num_classes=10, in_chans=3)
    save_file(whole.state_dict(), here / "model.safetensors")
    figures = {"input_size": [3, 8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    configure(here, architecture="tiny", num_classes=10, pretrained_cfg=figures)
    return here


def configure(here, **changes):
    path = here / "config.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**held, **changes}))


def taken(path, model="tiny", frame=FRAME):
    weights = open_weights(path, model)
    spec = section(model, **weights.settings)
    body = build_timm(spec, frame)
    return body, take_weights(body, spec, frame, weights)


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", HOSTILE)
def test_a_name_that_is_not_registered_is_refused(model):
    with pytest.raises(RecipeError, match="timm has no network"):
        build_timm(section(model), FRAME)


@pytest.mark.parametrize(
    ("model", "way_out"),
    [
        ("tiny.a1_in1k", "Write `tiny`, and name the file of weights as `weights`; or, for"),
        ("tiny.a1_in1k", "`hub: timm/tiny.a1_in1k`"),
        ("hf-hub:o/tiny.a1_in1k", "`hub: o/tiny.a1_in1k`"),
        ("tinny", "Did you mean `tiny`?"),
        ("resnet", "timm.list_models() in Python lists them"),
    ],
)
def test_the_way_out_of_a_wrong_name_is_said(model, way_out):
    with pytest.raises(RecipeError) as caught:
        build_timm(section(model), FRAME)
    assert way_out in str(caught.value)


@pytest.mark.parametrize("model", HOSTILE)
def test_a_file_with_such_a_name_is_refused(model):
    kept, weights = kept_and_weights()
    with pytest.raises(ModelFileError):
        models.rebuild({**kept, "model": model}, weights)


@pytest.mark.parametrize(
    "settings",
    [
        {"checkpoint_path": "/tmp/evil.pth"},
        {"pretrained": True},
        {"pretrained_cfg": "evil"},
        {"cache_dir": "/tmp"},
        {"depth": 10**6},
        {"depth": -1},
        {"mlp_ratio": 1e30},
        {"global_pool": "x" * 100},
        {"embed_dim": [6]},
        {"embed_dim": None},
    ],
)
def test_a_file_with_strange_settings_is_refused(settings):
    kept, weights = kept_and_weights()
    with pytest.raises(ModelFileError):
        models.rebuild({**kept, "settings": settings}, weights)


def test_a_file_for_enormous_images_is_refused_before_anything_is_built():
    kept, weights = kept_and_weights()
    ends = {"channels": 3, "height": 1 << 20, "width": 8}
    with pytest.raises(ModelFileError, match="can't be built"):
        models.rebuild({**kept, "input": ends}, weights)


def test_a_modified_network_is_built_again_and_an_enormous_one_narrowed_to_nothing_refused():
    kept, weights = kept_and_weights()
    changes = [Resize(layer="body.network.stem", out_features=4)]
    changes.append(Resize(layer="body.network.blocks.0", in_features=4))
    weights = dict(weights)
    weights["body.network.stem.weight"] = weights["body.network.stem.weight"][:4]
    weights["body.network.stem.bias"] = weights["body.network.stem.bias"][:4]
    weights["body.network.blocks.0.weight"] = weights["body.network.blocks.0.weight"][:, :4]
    again = models.rebuild(modified(kept, *changes), weights)
    assert all(torch.equal(item, weights[name]) for name, item in again.state_dict().items())
    assert again(torch.zeros(2, 8, 8, 3, dtype=torch.uint8)).shape == (2, 4)
    kept, whole = kept_and_weights(section(depth=200))
    places = [f"body.network.blocks.{at}" for at in range(200)]
    changes = [
        Resize(layer="body.network.stem", out_features=1),
        *(Resize(layer=place, in_features=1, out_features=1) for place in places),
        Resize(layer="body.head", in_features=1),
    ]
    weights = {name: torch.zeros(1, 1) for name in whole if ".blocks." in name}
    weights = {**whole, **weights, "body.head.weight": torch.zeros(4, 1)}
    weights["body.network.stem.weight"] = torch.zeros(1, 3, 3, 3)
    weights |= {name: torch.zeros(1) for name in whole if "network" in name and "bias" in name}
    with pytest.raises(ModelFileError, match="leave too little of the network"):
        models.rebuild(modified(kept, *changes), weights)


def kept_and_weights(spec=None, numbers=None):
    spec = spec or section()
    torch.manual_seed(0)
    network = models.build_network(
        spec, input=IMAGES, num_outputs=4, mean=[0.4] * 3, std=[0.2] * 3, numbers=numbers
    )
    kept = models.architecture(spec, input=IMAGES, num_outputs=4, numbers=numbers is not None)
    return kept, network.state_dict()


IMAGES = ImageInput(height=8, width=8, channels=3)


# -- building --------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [None, ((1.0,) * 4, (2.0,) * 4)])
@pytest.mark.parametrize("model", ["tiny", "tiny_fixed"])
def test_it_is_built_again_from_name_settings_and_weights(model, numbers):
    kept, weights = kept_and_weights(section(model, depth=3), numbers)
    assert kept["model"] == model
    assert kept["settings"] == {"depth": 3}
    again = models.rebuild(kept, weights)
    assert all(torch.equal(item, weights[name]) for name, item in again.state_dict().items())
    assert again(torch.zeros(2, 8, 8, 3, dtype=torch.uint8)).shape == (2, 4)


def test_its_weights_start_as_the_library_draws_them():
    torch.manual_seed(0)
    plain = create_model("tiny", pretrained=False, num_classes=0, in_chans=3)
    _, weights = kept_and_weights()
    assert torch.equal(weights["body.network.stem.weight"], plain.stem.weight)


def test_a_network_that_refuses_the_images_says_why(monkeypatch):
    def fails(*given, **settings):
        raise AssertionError("width must be a multiple of 32\nand more")

    monkeypatch.setattr(sys.modules["timm"], "create_model", fails)
    with pytest.raises(RecipeError) as caught:
        build_timm(section(), FRAME)
    assert "images of 8×8 pixels. width must be a multiple of 32." in str(caught.value)


# -- weights ---------------------------------------------------------------------------------


def test_a_folder_gives_its_weights_and_its_pixels(folder):
    body, left = taken(folder)
    held = load_file(folder / "model.safetensors")
    assert torch.equal(body.network.stem.weight, held["stem.weight"])
    assert left == ["fc.bias", "fc.weight"]
    assert body.head.out_features == 4
    weights = open_weights(folder, "tiny")
    assert (weights.mean, weights.is_declared) == ((0.5, 0.5, 0.5), True)
    assert weights.digest().startswith("sha256:")


def test_a_file_alone_has_the_usual_pixels(folder):
    weights = open_weights(folder / "model.safetensors", "tiny")
    assert (weights.mean, weights.std, weights.is_declared) == (USUAL["mean"], USUAL["std"], False)


def test_plain_settings_of_a_folder_are_kept_and_what_the_data_decides_is_not(folder):
    whole = create_model("tiny", pretrained=False, num_classes=10, in_chans=3, depth=3)
    save_file(whole.state_dict(), folder / "model.safetensors")
    configure(folder, model_args={"depth": 3, "num_classes": 10, "img_size": [8, 8]})
    body, _ = taken(folder)
    assert open_weights(folder, "tiny").settings == {"depth": 3}
    assert len(body.network.blocks) == 3


@pytest.mark.parametrize(
    "given",
    [{"checkpoint_path": "evil.pth"}, {"pretrained": True}, {"depth": [1]}, [1], "depth"],
)
def test_other_settings_of_a_folder_are_refused(folder, given):
    configure(folder, model_args=given)
    with pytest.raises(RecipeError) as caught:
        open_weights(folder, "tiny")
    assert "config.json" in caught.value.where


@pytest.mark.parametrize(
    "figures",
    [
        {"mean": [0.5]},
        {"mean": "grey"},
        {"mean": 5},
        {"std": [0, 1, 1]},
        {"std": [-1, 1, 1]},
        {"std": ["1", 1, 1]},
        {"input_size": [3, 8]},
        {"input_size": [3, 8, 10**9]},
        {"input_size": [0, 8, 8], "mean": [], "std": []},
        {"mean": [float("nan")] * 3},
    ],
)
def test_pixels_that_make_no_sense_are_refused(folder, figures):
    configure(folder, pretrained_cfg=figures)
    with pytest.raises(RecipeError, match=r"don't fit together|isn't JSON"):
        open_weights(folder, "tiny")


def test_a_folder_of_another_network_is_refused(folder):
    with pytest.raises(RecipeError) as caught:
        open_weights(folder, "tiny_deep")
    assert "are of `tiny`, and the recipe asks for `tiny_deep`" in str(caught.value)
    assert "Write `model: tiny`" in str(caught.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tiny.pth", "tiny.npz"])
def test_a_pickle_is_never_read(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    for path in (folder, folder / name):
        with pytest.raises(RecipeError, match="isn't read") as caught:
            open_weights(path, "tiny")
        assert "can run code" in str(caught.value)


def test_a_pickle_by_another_name_is_never_read_either(folder):
    torch.save({"stem.weight": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(RecipeError, match="damaged or cut short"):
        taken(folder)


def test_an_empty_folder_has_no_weights(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no `model\.safetensors`"):
        open_weights(tmp_path, "tiny")


def test_weights_that_are_cut_short(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecipeError, match="damaged or cut short"):
        taken(folder)


def test_weights_that_are_missing_of_another_shape_or_too_many(folder):
    file = folder / "model.safetensors"
    with pytest.raises(RecipeError, match="are missing"):
        taken(file, "tiny_deep")
    held = load_file(file)
    save_file({**held, "blocks.7.weight": torch.zeros(2)}, file)
    with pytest.raises(RecipeError, match=r"`blocks\.7\.weight` have no place"):
        taken(file)
    save_file({**held, "stem.bias": torch.zeros(2)}, file)
    with pytest.raises(RecipeError, match=r"timm's `tiny` asks for \[6\]"):
        taken(file)


def test_a_network_for_one_size_says_which(tmp_path):
    whole = create_model(
        "tiny_fixed", pretrained=False, num_classes=10, in_chans=3, img_size=(8, 8)
    )
    save_file(whole.state_dict(), tmp_path / "fixed.safetensors")
    larger = Frame(channels=3, height=16, width=16, num_outputs=4)
    with pytest.raises(RecipeError) as caught:
        taken(tmp_path / "fixed.safetensors", "tiny_fixed", larger)
    assert "transforms: {size: 8}" in str(caught.value)


# -- without the library ---------------------------------------------------------------------


def test_without_timm_it_says_how_to_install_it_and_what_else_there_is(monkeypatch):
    kept, weights = kept_and_weights()
    monkeypatch.setitem(sys.modules, "timm", None)
    for build in (
        lambda: build_timm(section(), FRAME),
        lambda: models.rebuild(kept, weights),
    ):
        with pytest.raises(MissingExtraError, match="isn't installed") as caught:
            build()
        assert "modelwright[timm]" in str(caught.value)
        assert "`model: {name: resnet}`" in str(caught.value)


@pytest.mark.parametrize(
    "broken",
    [
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "import a_torchvision_that_is_missing",
        "import torch; torch.ops.torchvision._no_such_thing",
        "raise OSError('libcudart.so.13: cannot open shared object file')",
    ],
)
def test_a_timm_that_cannot_be_imported_is_no_traceback(tmp_path, monkeypatch, broken):
    (tmp_path / "timm.py").write_text(broken)
    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="can't be imported") as caught:
        build_timm(section(), FRAME)
    assert "torchvision" in str(caught.value)
    assert "`model: {name: resnet}`" in str(caught.value)
    assert not isinstance(sys.modules.get("timm"), ModuleType)
