"""Constraints: what acts on the weights after each step, in a fixed order.

What a stage asks for (a mask that keeps weights at zero, for one) comes first, averages of the
weights come last: so an average is one of weights that obey the constraint. Where weights are read
out, to be evaluated or shipped, the order is the reverse: first the averages stand in the network,
then the constraint acts on them too. So also an average that began before the constraint did, or
that reaches back to a smaller mask, obeys it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from modelwright.recipe.train import AverageSpec, EmaAverage, LookaheadAverage
from modelwright.training.checkpoint import restore


class Constraint(Protocol):
    """Acts on a network's weights after each step, and owns what it needs for that."""

    def after_step(self, step: int, progress: float) -> None:
        """Act on the weights after `step` steps; `progress` (0…1) was made before the last."""

    def applied(self) -> contextlib.AbstractContextManager[None]:
        """Hold the weights that are evaluated and shipped in the network while the block runs."""

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must keep, by name."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""


@contextlib.contextmanager
def applied(constraints: Sequence[Constraint]) -> Iterator[None]:
    """Hold the weights that are evaluated and shipped in the network, the last constraint first."""
    with contextlib.ExitStack() as stack:
        for constraint in reversed(constraints):
            stack.enter_context(constraint.applied())
        yield


class _Shadow:
    """A slow copy of the weights, which is used in place of the fast ones: both averages' base."""

    def __init__(self, network: nn.Module) -> None:
        # Trained parameters and floating-point statistics.
        parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        buffers = {name: b for name, b in network.named_buffers() if b.is_floating_point()}
        self._fast = parameters | buffers
        self._slow = {name: tensor.detach().clone() for name, tensor in self._fast.items()}

    def _pull(self, share: float) -> None:
        """Move the slow weights this share of the way to the fast ones."""
        slow, fast = list(self._slow.values()), [item.detach() for item in self._fast.values()]
        torch._foreach_lerp_(slow, fast, share)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Hold the slow weights in the network while the block runs."""
        fast = {name: tensor.detach().clone() for name, tensor in self._fast.items()}
        restore(self._fast, self._slow)
        try:
            yield
        finally:
            restore(self._fast, fast)

    def state(self) -> dict[str, Tensor]:
        """Return the slow weights by name."""
        return self._slow

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        restore(self._slow, state)


def ema_share(spec: EmaAverage, step: int) -> float:
    """Return the share of an average that is kept at a step.

    At step t it is min(decay, (1 + t) / (10 + t)), so that the first weights, which are noise, are
    soon forgotten.
    """
    return min(spec.decay, (1 + step) / (10 + step))


class Ema(_Shadow):
    """An exponential moving average (Polyak and Juditsky 1992), quicker at the start."""

    def __init__(self, network: nn.Module, spec: EmaAverage) -> None:
        super().__init__(network)
        self._spec = spec

    @torch.no_grad()
    def after_step(self, step: int, progress: float) -> None:
        """Add the weights after `step` steps to the average."""
        self._pull(1.0 - ema_share(self._spec, step))


class Lookahead(_Shadow):
    """Slow weights that the fast ones are set to every few steps (Zhang et al. 2019).

    The share kept grows over training, as `decay ** every · progress ** power` (Jordan 2024).
    """

    def __init__(self, network: nn.Module, spec: LookaheadAverage) -> None:
        super().__init__(network)
        self._spec = spec

    @torch.no_grad()
    def after_step(self, step: int, progress: float) -> None:
        """Every few steps, move the slow weights on and set the fast ones to them."""
        spec = self._spec
        if step % spec.every:
            return
        kept = spec.decay**spec.every * progress**spec.power
        self._pull(1.0 - kept)
        restore(self._fast, self._slow)


def build_averaging(spec: AverageSpec | None, network: nn.Module) -> tuple[Constraint, ...]:
    """Return the averaging that a recipe asks for, or nothing."""
    match spec:
        case None:
            return ()
        case EmaAverage():
            return (Ema(network, spec),)
        case LookaheadAverage():
            return (Lookahead(network, spec),)
