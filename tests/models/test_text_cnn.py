from __future__ import annotations

import torch

from modelwright.models.network import TextFrame
from modelwright.models.text_cnn import TextCnn
from modelwright.recipe.networks import TextCnnModel

SAME = 1e-5
"""Padding changes the order of summing, in fp32."""
TOKENS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0], [9, 0, 0, 0, 0]])
LENGTH = torch.tensor([5, 2, 1])


def built(**settings):
    torch.manual_seed(0)
    options = {"width": 4, "filters": 3, "kernels": (1, 2, 5), "dropout": 0.0, **settings}
    spec = TextCnnModel(name="text-cnn", **options)
    return TextCnn(spec, TextFrame(12, max_length=12, num_outputs=3))


def test_windows_are_those_of_a_hand_worked_case():
    network = built(kernels=(3,), filters=2)
    network.head = torch.nn.Identity()
    weight, bias = network.convolutions[0].weight, network.convolutions[0].bias
    with torch.no_grad():
        words = network.embedding(TOKENS[1, :2])
        zero = torch.zeros(4)
        windows = [(zero, words[0], words[1]), (words[0], words[1], zero)]
        answers = [
            sum(weight[:, :, at] @ word for at, word in enumerate(window)) + bias
            for window in windows
        ]
        expected = torch.stack(answers).amax(0).relu()
        torch.testing.assert_close(network(TOKENS, LENGTH)[1], expected)
