"""The training loop against a plain one, written by hand over the same network and data.

Both train the same architecture in blocks of steps, in turn, so that drift of the machine hits
both alike; the figure is the median over blocks of the ratio of their times a step. The plain loop
is what a careful engineer writes for one job: no resume, no progress, no averaging. All have the
settings of the allocator that `modelwright run` has, so that page faults don't decide. Lightning
and Keras (on PyTorch), without logs, checkpoints and progress, can train the same network too.

    python benchmarks/loop.py --model cnn --blocks 24
    python benchmarks/loop.py --beside lightning keras       # with these installed
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from modelwright.cli.launch import tuned
from modelwright.data import Sampler, Split
from modelwright.data.batches import Batches
from modelwright.kinds import OutputKind
from modelwright.models import build
from modelwright.recipe.networks import CnnModel, ResnetModel
from modelwright.recipe.preparation import AugmentSpec
from modelwright.recipe.train import CosineSchedule, CrossEntropyLoss, SgdOptimizer, TrainSpec
from modelwright.run import TUNABLES
from modelwright.training import Parts, State, Until, train
from modelwright.training.distributed import DistributedContext
from modelwright.training.objectives import build_objective
from modelwright.training.optimizers import Optimizer
from modelwright.training.plan import StepPlan
from modelwright.training.precision import Precision, PrecisionName
from modelwright.training.rules import WeightedMean
from modelwright.training.schedules import build_schedule
from peers import PEERS, Loader

STEPS_IN_ALL = 10_000
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def batches(pixels: Tensor, labels: Tensor, batch_size: int) -> Loader:
    """Yield augmented batches without end: images flipped at random, moved by up to two pixels.

    One gather of rows does both: of five ways tried the fastest, and about ten times as fast as a
    loop over the 25 moves.
    """
    generator = torch.Generator().manual_seed(0)
    side = pixels.shape[1]
    places = torch.arange(-2, side + 2).abs()
    reflected = torch.where(places >= side, 2 * (side - 1) - places, places)
    steps, flat = torch.arange(side), pixels.reshape(-1, pixels.shape[-1])
    while True:
        every = torch.randperm(len(pixels), generator=generator)
        for chosen in torch.split(every, batch_size)[: len(pixels) // batch_size]:
            moves = torch.randint(0, 5, (2, len(chosen), 1), generator=generator)
            rows, columns = reflected[moves[0] + steps], reflected[moves[1] + steps]
            flips = torch.rand(len(chosen), 1, generator=generator) < 0.5
            columns = torch.where(flips, side - 1 - columns, columns)
            at = (chosen[:, None] * side + rows)[:, :, None] * side + columns[:, None, :]
            images = flat.index_select(0, at.reshape(-1)).view(-1, *pixels.shape[1:])
            yield images.float(), labels[chosen]


def plain_blocks(network: nn.Module, source: Loader, *, precision: str) -> Callable[[int], float]:
    """Return a function that runs some steps of the plain loop."""
    decay = [p for p in network.parameters() if p.ndim >= 2]
    rest = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS_IN_ALL)
    network.train()

    def block(steps: int) -> float:
        begun = time.perf_counter()
        for _ in range(steps):
            images, targets = next(source)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                outputs = network(images)
            loss = F.cross_entropy(outputs.float(), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
        return (time.perf_counter() - begun) / steps

    return block


def our_blocks(
    network: nn.Module, split: Split, *, batch_size: int, precision: PrecisionName
) -> Callable[[int], float]:
    """Return a function that runs some steps of the project's loop."""
    spec = TrainSpec(
        optimizer=SgdOptimizer(name="sgd", lr=0.05),
        schedule=CosineSchedule(name="cosine", warmup=0),
    )
    augment = AugmentSpec(flip="random", translate=2)
    parts = Parts(
        sampler=Sampler(len(split), batch_size, 0),
        source=Batches(split, augment=augment, seed=0, device="cpu", num_outputs=10),
        objective=build_objective(
            CrossEntropyLoss(name="cross-entropy"),
            split.targets,
            output_kind=OutputKind.SINGLE_LABEL,
            num_outputs=10,
            device="cpu",
        ),
        rule=WeightedMean(),
        optimizer=Optimizer(network, spec),
        schedule=build_schedule(spec.schedule),
        precision=Precision(precision, "cpu"),
        distributed=DistributedContext("cpu"),
        gradient_accumulation=1,
        seed=0,
    )
    box = [State(0, torch.zeros(2))]

    def block(steps: int) -> float:
        begun = time.perf_counter()
        until = Until(
            step=box[0].step + steps,
            step_plan=StepPlan.of(STEPS_IN_ALL),
            stop=lambda: False,
            on_progress=lambda state, rate: None,
        )
        box[0] = train(network, parts, box[0], until)
        return (time.perf_counter() - begun) / steps

    return block


