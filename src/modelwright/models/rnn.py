"""Recurrent networks: LSTM, GRU, and a classifier over word vectors.

LSTM after Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; GRU after Cho
et al. 2014 with the reset after the product, as cuDNN and torch compute it (ONNX calls it
`linear_before_reset`). Weights are held as ONNX lays them out, so that an exported graph has the
operator itself with the weights under their names; training rearranges them for torch's kernels.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from modelwright.errors import RequestError
from modelwright.models.network import SequenceNetwork, TextFrame
from modelwright.models.padding import mask
from modelwright.models.text_cnn import SPREAD
from modelwright.recipe.networks import RnnModel


@dataclass(frozen=True, slots=True)
class _Cell:
    operator: Literal["LSTM", "GRU"]
    states: int
    order: tuple[int, ...]
    """Which of ONNX's gates stands at each of torch's places."""
    holding: tuple[float, ...]
    """What padding adds to each of torch's gates."""


_HOLD = 1e4
"""The sigmoid of this is 1 exactly, and that of its negative 0, in every number format."""
_LSTM = _Cell("LSTM", 2, order=(0, 2, 3, 1), holding=(-_HOLD, _HOLD, 0.0, 0.0))  # i, f, g, o
_GRU = _Cell("GRU", 1, order=(1, 0, 2), holding=(0.0, _HOLD, 0.0))  # r, z, n
_ONNX_VERSION = 14  # of both operators, up to opset 21


class _Layer(nn.Module):
    """The weights of one layer as ONNX lays them out, for R directions and G gates."""

    def __init__(self, cell: _Cell, width: int, hidden: int, *, directions: int) -> None:
        super().__init__()
        gates = len(cell.order) * hidden
        self.input_weight = nn.Parameter(torch.empty(directions, gates, width))
        self.state_weight = nn.Parameter(torch.empty(directions, gates, hidden))
        self.bias = nn.Parameter(torch.empty(directions, 2 * gates))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))
        if cell.operator == "LSTM":
            # Open forget gates let gradients through at the start (Jozefowicz et al. 2015).
            with torch.no_grad():
                self.bias[:, 2 * hidden : 3 * hidden] = 1.0

    def rearranged(self, cell: _Cell) -> list[Tensor]:
        """Return the weights as torch's kernels take them, with one more input: is it padding."""
        hidden = self.state_weight.shape[-1]
        hold = torch.tensor(cell.holding, device=self.bias.device, dtype=self.bias.dtype)
        column = hold.repeat_interleave(hidden)[:, None]
        arranged = []
        for inputs, states, bias in zip(
            self.input_weight, self.state_weight, self.bias, strict=True
        ):
            first, *others = (_reordered(item, cell) for item in (inputs, states, *bias.chunk(2)))
            arranged += [torch.cat([first, column], dim=1), *others]
        return arranged


def _reordered(weight: Tensor, cell: _Cell) -> Tensor:
    gates = weight.chunk(len(cell.order))
    return torch.cat([gates[at] for at in cell.order])


