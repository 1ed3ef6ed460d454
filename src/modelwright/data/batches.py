"""Batches of a split on the device: rows gathered, augmentation applied, targets mixed.

A batch is a pure function of (seed, epoch, positions, whole batch), so that processes, parts and
resumed runs agree. Nothing here assumes images, except the augmentation, which a recipe asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelwright.data.augment import (
    Mix,
    augment_batch,
    draw_mix,
    mean_colour,
    mix_images,
    mix_targets,
)
from modelwright.data.dataset import Split
from modelwright.data.draws import Draws
from modelwright.errors import RequestError
from modelwright.recipe.data import AugmentSpec

Positions = NDArray[np.int64]

_RESIDENT = 0.4
"""The share of a GPU's free memory that a split may take to stay there whole."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples on the device."""

    inputs: tuple[Tensor, ...]
    """What the network is called with, each `[N, …]`."""
    targets: Tensor
    """Class numbers `[N]` (int64), shares of classes `[N, K]`, or numbers `[N, …]` (floats)."""


class Batches:
    """The batches of a split.

    Args:
        split: the samples.
        augment: the recipe's section `augment`; `None` leaves every sample as it is.
        seed: decides the augmentation.
        device: where the batches are wanted.
        num_outputs: K, which mixing classes needs.

    Raises:
        RequestError: the augmentation doesn't fit the samples.
    """

    def __init__(
        self,
        split: Split,
        *,
        augment: AugmentSpec | None = None,
        seed: int = 0,
        device: str = "cpu",
        num_outputs: int | None = None,
    ) -> None:
        self._split = split
        self._seed = seed
        self._device = torch.device(device)
        self._num_outputs = num_outputs
        self._targets = _target_tensor(split.targets).to(self._device)
        self._augment = None if augment is None or augment == AugmentSpec() else augment
        if self._augment is not None:
            self._check(self._augment)
        # On the processor the memory map serves as it is: what is used stays in its page cache.
        self._resident = _resident(split, self._device)

    def _check(self, spec: AugmentSpec) -> None:
        inputs = self._split.inputs
        if inputs.ndim != 4 or inputs.dtype != np.uint8:
            raise RequestError(
                f"`augment` varies images, and these samples are {inputs.dtype} of "
                f"{inputs.ndim - 1} dimensions",
                fix="Leave the section `augment` out",
            )
        mixes_classes = (spec.mixup or spec.cutmix) and not self._targets.is_floating_point()
        if mixes_classes and self._num_outputs is None:
            raise RequestError("mixing samples needs the number of classes")

    def __len__(self) -> int:
        return len(self._split)

    def at(self, epoch: int, positions: Positions, *, whole: Positions | None = None) -> Batch:
        """Return the samples at these positions of the split.

        Args:
            epoch: counts passes over the split; the augmentation differs in each.
            positions: `[N]`, the share wanted.
            whole: the global batch that they are a share of, the same for every share: partners
                for mixing come from there. By default the share itself.
        """
        targets = self._targets[self._index(positions)]
        inputs = self._inputs(epoch, positions)
        mix = self._mix(epoch, positions if whole is None else whole)
        if mix is None:
            return Batch(inputs, targets)
        partners = _partners(positions, positions if whole is None else whole)
        others = self._targets[self._index(partners)]
        (images,), (partner_images,) = inputs, self._inputs(epoch, partners)
        return Batch(
            (mix_images(images, partner_images, mix),),
            mix_targets(targets, others, mix, num_outputs=self._num_outputs),
        )

    def _inputs(self, epoch: int, positions: Positions) -> tuple[Tensor, ...]:
        """Return the samples, each varied by itself."""
        if self._resident is not None:
            index = self._index(positions)
            samples = tuple(tensor[index] for tensor in self._resident)
        else:
            gathered = _tensors(self._split.gather(positions))
            samples = tuple(tensor.to(self._device) for tensor in gathered)
        if self._augment is None:
            return samples
        (images,) = samples
        draws = Draws(self._seed, epoch, positions)
        return (augment_batch(images, self._augment, draws, fill=self._fill),)

    def _index(self, positions: Positions) -> Tensor:
        return torch.tensor(positions, device=self._device)

    def _mix(self, epoch: int, whole: Positions) -> Mix | None:
        if self._augment is None or not len(whole):
            return None
        height, width = self._split.inputs.shape[1:3]
        return draw_mix(
            self._augment, (height, width), seed=self._seed, epoch=epoch, batch=int(whole[0])
        )

    @cached_property
    def _fill(self) -> Tensor:
        return mean_colour(self._split).to(self._device)


def _target_tensor(targets: NDArray[np.generic]) -> Tensor:
    is_whole = np.issubdtype(targets.dtype, np.integer) or targets.dtype == np.bool_
    return torch.from_numpy(targets.astype(np.int64 if is_whole else np.float32))


def _tensors(samples: NDArray[Any]) -> tuple[Tensor, ...]:
    """Return an array as one tensor, an array of records as one tensor a field."""
    if samples.dtype.names is None:
        return (torch.from_numpy(samples),)
    return tuple(torch.from_numpy(samples[name].copy()) for name in samples.dtype.names)


def _resident(split: Split, device: torch.device) -> tuple[Tensor, ...] | None:
    """Return all inputs of a split on a GPU, where they fit with room to spare."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    size = len(split) * split.inputs[:1].nbytes
    if size >= _RESIDENT * free:
        return None
    return tuple(tensor.to(device) for tensor in _tensors(split.gather()))


def _partners(positions: Positions, whole: Positions) -> Positions:
    """Return for each position the next one in the whole batch, the first for the last."""
    following = np.roll(whole, -1)
    if positions is whole:
        return following
    order = np.argsort(whole, kind="stable")
    return following[order[np.searchsorted(whole, positions, sorter=order)]]