def images(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return CIFAR-10's first training images `[N, 32, 32, 3]` and labels."""
    import io

    import pyarrow.parquet as pq
    from PIL import Image

    folder = Path(os.environ["MODELWRIGHT_DATA"]) / "cifar10"
    table = pq.read_table(folder / "train.parquet", columns=["image", "label"]).slice(0, count)
    pixels = [
        np.asarray(Image.open(io.BytesIO(item.as_py())).convert("RGB")) for item in table["image"]
    ]
    return np.stack(pixels), np.asarray(table["label"], np.int64)


def main() -> None:
    """Print one JSON line: the ratio, its quartiles, and the difference in microseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["cnn", "resnet18"], default="cnn")
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--steps", type=int, help="steps a block")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--beside", nargs="+", choices=list(PEERS), default=[])
    parser.add_argument("--quick", action="store_true", help="four blocks of one step")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.blocks, arguments.steps = 4, 1
    steps = arguments.steps or {"cnn": 6, "resnet18": 1}[arguments.model]
    batch_size = arguments.batch_size or {"cnn": 512, "resnet18": 64}[arguments.model]
    if TUNABLES not in os.environ:  # The allocator reads them when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], tuned(os.environ))
    pixels, labels = images(10_000)
    split = Split("train", pixels, np.arange(len(pixels)), labels)
    architecture = (
        CnnModel(name="cnn") if arguments.model == "cnn" else ResnetModel(name="resnet", depth=18)
    )
    torch.manual_seed(0)
    network = build(
        architecture, channels=3, height=32, width=32, num_outputs=10, mean=MEAN, std=STD
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loops = {"plain": plain_blocks, **{name: PEERS[name] for name in arguments.beside}}
    blocks = {
        "ours": our_blocks(network, split, batch_size=batch_size, precision=arguments.precision)
    }
    for name, made in loops.items():
        source = batches(torch.from_numpy(pixels), torch.from_numpy(labels), batch_size)
        blocks[name] = made(copy.deepcopy(network), source, precision=arguments.precision)
    for block in blocks.values():
        block(steps)
    rounds: list[dict[str, float]] = []
    for number in range(arguments.blocks):
        order = list(blocks.items())[:: 1 if number % 2 else -1]
        rounds.append({name: block(steps) for name, block in order})
    pairs = [(times["ours"], times["plain"]) for times in rounds]
    ratios = sorted(a / b for a, b in pairs)
    quartiles = statistics.quantiles(ratios, n=4)
    figure = {
        "benchmark": "loop",
        "model": arguments.model,
        "batch_size": batch_size,
        "precision": arguments.precision,
        "blocks": arguments.blocks,
        "ratio": round(statistics.median(ratios), 4),
        "ratio_quartiles": [round(quartiles[0], 4), round(quartiles[2], 4)],
        "extra_us_a_step": round(statistics.median(a - b for a, b in pairs) * 1e6, 1),
        "plain_ms_a_step": round(statistics.median(b for _, b in pairs) * 1e3, 2),
        "images_per_s": round(batch_size / statistics.median(a for a, _ in pairs), 1),
        "beside": {
            name: round(statistics.median(times[name] / times["ours"] for times in rounds), 4)
            for name in arguments.beside
        },
        "target": "ratio <= 1.02 or extra_us_a_step <= 100",
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
