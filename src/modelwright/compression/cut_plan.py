"""What is taken out of a network, piece by piece: first what loses least for the time it gains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from modelwright.arrays import Doubles
from modelwright.compression.coupling import Axis, Unit, Width, joined
from modelwright.compression.importance import Importance
from modelwright.modelfile.layer_costs import LayerCosts

Ends = tuple[int, int]
"""How many channels a layer takes, and gives."""


@dataclass(frozen=True, slots=True)
class _Option:
    """What may go next."""

    loss: float
    widths: dict[str, Ends]
    """Of the layers that change, the widths that they have then."""
    width: int | None = None
    size: int = 0
    block: str = ""


class CutPlan:
    """What is taken out of a network, in the order of loss for time.

    Args:
        costs: of each layer, by widths.
        widths: of the network.
        blocks: the layers that may be left out.
        losses: of each width, what each unit matters; and of each block.
        network: the network that is cut, where it is narrower than that of the costs.
        most_blocks: how many may be left out.
    """

    def __init__(
        self,
        costs: dict[str, LayerCosts],
        widths: Sequence[Width],
        blocks: Sequence[str],
        losses: Importance | None = None,
        *,
        network: nn.Module | None = None,
        most_blocks: int = 0,
    ) -> None:
        if losses is None:
            losses = [np.zeros(len(width.units)) for width in widths], [0.0] * len(blocks)
        self._costs, self._widths = costs, widths
        self._order = [np.argsort(found, kind="stable") for found in losses[0]]
        self._losses, self._blocks = losses[0], dict(zip(blocks, losses[1], strict=True))
        self._most_blocks = most_blocks
        # What doesn't matter at all goes first, and most of it where that gains most.
        every = np.concatenate([np.zeros(1), *losses[0]])
        self._no_loss = max(1e-6 * float(every.mean()), 1e-30)
        self._taken = [0] * len(widths)
        self.dropped: list[str] = []
        self._now = {name: (cost.inputs, cost.outputs) for name, cost in costs.items()}
        if network is not None:
            self._now = {
                name: _ends(module) for name, module in network.named_modules() if name in costs
            }

    def spent(self, widths: dict[str, Ends] | None = None) -> Doubles:
        """Return multiply-adds and seconds of layers `[2]`, of all by default."""
        found = self._now if widths is None else widths
        costs = [self._costs[name].at(*ends) for name, ends in found.items() if all(ends)]
        return np.sum(costs, axis=0) if costs else np.zeros(2)

    def least(self) -> Doubles:
        """Return the least multiply-adds and seconds of the layers `[2]`, without most blocks."""
        now = dict(self._now)
        for width in self._widths:
            now.update(self._narrowed(width, len(width.units) - width.least, now))
        blocks = [{layer: now[layer] for layer in self._inside(name)} for name in self._blocks]
        blocks.sort(key=lambda block: -self.spent(block)[0])
        for block in blocks[: self._most_blocks]:
            now.update(dict.fromkeys(block, (0, 0)))
        return self.spent(now)

    def cut_to(self, place: int, bound: float) -> bool:
        """Take out until multiply-adds (0) or seconds (1) are within a bound; say whether so."""
        while self.spent()[place] > bound:
            needed = self.spent()[place] - bound
            options = [(self._worth(option, place, needed), option) for option in self._options()]
            worth, best = max(options, key=lambda item: item[0], default=((0.0, 0.0), None))
            if best is None or worth <= (0.0, 0.0):
                return False
            self._now.update(best.widths)
            if best.width is not None:
                self._taken[best.width] += best.size
            else:
                self.dropped.append(best.block)
        return True

    def gone(self) -> dict[Axis, list[int]]:
        """Return the channels that were taken out of layers that are left."""
        units: list[Unit] = []
        for width, order, count in zip(self._widths, self._order, self._taken, strict=True):
            units += [width.units[at] for at in order[:count]]
        starts = tuple(f"{name}." for name in self.dropped)
        return {
            axis: places for axis, places in joined(units).items() if not axis[0].startswith(starts)
        }

    def _worth(self, option: _Option, place: int, needed: float) -> tuple[float, float]:
        """Return the time and the products that an option gains for what it loses.

        What it gains beyond what is needed doesn't count.
        """
        before = self.spent({name: self._now[name] for name in option.widths})
        gain = before - self.spent(option.widths)
        if gain[place] <= 0:
            return 0.0, 0.0
        scale = min(1.0, needed / gain[place]) / (option.loss + self._no_loss)
        return float(gain[1] * scale), float(gain[0] * scale)

    def _options(self) -> Iterator[_Option]:
        for at, width in enumerate(self._widths):
            taken = self._taken[at]
            size = width.step(len(width.units) - taken)
            if size:
                loss = float(self._losses[at][self._order[at][taken : taken + size]].sum())
                yield _Option(loss, self._narrowed(width, size, self._now), width=at, size=size)
        if len(self.dropped) < self._most_blocks:
            for name, loss in self._blocks.items():
                if name not in self.dropped:
                    yield _Option(loss, dict.fromkeys(self._inside(name), (0, 0)), block=name)

    def _inside(self, block: str) -> list[str]:
        return [layer for layer in self._now if layer.startswith(f"{block}.")]

    def _narrowed(self, width: Width, size: int, now: dict[str, Ends]) -> dict[str, Ends]:
        """Return the widths of the layers concerned without so many units."""
        found: dict[str, Ends] = {}
        for layer, end in width.axes:
            if layer in now and all(now[layer]):
                inputs, outputs = found.get(layer, now[layer])
                less = size * len(width.units[0][layer, end])
                both = self._costs[layer].is_depthwise
                found[layer] = (
                    inputs - less if end == "in" or both else inputs,
                    outputs - less if end == "out" else outputs,
                )
        return found


def _ends(layer: nn.Module) -> Ends:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    return layer.in_channels, layer.out_channels
