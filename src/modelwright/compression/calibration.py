"""The ranges of activations, from samples: what is rounded to 256 levels, and what is cut."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from modelwright.models.quantized import LARGEST_ACTIVATION

_KEPT_VALUES = 1 << 16
"""So many values of an activation are kept, over all batches, to choose its range by."""
_CUT = 1e-4
"""The share of values below and above a range of percentiles."""
_TRIED = 64
"""How many ranges are tried for the least error."""

Range = tuple[float, float]


@dataclass(slots=True)
class Observed:
    """What was seen of an activation."""

    low: float = 0.0
    high: float = 0.0
    parts: list[Tensor] = field(default_factory=list)

    def add(self, values: Tensor, most: int) -> None:
        """Take in a batch, of which at most so many values are kept, drawn at random."""
        flat = values.detach().flatten()
        self.low = min(self.low, float(flat.min()))
        self.high = max(self.high, float(flat.max()))
        if flat.numel() > most:  # Evenly spaced ones might be of a few channels or columns alone.
            drawn = torch.Generator().manual_seed(len(self.parts))
            flat = flat[torch.randint(flat.numel(), (most,), generator=drawn)]
        self.parts.append(flat.clone())


class _Observer(Interpreter):
    """Runs a graph and looks at some of its values."""

    def __init__(self, graph: GraphModule, watched: Collection[Node], batches: int) -> None:
        super().__init__(graph)
        self.seen = {node: Observed() for node in watched}
        self._most = max(_KEPT_VALUES // batches, 1)

    def run_node(self, node: Node) -> Any:
        """Run one operation."""
        value = super().run_node(node)
        if node in self.seen:
            self.seen[node].add(value, self._most)
        return value


def observe(
    graph: GraphModule, watched: Collection[Node], batches: Iterable[tuple[Tensor, ...]], count: int
) -> dict[Node, Observed]:
    """Run `count` batches through a graph, and return what was seen of some of its values."""
    observer = _Observer(graph, watched, count)
    with torch.inference_mode():
        for inputs in batches:
            observer.run(*inputs)
    return observer.seen


def percentile(seen: Observed) -> Range:
    """Return the 0.01 and the 99.99 percentile."""
    ordered = torch.cat(seen.parts).sort().values
    cut = int(len(ordered) * _CUT)
    return float(ordered[cut]), float(ordered[len(ordered) - 1 - cut])


def least_error(seen: Observed) -> Range:
    """Return the range whose rounding has the least mean squared error.

    Both ends are drawn in by the same factor, of which some are tried (Nagel et al. 2021, `A White
    Paper on Neural Network Quantization`, section 3.1).
    """
    values = torch.cat(seen.parts)
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    best, least = (low, high), float("inf")
    for step in range(_TRIED):
        share = 1.0 - step / (_TRIED + 1)
        tried = (low * share, high * share)
        error = float((values - rounded(values, tried)).square().mean())
        if error < least:
            best, least = tried, error
    return best


def rounded(values: Tensor, range_: Range) -> Tensor:
    """Return values rounded to the levels of a range that holds 0."""
    low, high = range_
    scale = (high - low) / LARGEST_ACTIVATION
    if not scale > 0:
        return torch.zeros_like(values)
    zero = round(-low / scale)
    return ((values / scale).round().add(zero).clamp(0, LARGEST_ACTIVATION) - zero) * scale


RANGES: dict[str, Callable[[Observed], Range]] = {
    "mse": least_error,
    "percentile": percentile,
    "min-max": attrgetter("low", "high"),
}
"""By the recipe's `ranges`."""
