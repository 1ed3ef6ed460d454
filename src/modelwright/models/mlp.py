"""A multilayer perceptron: fully connected layers on the flattened image."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from modelwright.models.network import ACTIVATIONS, Frame, ImageBody, flat
from modelwright.recipe.networks import MlpModel


class Mlp(ImageBody):
    """Hidden layers, each linear → activation → dropout, then a linear `head`."""

    def __init__(self, spec: MlpModel, frame: Frame) -> None:
        super().__init__()
        widths = (frame.channels * frame.height * frame.width, *spec.hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = ACTIVATIONS[spec.activation]()
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(widths[-1], frame.num_outputs)

    def features(self, images: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`, for images `[N, C, H, W]`."""
        x = flat(images)
        for layer in self.hidden:
            x = self.dropout(self.activation(layer(x)))
        return x
