from __future__ import annotations

import io
import math

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from modelwright import models
from modelwright.errors import ModelFileError, RecipeError, RequestError
from modelwright.models.network import EvenConv, same_conv
from modelwright.models.pretrained import PretrainedModel
from modelwright.models.resnet import ChannelPadding, Pointwise, resolved_stem
from modelwright.models.timm_networks import TimmNetwork
from modelwright.recipe.model import (
    LinearModel,
    MinilmModel,
    ModelSpec,
    TimmModel,
    TransformersModel,
)
from modelwright.recipe.networks import (
    AudioCnnModel,
    BowModel,
    CnnModel,
    ConvBlock,
    EfficientNetLite0Model,
    MlpModel,
    ResnetModel,
    SpeednetModel,
)
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput

SPECS = {
    "mlp": MlpModel(name="mlp", hidden=(16, 8), dropout=0.1),
    "cnn": CnnModel(
        name="cnn", blocks=(ConvBlock(filters=6), ConvBlock(filters=8, convolutions=2))
    ),
    "cnn-odd": CnnModel(
        name="cnn",
        blocks=(ConvBlock(filters=6, kernel=4, pool=1), ConvBlock(filters=5, kernel=2, pool=3)),
        pooling="average",
        head=(),
        batch_norm=False,
        activation="tanh",
        dropout=0.5,
    ),
    "resnet": ResnetModel(name="resnet", depth=20, width=0.25),
    "resnet18": ResnetModel(name="resnet", depth=18, width=0.07, stem="large"),
    "speednet": SpeednetModel(name="speednet", widths=(8, 12, 10)),
    "efficientnet-lite0": EfficientNetLite0Model(name="efficientnet-lite0", pretrained=False),
}
EXPORTED = 1e-5
"""The exported graph sums in another order, over a few hundred terms of fp32."""


def built(spec, *, channels=3, height=32, width=32, num_outputs=7, seed=0):
    torch.manual_seed(seed)
    return models.build(
        spec,
        channels=channels,
        height=height,
        width=width,
        num_outputs=num_outputs,
        mean=[0.4, 0.5, 0.6][:channels],
        std=[0.2, 0.25, 0.3][:channels],
    )


def pixels(count=5, *, height=32, width=32, channels=3, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (count, height, width, channels), np.uint8))


def settled(network):
    """Give norms statistics, so that evaluation mode computes what training mode would."""
    network.train()
    with torch.no_grad():
        for seed in range(3):
            network(pixels(16, seed=seed))
    return network.eval()


def test_table_holds_every_family():
    families = {
        item.__origin__ if hasattr(item, "__origin__") else item for item in union_members()
    }
    # What lies on this machine is read into what is built: its settings, not its path.
    read = {
        TransformersModel: PretrainedModel,
        MinilmModel: PretrainedModel,
        TimmModel: TimmNetwork,
    }
    named = {read.get(item, item) for item in families if "name" in item.model_fields}
    assert set(models.BUILDERS) == named


def union_members():
    from typing import get_args

    return [get_args(member)[0] for member in get_args(get_args(ModelSpec)[0])]


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_family_maps_uint8_pixels_to_outputs(name, channels):
    network = built(SPECS[name], channels=channels).eval()
    outputs = network(pixels(4, channels=channels))
    assert outputs.shape == (4, 7)
    assert outputs.dtype == torch.float32
    assert torch.isfinite(outputs).all()


