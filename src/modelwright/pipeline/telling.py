"""What a run leaves for people: the report, and a few samples to try the model on."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from modelwright import modelfile, report
from modelwright.data import Prepared
from modelwright.pipeline.asking import Asked, environment
from modelwright.pipeline.measuring import Measured
from modelwright.pipeline.result import RunResult
from modelwright.recipe import render_config
from modelwright.run import Run
from modelwright.tasks import TASKS

if TYPE_CHECKING:
    from modelwright.training import FitReport

SAMPLES = 3
AUGMENTED = (6, 8)
"""Training images shown with their variations, and how many of them each."""


def tell(
    result: RunResult,
    asked: Asked,
    prepared: Prepared,
    measured: Measured,
    fitted: FitReport,
    context: Run,
) -> None:
    """Write the report, and some samples of the measured split as pictures."""
    packed = modelfile.describe(result.model)
    sample = write_samples(result.folder / "samples", measured, prepared.labels)
    task = TASKS[asked.recipe.task]
    worst = np.array([item.position for item in measured.measurement.mistakes], dtype=np.int64)
    report.write_report(
        result.report,
        report.Story(
            name=result.folder.name,
            source=prepared.source,
            ledger=result.ledger,
            verdicts=result.verdicts,
            measurement=measured.measurement,
            higher_is_better=task.higher_is_better,
            select_by=task.select_by,
            history=fitted.history,
            chosen=fitted.chosen,
            counts=prepared.counts,
            findings=[
                report.Finding(
                    kind=item.kind, severity=item.severity, message=item.message, fix=item.fix
                )
                for item in prepared.report.findings
            ],
            openings=measured.openings.count if measured.openings else None,
            recipe=render_config(asked.recipe, with_place=False),
            decisions=context.decisions.taken(),
            environment=environment(context),
            lineage=packed["lineage"],
            model_name=result.model.name,
            model_digest=modelfile.digest(result.model),
            predict_command=predict_command(result.model, sample),
            seconds=result.seconds,
            training_s=fitted.seconds,
            mistakes=measured.samples.gather(worst),
            augmented=_augmented(asked, prepared, context),
            notes=result.said,
        ),
    )


def predict_command(model: Path, sample: Path) -> str:
    """Return a line for the shell that asks the model about a sample."""
    return f"modelwright predict {shlex.quote(str(model))} {shlex.quote(str(sample))}"


def write_samples(folder: Path, measured: Measured, labels: tuple[str, ...]) -> Path:
    """Write a few of the measured samples as PNG files, and return the first one's path."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = measured.samples
    paths = []
    for position in range(min(SAMPLES, len(samples))):
        pixels = samples.gather(np.array([position], dtype=np.int64))[0]
        label = re.sub(r"[^\w-]+", "_", labels[int(samples.targets[position])])[:40]
        path = folder / f"{position}-{label}.png"
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
        paths.append(path)
    return paths[0]


def _augmented(asked: Asked, prepared: Prepared, context: Run) -> np.ndarray | None:
    from modelwright.data.augment import augmented_samples

    samples, times = AUGMENTED
    return augmented_samples(
        prepared.dataset().train,
        asked.recipe.augment,
        seed=context.seed,
        count=samples,
        times=times,
    )
