from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from modelwright.errors import RecipeError
from modelwright.models.building import replace_output
from modelwright.models.detector import PRIOR, Detector, locations
from modelwright.models.network import Frame, ImageNetwork
from modelwright.models.steps import PixelSteps
from modelwright.models.weight_init import initialise
from modelwright.recipe.networks import DetectorModel, ResnetModel

EXPORT = 1e-4
"""onnxruntime sums in another order."""


def built(*, height=32, width=48, channels=3, num_outputs=4, widths=(4, 6, 8, 10), depth=2):
    torch.manual_seed(0)
    spec = DetectorModel(name="detector", widths=widths, depth=depth, neck=8)
    body = Detector(spec, Frame(channels, height, width, num_outputs))
    initialise(body, ResnetModel(name="resnet"))
    return ImageNetwork(PixelSteps([0.5] * channels, [0.25] * channels), body).eval()


def pixels(count=3, *, height=32, width=48, channels=3):
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 256, (count, height, width, channels), np.uint8))


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 50), (47, 32), (100, 39)])
def test_every_location_has_scores_and_a_box_around_it(height, width):
    network = built(height=height, width=width)
    scores, boxes = network(pixels(height=height, width=width))
    places = locations(height, width, network.body.strides)
    assert network.body.strides == (8, 16, 32)
    assert scores.shape == (3, len(places), 4)
    assert boxes.shape == (3, len(places), 4)
    assert (boxes[..., :2] < places[:, :2]).all()
    assert (boxes[..., 2:] > places[:, :2]).all()


def test_locations_are_the_middles_of_their_squares():
    found = locations(20, 17, (8, 16))
    assert found[:9].tolist() == [[x, y, 8] for y in (4.0, 12.0, 20.0) for x in (4.0, 12.0, 20.0)]
    assert found[9:].tolist() == [[x, y, 16] for y in (8.0, 24.0) for x in (8.0, 24.0)]


def test_rows_of_the_outputs_stand_at_their_locations():
    """What changes in one corner of the image is seen by the locations nearest to it."""
    network = built(height=96, width=96, widths=(4, 6, 8))
    one = pixels(1, height=96, width=96)
    other = one.clone()
    other[:, 64:, :24] = 255 - other[:, 64:, :24]
    with torch.no_grad():
        difference = (network(one)[0] - network(other)[0]).abs().amax((0, 2))
    x, y, stride = locations(96, 96, network.body.strides).T
    near = difference[(stride == 8) & (x < 24) & (y > 64)].mean()
    for far in ((x < 24) & (y < 32), (x > 72) & (y > 64), (x > 72) & (y < 32)):
        assert near > 2 * difference[(stride == 8) & far].mean()


def test_scores_start_near_the_prior():
    scores, _ = built()(pixels())
    assert torch.sigmoid(torch.tensor(PRIOR)).item() == pytest.approx(0.01)
    assert 0.002 < scores.sigmoid().mean() < 0.05


def test_a_new_head_starts_near_the_prior_too():
    network = built()
    replace_output(network, 7)
    scores, _ = network(pixels())
    assert scores.shape[2] == 7
    assert 0.002 < scores.sigmoid().mean() < 0.05


def test_a_sample_doesnt_depend_on_its_batch():
    network, images = built(), pixels()
    with torch.no_grad():
        scores, boxes = network(images)
        alone_scores, alone_boxes = network(images[1:2])
    torch.testing.assert_close(alone_scores, scores[1:2], atol=1e-5, rtol=0)
    torch.testing.assert_close(alone_boxes, boxes[1:2], atol=1e-5, rtol=1e-6)


def test_images_smaller_than_the_coarsest_stride_are_refused():
    with pytest.raises(RecipeError, match="31×48"):
        built(height=31)


def test_bf16_keeps_places_in_single_precision():
    network = built().train()
    with torch.autocast("cpu", torch.bfloat16):
        scores, boxes = network(pixels())
    assert (scores.dtype, boxes.dtype) == (torch.bfloat16, torch.float32)
    (scores.float().sum() + boxes.sum()).backward()
    assert all(item.grad is not None for item in network.parameters())


@pytest.mark.parametrize(("height", "width"), [(32, 48), (50, 33)])
def test_the_published_backbone_sees_at_three_strides(height, width):
    spec = DetectorModel(name="detector", backbone="efficientnet-lite0", pretrained=False, neck=8)
    body = Detector(spec, Frame(3, height, width, 2))
    network = ImageNetwork(PixelSteps([0.5] * 3, [0.25] * 3), body).eval()
    assert network.body.strides == (8, 16, 32)
    images = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with torch.no_grad():
        scores, boxes = network(images)
    places = len(locations(height, width, network.body.strides))
    assert (scores.shape, boxes.shape) == ((2, places, 2), (2, places, 4))
    assert network.features(images).shape == (2, 8)


def test_gradients_are_right():
    body = built(channels=1, widths=(2, 2, 2), num_outputs=2).body.double()
    images = torch.randn(1, 1, 32, 48, dtype=torch.float64, requires_grad=True)
    # Rectifiers have kinks: a small step crosses hardly any.
    assert torch.autograd.gradcheck(body, (images,), eps=1e-7, atol=1e-4, fast_mode=True)


def test_onnx_gives_the_same_boxes(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    network, images = (
        built(height=28, width=33, widths=(4, 6, 8), depth=1),
        pixels(height=28, width=33),
    )
    with torch.no_grad():
        expected = network(images)
    file = tmp_path / "detector.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The exporter's own use of what torch has deprecated.
        program = torch.onnx.export(
            network,
            (images[:2],),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=20,
            input_names=["pixels"],
            output_names=["scores", "boxes"],
            dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
        )
        program.save(file)
    held = {item.name for item in program.model_proto.graph.initializer}
    # Counters of batches are no part of an answer.
    kept = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert kept <= held
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        found = session.run(None, {"pixels": images[:count].numpy()})
        for one, two in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, two[:count].numpy(), atol=EXPORT, rtol=EXPORT)
