"""Tokens a second of the training loop, beside a plain loop and `transformers.Trainer`.

All three train the same network (examples/language-modeling.yaml) on the same windows of Tiny
Shakespeare, with AdamW, clipping and a cosine schedule, in blocks of steps that take turns, so that
drift of the machine hits all alike. The figures are medians over the blocks. `compiled` is our loop
as a long training runs it where there is a C++ compiler (`train.compile: auto`).

    python benchmarks/tokens.py --blocks 24
    pip install transformers accelerate   # else the third is left out
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from measuring import real_data, spread, tell
from modelwright import data
from modelwright.initialization import initialize_model
from modelwright.models.candidate import Candidate
from modelwright.pipeline.request import read_request, run_in
from modelwright.run import RunRequest, silent
from modelwright.tasks import task_of
from modelwright.training.build import build_parts, trainable
from modelwright.training.distributed import DistributedContext
from modelwright.training.loop import State, Until, train
from modelwright.training.plan import StepPlan, can_compile

RECIPE = Path(__file__).parents[1] / "examples" / "language-modeling.yaml"
STEPS_IN_ALL = 10_000
LR, CLIP = 0.002, 1.0
_SETTINGS = [
    f"train.optimizer={{name: adamw, lr: {LR}}}",
    "train.weight_decay=0",
    "train.schedule={name: cosine, warmup: 0}",
    f"train.clip_norm={CLIP}",
    "train.precision=fp32",
]


def our_blocks(
    start: Candidate, request: RunRequest, prepared: data.Prepared, folder: Path, *, compiled: bool
) -> Callable[[int], float]:
    """Return a function that runs some steps of the project's loop."""
    context = run_in(request, folder, observe=silent)
    network = trainable(start, context.device)
    parts = build_parts(
        network,
        request.recipe.train,
        prepared.dataset(),
        task=task_of(request.recipe),
        augment=request.recipe.augment,
        seed=context.seed,
        distributed=DistributedContext(context.device),
    )
    if compiled:
        network.compile(dynamic=False)
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


def plain_blocks(
    network: nn.Module, tokens: Tensor, following: Tensor, batch_size: int
) -> Callable[[int], float]:
    """Return a function that runs some steps of a plain loop, written by hand."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS_IN_ALL)
    generator = torch.Generator().manual_seed(0)

    def block(steps: int) -> float:
        begun = time.perf_counter()
        for _ in range(steps):
            chosen = torch.randint(0, len(tokens), (batch_size,), generator=generator)
            outputs = network(tokens[chosen])
            loss = F.cross_entropy(outputs.flatten(0, 1), following[chosen].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            scheduler.step()
        return (time.perf_counter() - begun) / steps

    return block


def trainer_blocks(
    network: nn.Module, tokens: Tensor, following: Tensor, batch_size: int, folder: Path
) -> Callable[[int], float] | None:
    """Return a function that runs some steps of `transformers.Trainer`; nothing without it."""
    if not all(importlib.util.find_spec(name) for name in ("accelerate", "transformers")):
        return None
    import transformers

    logging.getLogger("transformers").setLevel(logging.ERROR)

    class WithLoss(nn.Module):
        """The network as the Trainer wants it: it returns its loss."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, tokens: Tensor, labels: Tensor) -> dict[str, Tensor]:
            outputs = self.network(tokens)
            return {"loss": F.cross_entropy(outputs.flatten(0, 1), labels.flatten())}

    class Windows(torch.utils.data.Dataset[dict[str, Tensor]]):
        """The same windows."""

        def __len__(self) -> int:
            return len(tokens)

        def __getitem__(self, at: int) -> dict[str, Tensor]:
            return {"tokens": tokens[at], "labels": following[at]}

    class Clock(transformers.TrainerCallback):
        """Times from the end of the first step to the end of the last."""

        times: list[float]

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.times.append(time.perf_counter())

    def block(steps: int) -> float:
        clock = Clock()
        clock.times = []
        arguments = transformers.TrainingArguments(
            output_dir=str(folder),
            max_steps=steps + 1,
            per_device_train_batch_size=batch_size,
            learning_rate=LR,
            lr_scheduler_type="cosine",
            optim="adamw_torch_fused",
            max_grad_norm=CLIP,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = transformers.Trainer(
            WithLoss(), arguments, train_dataset=Windows(), callbacks=[clock]
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        return (clock.times[-1] - clock.times[0]) / steps

    return block


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--steps", type=int, default=4, help="steps a block")
    parser.add_argument("--quick", action="store_true", help="two blocks of one step")
    arguments = parser.parse_args()
    real_data()
    blocks, steps = (2, 1) if arguments.quick else (arguments.blocks, arguments.steps)
    request = read_request(RECIPE, overrides=_SETTINGS)
    prepared = data.prepare(request.recipe, base=request.base, run_folder=None, observe=silent)
    split = prepared.dataset().train
    tokens = torch.from_numpy(split.gather()["tokens"].copy())
    following = torch.from_numpy(split.targets[:]["next"].copy())
    whole = (following != 0).all(1)  # A passage's last window is short, and padded.
    tokens, following = tokens[whole], following[whole]
    batch_size = request.recipe.train.batch_size
    with tempfile.TemporaryDirectory() as aside:
        context = run_in(request, Path(aside), observe=silent)
        start = initialize_model(request, prepared, context)
        loops = {
            "ours": our_blocks(start, request, prepared, Path(aside), compiled=False),
            "compiled": our_blocks(start, request, prepared, Path(aside), compiled=True)
            if can_compile()
            else None,
            "plain": plain_blocks(copy.deepcopy(start.network), tokens, following, batch_size),
            "trainer": trainer_blocks(
                copy.deepcopy(start.network), tokens, following, batch_size, Path(aside)
            ),
        }
        running = {name: loop for name, loop in loops.items() if loop is not None}
        for loop in running.values():
            loop(1)
        rounds: list[dict[str, float]] = []
        for number in range(blocks):
            names = list(running)
            order = names[number % len(names) :] + names[: number % len(names)]
            rounds.append({name: running[name](steps) for name in order})
    size = batch_size * tokens.shape[1]
    tell(
        "tokens",
        batch=[batch_size, tokens.shape[1]],
        blocks=blocks,
        tokens_per_s={
            name: round(size / statistics.median(row[name] for row in rounds)) for name in running
        },
        **{
            f"{own}_faster_than": {
                name: spread([row[name] / row[own] for row in rounds])
                for name in running
                if name not in ("ours", "compiled")
            }
            for own in ("ours", "compiled")
            if own in running
        },
        target="ours_faster_than >= 1.0 of each",
    )


if __name__ == "__main__":
    main()
