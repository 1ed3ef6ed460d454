"""Batches of a split on the device: rows gathered, augmentation applied, targets mixed.

A batch is a pure function of (seed, epoch, positions, whole batch), so that processes, parts and
resumed runs agree. Nothing here assumes images, except the augmentation, which a recipe asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelwright.arrays import Array, Ints
from modelwright.data.augment import (
    Mix,
    augment_batch,
    draw_mix,
    mean_color,
    mix_images,
    mix_targets,
)
from modelwright.data.augment_boxes import BoxedBatch, augment_boxed
from modelwright.data.counter_rng import CounterRNG
from modelwright.data.dataset import Split
from modelwright.data.label_targets import LEAST_VISIBLE, are_boxes
from modelwright.errors import RequestError
from modelwright.recipe.preparation import AugmentSpec

Positions = NDArray[np.int64]

_RESIDENT = 0.4
"""The share of a GPU's free memory that a split may take to stay there whole."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples on the device."""

    inputs: tuple[Tensor, ...]
    """What the network is called with, each `[N, …]`."""
    targets: Tensor | tuple[Tensor, ...]
    """Class numbers `[N]` (int64), shares of classes `[N, K]`, numbers `[N, …]` (floats); or, for
    targets of several parts or lengths, each part `[N, …]`."""
    positions: Positions | None = None
    """The places of the samples in their split `[N]`; unknown where nothing asks for them."""
    view: int | None = 0
    """Which of its augmented versions each sample is: the same in two batches of one view. `None`
    where what is computed of it isn't to be kept."""


def target_tensor(batch: Batch) -> Tensor:
    """Return the targets of a batch whose targets are one tensor."""
    assert isinstance(batch.targets, Tensor)
    return batch.targets


def target_parts(batch: Batch) -> tuple[Tensor, ...]:
    """Return the targets of a batch part by part; one tensor is one part."""
    return batch.targets if isinstance(batch.targets, tuple) else (batch.targets,)


