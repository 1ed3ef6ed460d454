"""What is decided by measurement before training: number format, compiling, the number of steps.

Each is taken on a copy of the network and written into the run's `decisions.json` before it acts.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from modelwright.models.decoder import Decoder
from modelwright.recipe.train import TrainSpec
from modelwright.training.distributed import DistributedContext
from modelwright.training.loop import Parts, set_training, shares
from modelwright.training.precision import Precision, PrecisionName, has_fast_bf16

LEAST_AT_ONCE = 8
WORTH_MEASURING_S = 20.0
"""Shorter trainings aren't measured in bf16: that takes a few seconds, and could save as many."""
COMPILE_COST_S = 60.0
"""About what `torch.compile` takes for a network of some ten layers, forward and backward."""
COMPILE_GAIN, COMPILE_GAIN_DECODER = 0.2, 0.15
"""The share of a step's time that compiling saves on a GPU, and of a decoder's on a processor: it
has many small steps to join. `benchmarks/tokens.py` measures that.
Of other networks there none was found."""


@dataclass(frozen=True, slots=True)
class StepTimer:
    """Times training steps on a copy of the network, so that nothing is learned by timing."""

    network: nn.Module
    parts: Parts

    def mean_s(self, precision: PrecisionName) -> float:
        """Return the mean seconds of a step over the sizes of image that training goes through."""
        return sum(
            share * self.seconds(precision, progress=progress)
            for share, progress in self.parts.resolution.shares()
        )

    def seconds(
        self,
        precision: PrecisionName,
        *,
        progress: float = 1.0,
        steps: int = 3,
        most_s: float = 20.0,
    ) -> float:
        """Return the seconds of one step: the fastest of a few, after one to warm up."""
        network = copy.deepcopy(self.network)
        set_training(network, self.parts.frozen)
        context = Precision(precision, self.parts.distributed.device)
        parameters = [item for item in network.parameters() if item.requires_grad]
        alone = DistributedContext(self.parts.distributed.device)

        def forward(*inputs: torch.Tensor) -> torch.Tensor:
            with context.context():
                outputs: torch.Tensor = network(*inputs)
            return outputs

        times: list[float] = []
        started = time.monotonic()
        for step in range(steps + 1):
            epoch, whole = self.parts.sampler.batch(step)
            begun = time.monotonic()
            self.parts.rule.gradients(
                forward,
                parameters,
                self.parts.objective,
                shares(self.parts, epoch, whole, progress),
                num_parts=self.parts.accumulate,
                distributed=alone,
            )
            if alone.device.startswith("cuda"):
                torch.cuda.synchronize()
            times.append(time.monotonic() - begun)
            if step and time.monotonic() - started > most_s:
                break
        return min(times[1:])


def choose_precision(
    spec: TrainSpec,
    timer: Callable[[PrecisionName], float],
    device: str,
    *,
    at_once: int,
    training_s: Callable[[float], float],
) -> dict[str, object]:
    """Return the number format, and the times it was chosen by.

    bf16 must win by a tenth: it costs digits.

    Args:
        spec: the recipe's section `train`.
        timer: measures the seconds of a step in a format.
        device: `cpu` or `cuda`.
        at_once: samples that pass through the network together.
        training_s: about how long training takes, from the seconds of a step.
    """
    if spec.precision != "auto":
        return {"precision": spec.precision, "why": "the recipe says so"}
    if not has_fast_bf16(device):
        return {"precision": "fp32", "why": "this processor has no bf16"}
    if device == "cpu" and at_once < LEAST_AT_ONCE:
        # Some convolutions of torch 2.13 in bf16 crash the process on a single sample.
        return {"precision": "fp32", "why": "too few samples at once for bf16 to pay"}
    fp32 = timer("fp32")
    if training_s(fp32) < WORTH_MEASURING_S:
        return {"precision": "fp32", "why": "training is too short for bf16 to pay"}
    bf16 = timer("bf16")
    return {
        "precision": "bf16" if bf16 < 0.9 * fp32 else "fp32",
        "why": "measured",
        "step_s": {"fp32": round(fp32, 6), "bf16": round(bf16, 6)},
    }


def compile_gain(network: nn.Module, device: str) -> float:
    """Return the share of a step's time that compiling a network saves on a device."""
    if device.startswith("cuda"):
        return COMPILE_GAIN
    return COMPILE_GAIN_DECODER if isinstance(network, Decoder) else 0.0


def choose_compile(
    spec: TrainSpec, *, training_s: float, device: str, gain: float
) -> dict[str, object]:
    """Return whether to compile: when the time it saves is more than the time it takes."""
    if spec.compile != "auto":
        return {"compile": spec.compile == "on", "why": "the recipe says so"}
    saved = training_s * gain
    why = f"it would save about {saved:.0f} s and cost about {COMPILE_COST_S:.0f} s"
    if saved <= COMPILE_COST_S:
        return {"compile": False, "why": why}
    if device == "cpu" and not can_compile():
        return {"compile": False, "why": "there is no C++ compiler that torch can use"}
    return {"compile": True, "why": why}


def can_compile() -> bool:
    """Tell whether torch can compile for this processor, by compiling next to nothing."""
    tried = torch.compile(lambda x: x.sin() + x, dynamic=False)
    try:
        tried(torch.ones(16))
    except (RuntimeError, OSError):  # No compiler, no headers, no room for what it writes.
        return False
    return True
