"""The processes that training runs in: one, or several that each take a share of every batch.

Gradients are summed over processes and divided by the weight of the whole batch, so that the
result equals one process's up to rounding, whatever the shares.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from modelwright.arrays import Ints

T = TypeVar("T")
_BUCKET_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class DistributedContext:
    """This process among all."""

    device: str
    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def seed(self, seed: int) -> None:
        """Seed the device's own generator, from which dropout draws."""
        # torch.manual_seed would do, but asks every kind of device: 0.15 ms a step.
        if self.device.startswith("cuda"):
            torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)

    def share(self, positions: Ints) -> Ints:
        """Return this process's part of a global batch; parts differ by at most one sample."""
        return positions[self.rank :: self.world]

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Add each tensor up over all processes, in place."""
        if self.world == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    @property
    def agree_every(self) -> int:
        """After how many steps the processes ask each other whether to stop."""
        return 1 if self.world == 1 else 16

    def any(self, flag: bool) -> bool:
        """Say whether the flag is set in any process."""
        if self.world == 1:
            return flag
        count = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(count)
        return count.item() > 0

    def from_main(self, value: T) -> T:
        """Return the main process's value in every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    buckets: list[list[Tensor]] = []
    size = 0
    for tensor in tensors:
        full = size + tensor.nbytes > _BUCKET_BYTES
        if not buckets or full or buckets[-1][0].dtype != tensor.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(tensor)
        size += tensor.nbytes
    return buckets


def init_distributed(device: str) -> DistributedContext:
    """Join the processes that `torchrun` started, or stand alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return DistributedContext(device=device)
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return DistributedContext(device=device, rank=rank, world=world)


def shutdown() -> None:
    """Leave the processes that `torchrun` started; does nothing in one that stands alone."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
