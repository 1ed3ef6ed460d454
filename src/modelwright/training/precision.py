"""In which number format the network computes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PrecisionName = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Precision:
    """`fp32`, or `bf16` where it is safe (autocast); the weights themselves stay as they are."""

    name: PrecisionName
    device: str

    def context(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the network is called."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.partition(":")[0], dtype=torch.bfloat16)


def precision_of(outputs: Tensor | tuple[Tensor, ...]) -> Precision:
    """Return the number format that a network's outputs were computed in."""
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    return Precision("bf16" if first.dtype == torch.bfloat16 else "fp32", str(first.device))


def at_least_fp32(outputs: Tensor) -> Tensor:
    """Return outputs in fp32, or fp64 as it is: a loss summed up in bf16 loses digits."""
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def has_fast_bf16(device: str) -> bool:
    """Say whether the processor multiplies bf16 natively; emulation is slower than fp32."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
