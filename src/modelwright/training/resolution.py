"""Progressive resizing: smaller images first, and cheaper steps while coarse features are learned.

After Howard, fast.ai's DAWNBench entry (2018), and Touvron et al. 2019, section 3: a convolutional
network learns most of what it will from smaller images, at a cost that falls with their area.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from modelwright.data.augment import resize_batch
from modelwright.data.batches import Batch
from modelwright.recipe.train import ResolutionStep


@dataclass(frozen=True, slots=True)
class Resolution:
    """The side of the images by progress; the full size once the last step's share is over."""

    steps: tuple[ResolutionStep, ...] = ()
    """By rising share of training."""

    def side(self, progress: float) -> int | None:
        """Return the side at this share of training; `None` is the full size."""
        return next((step.size for step in self.steps if progress < step.until), None)

    def apply(self, batch: Batch, progress: float) -> Batch:
        """Return the batch with its images `[N, H, W, C]` at the size of this share of training."""
        side = self.side(progress)
        if side is None:
            return batch
        images, *others = batch.inputs
        return replace(batch, inputs=(resize_batch(images, side), *others))

    def shares(self) -> list[tuple[float, float]]:
        """Return each stretch of one size, as its share of training and a progress within it."""
        edges = [0.0, *(step.until for step in self.steps), 1.0]
        return [(b - a, a) for a, b in itertools.pairwise(edges) if b > a]
