"""Networks compiled for real, in bf16: what a fused kernel rounds elsewhere must not matter."""

from __future__ import annotations

import shutil

import pytest
import torch

from modelwright.models import build
from modelwright.models.audio_cnn import AudioCnn
from modelwright.models.network import AudioFrame, TextFrame
from modelwright.models.rnn import RnnClassifier
from modelwright.models.text_cnn import TextCnn
from modelwright.recipe.networks import AudioCnnModel, RnnModel, SpeednetModel, TextCnnModel

TOKENS = (torch.randint(1, 30, (4, 9)), torch.tensor([9, 7, 3, 1]))
FRAME = TextFrame(vocabulary=30, max_length=9, num_outputs=3)
pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="compiling for the processor takes a C++ compiler",
)


def speednet():
    spec = SpeednetModel(name="speednet", widths=(8, 8, 8))
    network = build(
        spec, channels=3, height=16, width=16, num_outputs=3, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    return network, (torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8),)


def audio():
    spec = AudioCnnModel(name="audio-cnn", widths=(4, 8), dropout=0.0)
    network = AudioCnn(spec, AudioFrame(8000, 16, "none", num_outputs=3))
    samples = torch.randint(-9000, 9000, (3, 4000), dtype=torch.int16)
    return network, (samples, torch.tensor([4000, 3000, 1000]))


def text_cnn():
    spec = TextCnnModel(name="text-cnn", width=8, filters=8, kernels=(2, 3), dropout=0.0)
    return TextCnn(spec, FRAME), TOKENS


def rnn():
    spec = RnnModel(name="rnn", cell="gru", width=8, hidden=8, dropout=0.0)
    return RnnClassifier(spec, FRAME), TOKENS


@pytest.mark.parametrize(
    "made",
    [
        speednet,
        *(pytest.param(item, marks=pytest.mark.slow) for item in (audio, text_cnn, rnn)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_gradients_are_numbers(made):
    torch.manual_seed(0)
    torch.compiler.reset()
    network, inputs = made()
    network.train().compile(dynamic=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(*inputs)
    outputs.float().square().sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
