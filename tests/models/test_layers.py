from __future__ import annotations

import pytest
import torch
from tests.models.test_features import TINY_BERT, from_transformers

from modelwright import models
from modelwright.models.layers import layer_depths, new_parameters
from modelwright.recipe.networks import DetectorModel, EfficientNetLite0Model, ResnetModel


def built(spec):
    with torch.device("meta"):
        return models.build(
            spec, channels=3, height=32, width=32, num_outputs=2, mean=[0.0] * 3, std=[1.0] * 3
        )


def depths(network):
    """Return the depth of each parameter, by its name in the body."""
    return {name.removeprefix("body."): depth for name, depth in layer_depths(network).items()}


def test_of_an_encoder_its_table_is_the_deepest():
    pytest.importorskip("transformers")
    network = from_transformers("bert", {**TINY_BERT, "num_hidden_layers": 2}, reads=True)
    found = depths(network)
    assert found["head.weight"] == found["head.bias"] == 0
    assert found["encoder.encoder.layer.1.output.dense.weight"] == 1
    assert found["encoder.encoder.layer.0.attention.self.query.bias"] == 2
    assert found["encoder.embeddings.word_embeddings.weight"] == 3
    assert found["encoder.embeddings.LayerNorm.bias"] == 3
    assert new_parameters(network) == {"head.weight", "head.bias"}


def test_of_efficientnet_each_block_is_a_layer():
    network = built(EfficientNetLite0Model(name="efficientnet-lite0", pretrained=False))
    found = depths(network)
    assert found["head.weight"] == 0
    assert found["top.norm.bias"] == 1
    assert found["trunk.blocks.15.project.conv.weight"] == 2
    assert found["trunk.blocks.0.depthwise.norm.weight"] == 17
    assert found["trunk.stem.conv.weight"] == 18
    assert new_parameters(network) == {"body.head.weight", "body.head.bias"}


@pytest.mark.parametrize("backbone", ["residual", "efficientnet-lite0"])
def test_of_a_detector_all_behind_the_backbone_is_one_layer(backbone):
    network = built(DetectorModel(name="detector", backbone=backbone, neck=8))
    found, new = layer_depths(network), new_parameters(network)
    assert {found[name] for name in new} == {0}
    below = [name for name in found if name not in new]
    assert all(name.startswith("body.backbone.") for name in below)
    assert min(found[name] for name in below) == 1


def test_stages_in_stages_count_as_the_outermost():
    found = depths(built(ResnetModel(name="resnet", depth=20)))
    assert found["stem.conv.weight"] == 4
    assert found["stages.0.2.conv1.weight"] == 3
    assert found["stages.2.0.conv1.weight"] == 1