@pytest.mark.parametrize("name", SPECS)
def test_samples_do_not_see_each_other_in_evaluation(name):
    network = settled(built(SPECS[name]))
    images = pixels(4)
    with torch.no_grad():
        whole = network(images)
        single = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(whole, single, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_uint8_and_float_pixels_are_one(name):
    network = settled(built(SPECS[name]))
    assert torch.equal(network(pixels()), network(pixels().float()))


@pytest.mark.parametrize("name", SPECS)
def test_every_trained_parameter_gets_a_gradient(name):
    network = built(SPECS[name])
    network(pixels(8)).square().sum().backward()
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", SPECS)
def test_same_seed_same_weights_and_another_seed_others(name):
    one, same, other = (built(SPECS[name], seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", SPECS)
def test_head_is_the_last_weight(name):
    weights = [key for key, item in built(SPECS[name]).named_parameters() if item.ndim > 1]
    assert weights[-1] == "body.head.weight"


@pytest.mark.parametrize("name", ["resnet", "resnet18", "speednet", "efficientnet-lite0"])
def test_families_without_flattening_take_other_sizes(name):
    network = settled(built(SPECS[name]))
    for height, width in ((20, 20), (24, 17), (40, 33)):
        assert network(pixels(2, height=height, width=width)).shape == (2, 7)


@pytest.mark.parametrize("name", SPECS)
def test_memory_stays_channels_last(name):
    network = built(SPECS[name]).to(memory_format=torch.channels_last).eval()
    seen = []

    def note(module, inputs, output):
        seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    network(pixels())
    assert all(seen)


@pytest.mark.parametrize("name", SPECS)
def test_bf16_is_near_fp32(name):
    network = settled(built(SPECS[name]))
    with torch.no_grad():
        exact = network(pixels())
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(pixels()).float()
    assert (exact - rough).abs().max() < 0.1 * exact.abs().max() + 0.02


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "efficientnet-lite0" else ())
        for name in SPECS
    ],
)
@pytest.mark.parametrize("is_training", [True, False])
def test_captured_whole_for_compiling(name, is_training):
    network = settled(built(SPECS[name])).train(is_training)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    torch.compiler.reset()  # Each family counts as a recompilation of the one before.
    captured = torch.compile(network, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(captured(pixels(3)), network(pixels(3)), rtol=1e-4, atol=1e-5)


# -- known networks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "side", "outputs", "parameters"),
    [
        (ResnetModel(name="resnet", depth=18), 224, 1000, 11_689_512),
        (ResnetModel(name="resnet", depth=18), 32, 10, 11_173_962),
        (ResnetModel(name="resnet", depth=20), 32, 10, 269_722),
        (ResnetModel(name="resnet", depth=32), 32, 10, 464_154),
        (ResnetModel(name="resnet", depth=56), 32, 10, 853_018),
        (SpeednetModel(name="speednet"), 32, 10, 1_972_792),
    ],
)
def test_parameters_are_those_of_the_published_networks(spec, side, outputs, parameters):
    with torch.device("meta"):
        body = models.BUILDERS[type(spec)](spec, frame(side, outputs))
    assert sum(item.numel() for item in body.parameters()) == parameters


def frame(side, outputs, channels=3):
    from modelwright.models.network import Frame

    return Frame(channels=channels, height=side, width=side, num_outputs=outputs)


@pytest.mark.parametrize(
    ("depth", "side", "kind"), [(18, 63, "small"), (18, 64, "large"), (20, 224, "small")]
)
def test_automatic_stem_goes_by_size(depth, side, kind):
    assert resolved_stem(ResnetModel(name="resnet", depth=depth), side, side) == kind


# -- refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "side", "words"),
    [
        (CnnModel(name="cnn"), 7, "too small"),
        (SpeednetModel(name="speednet"), 8, "at least 9"),
    ],
)
def test_too_small_images_are_refused(spec, side, words):
    with pytest.raises(RecipeError, match=words) as caught:
        built(spec, height=side)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("spec", "side"), [(CnnModel(name="cnn"), 8), (SpeednetModel(name="speednet"), 9)]
)
def test_the_smallest_images_work(spec, side):
    assert built(spec, height=side, width=side).eval()(
        pixels(2, height=side, width=side)
    ).shape == (2, 7)


def test_normalising_figures_must_fit_the_channels():
    with pytest.raises(RequestError, match="3 channels"):
        models.build(
            SPECS["mlp"], channels=3, height=8, width=8, num_outputs=2, mean=[0.5], std=[0.5]
        )


# -- own layers ------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 6])
def test_convolutions_keep_the_size_as_torch_does(kernel):
    conv = same_conv(2, 3, kernel, bias=True)
    images = torch.randn(2, 2, 7, 5)
    expected = (
        nn.functional.conv2d(images, conv.weight, conv.bias, padding="same") if kernel % 2 else None
    )
    assert conv(images).shape == (2, 3, 7, 5)
    if expected is None:
        near = (kernel - 1) // 2
        padded = nn.functional.pad(images, (near, kernel - 1 - near, near, kernel - 1 - near))
        expected = nn.functional.conv2d(padded, conv.weight, conv.bias)
    torch.testing.assert_close(conv(images), expected)


def test_shortcut_without_parameters_is_every_other_pixel_and_zeros():
    images = torch.arange(32.0).reshape(1, 2, 4, 4)
    out = ChannelPadding(2, 5, 2)(images)
    assert out.shape == (1, 5, 2, 2)
    assert out[0, 1].tolist() == [[16.0, 18.0], [24.0, 26.0]]
    assert out[0, 2:].abs().sum() == 0


