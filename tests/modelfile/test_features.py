"""Features of images by onnxruntime, against the network's own."""

from __future__ import annotations

import numpy as np
import torch

from modelwright import models
from modelwright.modelfile.features import image_features
from modelwright.recipe.networks import CnnModel, ConvBlock

SAME = 1e-5
"""Two runtimes in single precision."""


def test_features_are_those_of_the_network_in_the_order_of_the_images() -> None:
    torch.manual_seed(0)
    spec = CnnModel(name="cnn", blocks=(ConvBlock(filters=4),), head=(6,))
    sizes = {"channels": 3, "height": 8, "width": 10, "num_outputs": 2}
    network = models.build(spec, **sizes, mean=[0.4] * 3, std=[0.2] * 3).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 10, 3)).astype(np.uint8)
    with torch.no_grad():
        expected = network.features(torch.from_numpy(pixels)).numpy()
    found = image_features(network, (8, 10, 3), threads=3)(pixels)
    np.testing.assert_allclose(found, expected, atol=SAME)
