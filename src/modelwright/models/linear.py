"""Linear models: the outputs are weighted sums of features that aren't learnt.

The weights are found by `training.linear`; what is here is the network that a model file holds.
"""

from __future__ import annotations

from torch import Tensor, nn

from modelwright.models.network import NgramFrame
from modelwright.recipe.model import LinearModel


class NgramLinear(nn.Module):
    """A linear layer on the weights of a text's n-grams, of which few aren't 0."""

    def __init__(self, spec: LinearModel, frame: NgramFrame) -> None:
        super().__init__()
        self.head = nn.Linear(frame.ngrams, frame.num_outputs)

    def features(self, ngrams: Tensor, weights: Tensor) -> Tensor:
        """Return the weight of each n-gram, `[N, V]`; the arguments are those of `forward`."""
        features = weights.new_zeros(len(ngrams), self.head.in_features)
        return features.scatter_add_(1, ngrams, weights)

    def forward(self, ngrams: Tensor, weights: Tensor) -> Tensor:
        """Return outputs `[N, K]` for the numbers of n-grams `[N, T]` and their weights `[N, T]`.

        Padding has weight 0.
        """
        rows = nn.functional.embedding(ngrams, self.head.weight.T)
        summed: Tensor = (weights[:, None].to(rows.dtype) @ rows)[:, 0]
        return summed + self.head.bias