@pytest.mark.parametrize(
    "layer", [EvenConv(2, 3, 4, bias=True), ChannelPadding(2, 5, 2)], ids=["even", "padding"]
)
def test_gradients_of_own_layers(layer):
    torch.manual_seed(0)
    images = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer.double(), (images,))


# ReLU6 has kinks at both ends, and a finite difference through 50 layers of it crosses some; the
# one layer of that network that isn't torch's own has a test of its gradient in test_efficientnet.
@pytest.mark.parametrize("name", [name for name in SPECS if name != "efficientnet-lite0"])
def test_gradients_of_whole_networks(name):
    torch.manual_seed(0)
    small = {
        "resnet": ResnetModel(name="resnet", depth=20, width=0.07),
        "resnet18": ResnetModel(name="resnet", depth=18, width=0.02, stem="large"),
        "speednet": SpeednetModel(name="speednet", widths=(3, 2, 3)),
    }
    network = built(small.get(name, SPECS[name]), height=10, width=10, num_outputs=2).double()
    network.eval()  # Dropout draws anew at each call, which no finite difference survives.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    images = 255 * torch.rand(3, 10, 10, 3, dtype=torch.float64)
    probe = torch.zeros(3, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    pattern = torch.randn(3, 10, 10, 3, dtype=torch.float64)
    # One direction in each image: the whole Jacobian would take minutes.
    assert torch.autograd.gradcheck(lambda t: network(images + t * pattern), (probe,))


def test_tanh_networks_start_with_glorot_and_others_with_he():
    wide = (400, 400)
    for activation, fan in (("relu", 400), ("tanh", None)):
        network = built(MlpModel(name="mlp", hidden=wide, activation=activation))
        deviation = network.body.hidden[1].weight.std().item()
        expected = math.sqrt(2 / fan) if fan else 5 / 3 * math.sqrt(2 / 800)
        assert deviation == pytest.approx(expected, rel=0.02)


# -- model files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_rebuilt_from_architecture_and_weights(name):
    spec = SPECS[name]
    network = settled(built(spec))
    kept = models.architecture(spec, input=image_input(), num_outputs=7)
    again = models.rebuild(kept, network.state_dict(), steps=network.steps.to_json())
    assert not again.training
    assert torch.equal(again(pixels()), network(pixels()))
    frozen = {key for key, item in network.named_parameters() if not item.requires_grad}
    assert {key for key, item in again.named_parameters() if not item.requires_grad} == frozen
    state = again.state_dict()
    with torch.no_grad():
        next(iter(again.parameters())).add_(1.0)
    assert not torch.equal(again(pixels()), network(pixels()))
    assert state.keys() == network.state_dict().keys()


def image_input():
    return ImageInput(height=32, width=32, channels=3)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "transformer"},
        {"name": None},
        {"hidden": [16, 9]},
        {"hidden": "16"},
        {"hidden": [10**9]},
        {"widht": 3},
        {"input": {"channels": 3.0, "height": 32, "width": 32}},
        {"input": {"channels": True, "height": 32, "width": 32}},
        {"input": {"channels": 3, "height": 0, "width": 32}},
        {"input": {"channels": 3, "height": 10**9, "width": 32}},
        {"input": {"channels": 3, "height": 32}},
        {"input": {"channels": 3, "height": 32, "width": 32, "depth": 3}},
        {"input": None},
        {"num_outputs": 8},
        {"num_outputs": None},
        {"activation": "sin"},
    ],
)
def test_altered_architecture_is_refused(change):
    network = built(SPECS["mlp"])
    kept = models.architecture(SPECS["mlp"], input=image_input(), num_outputs=7)
    with pytest.raises(ModelFileError):
        models.rebuild({**kept, **change}, network.state_dict())


@pytest.mark.parametrize(
    ("spec", "ends"),
    [
        (LinearModel(name="linear"), {"vocabulary": 9, "max_length": 4}),
        (BowModel(name="bow"), {"ngrams": 9}),
    ],
)
def test_of_texts_a_linear_model_takes_ngrams_and_the_others_tokens(spec, ends):
    section = {**spec.model_dump(mode="json"), "input": ends, "num_outputs": 2}
    with pytest.raises(ModelFileError, match="`input` isn't"):
        models.rebuild(section, {})


def test_architecture_must_be_written_out_in_full():
    network = built(SPECS["mlp"])
    kept = models.architecture(SPECS["mlp"], input=image_input(), num_outputs=7)
    del kept["dropout"]
    with pytest.raises(ModelFileError, match="in full"):
        models.rebuild(kept, network.state_dict())