class Recurrent(nn.Module):
    """Layers of one kind of cell over padded sequences; R is the number of directions.

    Args:
        width: of the input, D.
        hidden: of the state in each direction, H.
        layers: one above the other, L.
        bidirectional: also read from the end to the beginning.
        dropout: between layers.
    """

    cell: _Cell

    def __init__(
        self, width: int, hidden: int, *, layers: int, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        self.hidden = hidden
        # oneDNN has no LSTM in bf16 for processors that don't multiply in it, and torch fails.
        self.lacks_bf16 = not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self.directions = 2 if bidirectional else 1
        widths = [width, *[hidden * self.directions] * (layers - 1)]
        self.layers = nn.ModuleList(
            _Layer(self.cell, item, hidden, directions=self.directions) for item in widths
        )
        self.dropout = nn.Dropout(dropout)

    def multiply_adds(self, steps: int) -> int:
        """Return the multiply-adds of reading one sequence of so many steps."""
        weights = (cast(_Layer, layer) for layer in self.layers)
        return steps * sum(
            item.input_weight.numel() + item.state_weight.numel() for item in weights
        )

    def forward(
        self, x: Tensor, length: Tensor, state: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read sequences.

        Args:
            x: inputs `[N, T, D]`.
            length: how many of them are real `[N]`, at least 1.
            state: h, and of an LSTM c, `[L, N, H]` each before the first step; `None` for zeros.

        Returns:
            The outputs `[N, T, R·H]`, zero at padding, and the state `[L·R, N, H]` after the last
            step.

        Raises:
            RequestError: a state is handed to a bidirectional network.
        """
        if self.lacks_bf16 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                begin = None if state is None else tuple(item.float() for item in state)
                return self.forward(x.float(), length, begin)
        if state is not None and self.directions == 2:
            # Read backwards, padding comes first, and an LSTM's output doesn't survive it.
            raise RequestError(
                "a state can be handed only to a network that reads in one direction"
            )
        run = _exported if torch.onnx.is_in_onnx_export() else _computed
        last: list[list[Tensor]] = []
        for at, layer in enumerate(self.layers):
            first = None if state is None else [item[at : at + 1] for item in state]
            x, ends = run(self.cell, cast(_Layer, layer), x, length, first)
            last.append(ends)
            if at < len(self.layers) - 1:
                x = self.dropout(x)
        return x, tuple(torch.cat(items) for items in zip(*last, strict=True))


class Lstm(Recurrent):
    """Long short-term memory."""

    cell = _LSTM


class Gru(Recurrent):
    """Gated recurrent units."""

    cell = _GRU


CELLS: dict[str, type[Recurrent]] = {"lstm": Lstm, "gru": Gru}
"""The recurrent layers, by their names in a recipe."""


def _computed(
    cell: _Cell, layer: _Layer, x: Tensor, length: Tensor, first: list[Tensor] | None
) -> tuple[Tensor, list[Tensor]]:
    """Run a layer by torch's kernel over the padded batch: up to 8 times as fast as over a packed.

    An input that marks padding holds the cell's state there, exactly: the forget gate (of a GRU,
    the update gate) is 1, the input gate 0. So padding changes nothing, whichever end it is at.
    """
    directions, _, hidden = layer.state_weight.shape
    is_padding = ~mask(length, x.shape[1])[..., None]
    marked = torch.cat([x, is_padding.to(x.dtype)], dim=2)
    zeros = x.new_zeros(directions, len(x), hidden)
    begin = first or [zeros] * cell.states
    settings = (True, 1, 0.0, layer.training, directions == 2, True)
    weights = layer.rearranged(cell)
    with warnings.catch_warnings():
        # They are made anew for each batch, so that a GPU copies them into one piece: a small cost.
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single")
        if cell.operator == "LSTM":
            outputs, _, memory = torch._VF.lstm(marked, begin, weights, *settings)
            rest = [memory]
        else:
            outputs, _ = torch._VF.gru(marked, begin[0], weights, *settings)
            rest = []
    at = (length - 1)[:, None, None].expand(-1, 1, hidden)
    ends = [outputs[..., :hidden].gather(1, at).squeeze(1)]
    if directions == 2:
        ends.append(outputs[:, 0, hidden:])
    return outputs.masked_fill(is_padding, 0.0), [torch.stack(ends), *rest]


def _exported(
    cell: _Cell, layer: _Layer, x: Tensor, length: Tensor, first: list[Tensor] | None
) -> tuple[Tensor, list[Tensor]]:
    """Insert the ONNX operator; it takes time first, and gives zeros at padding."""
    directions, _, hidden = layer.state_weight.shape
    count, steps = x.shape[:2]
    end = (directions, count, hidden)
    attributes: dict[str, int | str] = {
        "hidden_size": hidden,
        "direction": "bidirectional" if directions == 2 else "forward",
    }
    if cell.operator == "GRU":
        attributes["linear_before_reset"] = 1
    outputs, *ends = torch.onnx.ops.symbolic_multi_out(
        f"::{cell.operator}",
        (
            x.transpose(0, 1),
            layer.input_weight,
            layer.state_weight,
            layer.bias,
            length.to(torch.int32),
            *(first or []),
        ),
        attributes,  # type: ignore[arg-type]
        dtypes=[x.dtype] * (1 + cell.states),
        shapes=[(steps, *end), *[end] * cell.states],
        version=_ONNX_VERSION,
    )
    return outputs.permute(2, 0, 1, 3).flatten(2), list(ends)


class RnnClassifier(SequenceNetwork):
    """Word vectors, recurrent layers, one vector from their outputs, and a linear `head`.

    The outputs are pooled by taking the `last` of each direction, the largest or the mean of each
    feature, or a mean weighed by `attention` (Yang et al. 2016, eqs. 5 to 7). Dropout is on the
    word vectors, between layers, and before the head.
    """

    def __init__(self, spec: RnnModel, frame: TextFrame) -> None:
        super().__init__()
        self.pooling = spec.pooling
        self.embedding = nn.Embedding(frame.vocabulary, spec.width, padding_idx=0)
        nn.init.uniform_(self.embedding.weight[1:], -SPREAD, SPREAD)
        self.recurrent = CELLS[spec.cell](
            spec.width,
            spec.hidden,
            layers=spec.layers,
            bidirectional=spec.bidirectional,
            dropout=spec.dropout,
        )
        out = spec.hidden * self.recurrent.directions
        if spec.pooling == "attention":
            self.scores = nn.Sequential(
                nn.Linear(out, out), nn.Tanh(), nn.Linear(out, 1, bias=False)
            )
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(out, frame.num_outputs)

    def features(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return what the head gets, `[N, R·H]`; the arguments are those of `forward`."""
        x, state = self.recurrent(self.dropout(self.embedding(tokens)), length)
        pooled: Tensor = self.dropout(self._pooled(x, state, length))
        return pooled

    def _pooled(self, x: Tensor, state: tuple[Tensor, ...], length: Tensor) -> Tensor:
        """Return one vector `[N, R·H]` for outputs `[N, T, R·H]`."""
        if self.pooling == "last":
            return state[0][-self.recurrent.directions :].transpose(0, 1).flatten(1)
        is_padding = ~mask(length, x.shape[1])[..., None]
        if self.pooling == "max":
            # Not `amax`: see `Speednet.features`.
            return x.masked_fill(is_padding, -math.inf).max(1).values
        if self.pooling == "mean":  # The outputs are zero at padding.
            return x.sum(1) / length[:, None].to(x.dtype)
        scores: Tensor = self.scores(x).masked_fill(is_padding, -math.inf)
        return (scores.softmax(1) * x).sum(1)
