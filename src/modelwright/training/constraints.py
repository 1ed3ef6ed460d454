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

from torch import Tensor


class Constraint(Protocol):
    """Acts on a network's weights after each step, and owns what it needs for that."""

    def after_step(self, step: int, progress: float) -> None:
        """Act on the weights after `step` steps.

        Args:
            step: how many steps are done.
            progress: the share of training that was done before the last of them, 0…1.
        """

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
