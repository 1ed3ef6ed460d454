"""What a small student gains by a teacher, beside the student alone trained for the same time.

    python benchmarks/distillation.py --runs distilled
    python benchmarks/distillation.py --teacher runs/resnet18/model.mw --seeds 3

The teacher is a `resnet` 18 on CIFAR-10, trained once and kept under `--runs`. For each seed a
student of at most an eighth of its multiply-adds learns from it by the step `distill`; then the
same student, from the same weights, is trained on the labels alone for as many seconds (`budget`),
so that what the teacher's answers cost is paid for. Both answer the same test images. A teacher
that is given may have learnt from more images than `--set data.limit=N` leaves to the student.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from compression import learning_s, right_answers
from measuring import real_data, spread, tell
from modelwright import modelfile, pipeline
from modelwright.cli.launch import restart_tuned
from modelwright.evaluation.intervals import paired_bounds
from modelwright.progress import watching

RECIPE: dict[str, Any] = {
    "version": 1,
    "data": {"source": "cifar10", "split": {"val": 5000}},
    "augment": {"flip": "random", "translate": 4},
    "model": {"name": "resnet", "depth": 18},
    "train": {
        "epochs": 12,
        "batch_size": 256,
        "loss": {"name": "cross-entropy", "label_smoothing": 0.1},
        "optimizer": {"name": "sgd", "lr": 0.2},
        "schedule": {"name": "one-cycle"},
    },
    "evaluate": {"baselines": False, "latency": False},
}
STUDENT: dict[str, Any] = {"name": "resnet", "depth": 20}
"""41 million multiply-adds of an image; the teacher has 557 million."""
EPOCHS = 20
_SHARE = 1 / 8
"""The largest share of the teacher's multiply-adds that the student may have."""


def main() -> None:
    """Measure the seeds that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("distilled"))
    parser.add_argument("--teacher", type=Path, help="a finished file in place of training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kind", default="soft-labels")
    parser.add_argument("--epochs", type=float, default=float(EPOCHS))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--quick", action="store_true", help="one epoch of few samples")
    asked = parser.parse_args()
    real_data()
    settings = list(asked.settings)
    if asked.quick:
        settings += ["train.epochs=1", "data.limit=400", "train.batch_size=50"]
        asked.epochs = 1.0
    teacher = asked.teacher
    with watching() as observe:
        if teacher is None:
            teacher = pipeline.run(
                RECIPE, out=asked.runs, name="teacher", overrides=settings, observe=observe
            ).model
    gains = [measure(seed, teacher, asked, settings) for seed in range(asked.seeds)]
    tell("distillation", case="all seeds", gain=spread(gains), asked=">= 0.005, median of 3 seeds")


def measure(seed: int, teacher: Path, asked: argparse.Namespace, settings: list[str]) -> float:
    """Train a student with and without the teacher; print and return what it gains."""
    step = {
        "name": "distill",
        "teacher": str(teacher.resolve()),
        "student": STUDENT,
        "kind": asked.kind,
        "epochs": asked.epochs,
    }
    first = {**RECIPE["train"], "epochs": 1}
    with watching() as observe:
        taught = pipeline.run(
            {**RECIPE, "model": STUDENT, "train": first, "compress": [step]},
            out=asked.runs,
            name=f"distilled-{asked.kind}-{seed}",
            overrides=[*settings, f"seed={seed}"],
            observe=observe,
        )
        stages = taught.folder / "stages"
        seconds = sum(learning_s(stages / stage) for stage in ("train", "distill"))
        train = {**RECIPE["train"], "budget": f"{seconds:.0f}s"}
        del train["epochs"]
        alone = pipeline.run(
            {**RECIPE, "model": STUDENT, "train": train},
            out=asked.runs,
            name=f"alone-{asked.kind}-{seed}",
            overrides=[
                *(item for item in settings if not item.startswith("train.epochs")),
                f"seed={seed}",
            ],
            observe=observe,
        )
    own, other = right_answers(taught.model), right_answers(alone.model)
    sizes = [modelfile.load(path).multiply_adds for path in (teacher, taught.model)]
    gain = float(own.mean() - other.mean())
    ends = paired_bounds(int((own & ~other).sum()), int((other & ~own).sum()), len(own))
    tell(
        "distillation",
        case=f"seed {seed}",
        kind=asked.kind,
        multiply_adds_ratio=round(sizes[0] / sizes[1], 2),
        is_small_enough=sizes[1] <= _SHARE * sizes[0],
        teacher=round(float(right_answers(teacher).mean()), 5),
        distilled=round(float(own.mean()), 5),
        alone=round(float(other.mean()), 5),
        gain=[round(gain, 5), *(round(end, 5) for end in ends)],
        seconds=round(seconds, 1),
        samples=len(own),
    )
    return gain


if __name__ == "__main__":
    restart_tuned()
    main()