class Batches:
    """The batches of a split.

    Args:
        split: the samples.
        augment: the recipe's section `augment`; `None` leaves every sample as it is.
        seed: decides the augmentation.
        device: the device of the batches.
        num_outputs: K, which mixing classes needs.
        views: so many augmented versions of a sample there are, which come again in later epochs;
            by default another one in each epoch.

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
        views: int | None = None,
    ) -> None:
        self._split = split
        self._views = views
        self._seed = seed
        self._device = torch.device(device)
        self._num_outputs = num_outputs
        self._targets: Tensor | None = None
        if isinstance(split.targets, np.ndarray) and split.targets.dtype.names is None:
            self._targets = _target_tensor(split.targets).to(self._device)
        self._augment = augment if augment is not None and augment.varies_images else None
        if self._augment is not None:
            self._check(self._augment)
        # On the processor the memory map serves as it is: what is used stays in its page cache.
        self._resident = _resident(split, self._device)

    def _check(self, spec: AugmentSpec) -> None:
        inputs = self._split.inputs
        if not isinstance(inputs, np.ndarray) or inputs.ndim != 4 or inputs.dtype != np.uint8:
            kind = "of different lengths"
            if isinstance(inputs, np.ndarray):
                kind = f"{inputs.dtype} of {inputs.ndim - 1} dimensions"
            raise RequestError(
                f"`augment` varies images, and these samples are {kind}",
                fix="Leave the section `augment` out",
            )
        mixes = bool(spec.mixup or spec.cutmix)
        if mixes and self._targets is None:
            raise RequestError("samples with these targets can't be mixed")
        if self._targets is None or self._targets.is_floating_point():
            return
        if mixes and self._num_outputs is None:
            raise RequestError("mixing samples needs the number of classes")

    def __len__(self) -> int:
        return len(self._split)

    def lengths(self) -> Ints | None:
        """Return each sample's length, where they differ."""
        return self._split.lengths()

    def at(self, epoch: int, positions: Positions, *, whole: Positions | None = None) -> Batch:
        """Return the samples at these positions of the split.

        Args:
            epoch: counts passes over the split; the augmentation differs in each.
            positions: `[N]`, those of this share of the batch.
            whole: the global batch that they are a share of, the same for every share: partners
                for mixing come from there. By default the share itself.
        """
        epoch = epoch if self._views is None else epoch % self._views
        targets = self._targets_at(positions)
        if self._augment is not None and are_boxes(self._split.targets):
            return self._boxed(self._augment, epoch, positions)
        inputs = self._inputs(epoch, positions)
        mix = self._mix(epoch, positions if whole is None else whole)
        if mix is None:
            return Batch(inputs, targets, positions, epoch)
        partners = _partners(positions, positions if whole is None else whole)
        assert self._targets is not None  # `_check` has refused to mix others.
        targets, others = self._targets[self._index(positions)], self._targets_at(partners)
        assert isinstance(others, Tensor)
        (images,), (partner_images,) = inputs, self._inputs(epoch, partners)
        return Batch(
            (mix_images(images, partner_images, mix),),
            mix_targets(targets, others, mix, num_outputs=self._num_outputs),
            positions,
            epoch,
        )

    def _targets_at(self, positions: Positions) -> Tensor | tuple[Tensor, ...]:
        if self._targets is not None:
            return self._targets[self._index(positions)]
        gathered = _tensors(self._split.targets[positions])
        return tuple(tensor.to(self._device) for tensor in gathered)

    def _boxed(self, spec: AugmentSpec, epoch: int, positions: Positions) -> Batch:
        """Return images varied together with their boxes."""
        (images,), (boxes, labels) = self._samples(positions), self._targets_at(positions)
        draws = CounterRNG(self._seed, epoch, positions)
        batch = BoxedBatch(images, boxes, labels)
        varied = augment_boxed(batch, spec, draws, least_visible=LEAST_VISIBLE)
        return Batch((varied.images,), (varied.boxes, varied.labels), positions, epoch)

    def _inputs(self, epoch: int, positions: Positions) -> tuple[Tensor, ...]:
        """Return the samples, each varied by itself."""
        samples = self._samples(positions)
        if self._augment is None:
            return samples
        (images,) = samples
        draws = CounterRNG(self._seed, epoch, positions)
        return (augment_batch(images, self._augment, draws, fill=self._fill),)

    def _samples(self, positions: Positions) -> tuple[Tensor, ...]:
        if self._resident is not None:
            index = self._index(positions)
            return tuple(tensor[index] for tensor in self._resident)
        return tuple(tensor.to(self._device) for tensor in _tensors(self._split.gather(positions)))

    def _index(self, positions: Positions) -> Tensor:
        return torch.tensor(positions, device=self._device)

    def _mix(self, epoch: int, whole: Positions) -> Mix | None:
        if self._augment is None or not len(whole):
            return None
        assert isinstance(self._split.inputs, np.ndarray)
        height, width = self._split.inputs.shape[1:3]
        return draw_mix(
            self._augment, (height, width), seed=self._seed, epoch=epoch, batch=int(whole[0])
        )

    @cached_property
    def _fill(self) -> Tensor:
        return mean_color(self._split).to(self._device)


def _target_tensor(targets: NDArray[np.generic]) -> Tensor:
    # Whether each label is present: a byte each.
    if targets.dtype == np.bool_ and targets.ndim == 2:
        return torch.from_numpy(targets)
    is_whole = np.issubdtype(targets.dtype, np.integer) or targets.dtype == np.bool_
    return torch.from_numpy(targets.astype(np.int64 if is_whole else np.float32))


def _tensors(samples: Array) -> tuple[Tensor, ...]:
    """Return an array as one tensor, an array of records as one tensor a field."""
    if samples.dtype.names is None:
        return (torch.from_numpy(samples),)
    return tuple(torch.from_numpy(samples[name].copy()) for name in samples.dtype.names)


def _resident(split: Split, device: torch.device) -> tuple[Tensor, ...] | None:
    """Return all inputs of a split on a GPU, where they fit with room to spare."""
    if device.type != "cuda" or not isinstance(split.inputs, np.ndarray):
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
