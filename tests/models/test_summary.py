from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from modelwright import models
from modelwright.models.network import TextFrame
from modelwright.models.rnn import Gru, Lstm
from modelwright.models.seq2seq import RnnSeq2Seq
from modelwright.recipe.networks import CnnModel, ConvBlock, ResnetModel, Seq2SeqModel


def built(spec, *, side=8, channels=1, outputs=10):
    return models.build(
        spec,
        channels=channels,
        height=side,
        width=side,
        num_outputs=outputs,
        mean=[0.5] * channels,
        std=[0.5] * channels,
    )


def test_hand_worked_network():
    spec = CnnModel(name="cnn", blocks=(ConvBlock(filters=4),), head=(6,))
    found = models.summary(built(spec), (8, 8, 1))
    by_name = {layer.name: layer for layer in found.layers}
    assert by_name["blocks.0.conv1"].output == (4, 8, 8)
    assert by_name["blocks.0.conv1"].parameters == 36
    assert by_name["blocks.0.conv1"].multiply_adds == 36 * 64
    assert by_name["blocks.0.pool"].output == (4, 4, 4)
    assert by_name["hidden.0"].multiply_adds == 64 * 6
    assert by_name["head"].parameters == 70
    assert found.parameters == 36 + 8 + 390 + 70
    assert found.multiply_adds == 2304 + 384 + 60
    assert list(by_name)[-1] == "head"


def test_published_count_of_resnet18():
    found = models.summary(
        built(ResnetModel(name="resnet", depth=18), side=224, channels=3, outputs=1000),
        (224, 224, 3),
    )
    assert found.multiply_adds == 1_814_073_344
    assert found.parameters == found.trainable == 11_689_512


def test_groups_stride_and_time_axes_count():
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2, bias=False)
    found = models.summary(conv, (4, 6, 6), dtype=torch.float32)
    assert found.multiply_adds == 8 * 3 * 3 * 2 * 9
    line = models.summary(nn.Conv1d(4, 8, 3, padding=1, bias=False), (4, 7), dtype=torch.float32)
    assert line.multiply_adds == 7 * 8 * 4 * 3
    along = models.summary(nn.Linear(3, 5), (7, 3), dtype=torch.float32)
    assert along.multiply_adds == 7 * 15


@pytest.mark.parametrize(("kind", "gates"), [(Lstm, 4), (Gru, 3)])
def test_recurrent_layers_count(kind, gates):
    network = kind(8, 16, layers=2, bidirectional=True, dropout=0.1)
    sample = np.zeros(1, [("x", np.float32, (5, 8)), ("length", np.int64)])
    sample["length"] = 5
    found = models.summarise_sample(network, sample)
    first, second = gates * 16 * (8 + 16), gates * 16 * (32 + 16)
    assert found.multiply_adds == 5 * 2 * (first + second)
    (layer,) = found.layers
    assert layer.output == (5, 32)
    assert layer.parameters == found.parameters


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_writers_count_both_sides(cell):
    spec = Seq2SeqModel(name="seq2seq", kind=cell, width=8, layers=1)
    network = RnnSeq2Seq(spec, TextFrame(20, max_length=6, num_outputs=20))
    sample = np.zeros(
        1, [("source", np.int64, (6,)), ("source_length", np.int64), ("target", np.int64, (3,))]
    )
    sample["source_length"] = 6
    found = {
        layer.name: layer.multiply_adds for layer in models.summarise_sample(network, sample).layers
    }
    gates = 4 if cell == "lstm" else 3
    assert found["encoder"] == 6 * 2 * gates * 8 * (8 + 8)
    assert found["decoder"] == 3 * gates * 8 * (8 + 8)


def test_products_of_no_single_layer_count():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(11, 6)

        def forward(self, tokens):
            return self.table(tokens) @ self.table.weight.T

    sample = np.zeros(1, [("tokens", np.int64, (5,))])
    found = models.summarise_sample(Tied(), sample)
    assert found.multiply_adds == 5 * 6 * 11
    assert found.layers[-1].name == "(others)"
    assert found.activations == 5 * 6
    assert models.multiply_adds(nn.Linear(3, 5), torch.zeros(1, 3)) == 15


def test_network_is_left_as_it_was():
    network = built(CnnModel(name="cnn"))
    network.train()
    models.summary(network, (8, 8, 1))
    assert network.training
    assert all(item.device.type == "cpu" for item in network.state_dict().values())
    assert not any(module._forward_hooks for module in network.modules())


def test_text_and_json_say_the_same():
    found = models.summary(built(CnnModel(name="cnn")), (8, 8, 1))
    text, plain = found.to_text(), found.to_json()
    assert json.loads(json.dumps(plain)) == plain
    assert len(plain["layers"]) == len(found.layers)
    for layer in plain["layers"]:
        assert f"{layer['name']} " in text
    assert text.splitlines()[-1].split() == [
        "total",
        f"{plain['parameters']:,}",
        f"{plain['multiply_adds']:,}",
    ]
    assert plain["activations"] == pytest.approx(
        sum(torch.Size(layer["output"]).numel() for layer in plain["layers"])
    )