def test_hostile_architecture_takes_no_memory():
    kept = models.architecture(SPECS["mlp"], input=image_input(), num_outputs=7)
    huge = {**kept, "hidden": [65536] * 50}  # 860 GB in fp32
    with pytest.raises(ModelFileError, match="missing"):
        models.rebuild(huge, built(SPECS["mlp"]).state_dict())


@pytest.mark.parametrize("change", [{"sampling_rate": 1 << 24}, {"n_mels": 1 << 20}])
def test_hostile_audio_features_take_no_memory(change):
    spec = AudioCnnModel(name="audio-cnn")
    kept = models.architecture(spec, input=AudioInput(8000, 1.0), num_outputs=2)
    with pytest.raises(ModelFileError, match=f"`input`, `{min(change)}"):
        models.rebuild({**kept, "input": {**kept["input"], **change}}, {})


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "dtype"])
def test_weights_that_do_not_fit_are_refused(change):
    weights = dict(built(SPECS["mlp"]).state_dict())
    kept = models.architecture(SPECS["mlp"], input=image_input(), num_outputs=7)
    match change:
        case "missing":
            del weights["body.head.bias"]
        case "extra":
            weights["body.tail.bias"] = torch.zeros(1)
        case "shape":
            weights["body.head.bias"] = torch.zeros(8)
        case "dtype":
            weights["body.head.bias"] = torch.zeros(7, dtype=torch.float64)
    with pytest.raises(ModelFileError, match=r"body\.(head|tail)\.bias"):
        models.rebuild(kept, weights)


def test_declared_steps_must_be_those_of_the_weights():
    network = built(SPECS["mlp"])
    kept = models.architecture(SPECS["mlp"], input=image_input(), num_outputs=7)
    steps = network.steps.to_json()
    steps[1]["mean"][0] += 0.01
    with pytest.raises(ModelFileError, match="graph steps"):
        models.rebuild(kept, network.state_dict(), steps=steps)


@pytest.mark.parametrize("name", SPECS)
def test_new_labels_get_a_new_last_layer(name):
    network = built(SPECS[name])
    before = {key: item.clone() for key, item in network.state_dict().items()}
    models.replace_output(network, 3)
    assert network.eval()(pixels(2)).shape == (2, 3)
    after = network.state_dict()
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert changed == {key for key in after if key.startswith("body.head.")}


def test_nothing_to_replace_is_refused():
    with pytest.raises(RequestError, match="last layer"):
        models.replace_output(nn.Linear(2, 2), 3)


# -- export ----------------------------------------------------------------------------------


def ran(graph, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": images.numpy()})[0]


def exported(network, *, dynamo):
    buffer = io.BytesIO()
    batch = {"dynamic_shapes": ({0: torch.export.Dim("N", min=1)},)}
    axes = {"dynamic_axes": {"pixels": {0: "N"}, "logits": {0: "N"}}}
    torch.onnx.export(
        network,
        (pixels(2),),
        buffer,
        input_names=["pixels"],
        output_names=["logits"],
        opset_version=18,
        dynamo=dynamo,
        verbose=False,
        **(batch if dynamo else axes),
    )
    return buffer.getvalue()


def agrees(network, graph):
    for count in (1, 2, 5):
        images = pixels(count, seed=count)
        with torch.no_grad():
            expected = network(images).softmax(1)
        found = torch.from_numpy(ran(graph, images)).softmax(1)
        assert (found - expected).abs().max() < EXPORTED


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Constant folding:UserWarning")
def test_exported_by_tracing(name):
    network = settled(built(SPECS[name]))
    agrees(network, exported(network, dynamo=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exported_by_capture(name):
    network = settled(built(SPECS[name]))
    agrees(network, exported(network, dynamo=True))


def test_a_strided_pointwise_convolution_takes_its_pixels_first_and_answers_alike():
    torch.manual_seed(0)
    ours = Pointwise(5, 7, 1, stride=2, bias=False).double()
    plain = nn.Conv2d(5, 7, 1, stride=2, bias=False).double()
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(2, 5, 9, 12, dtype=torch.float64)
    for is_training in (True, False):
        for network in (ours, plain):
            network.train(is_training).zero_grad()
            network(images).square().sum().backward()
        torch.testing.assert_close(ours(images), plain(images))
        torch.testing.assert_close(ours.weight.grad, plain.weight.grad)
