"""What a run leaves for people: the report, and a few samples to try the model on."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from modelwright import modelfile, report
from modelwright.data import Prepared, Split
from modelwright.data.waves import as_wav
from modelwright.evaluation import Measurement
from modelwright.pipeline.asking import Asked, environment
from modelwright.pipeline.measuring import Measured
from modelwright.pipeline.result import RunResult
from modelwright.recipe import render_config
from modelwright.run import Run
from modelwright.tasks import TASKS
from modelwright.transforms.sound import SoundInput

if TYPE_CHECKING:
    from modelwright.training import FitReport

SAMPLES = 3
WORST_SHOWN = 12
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
    sample = write_samples(result.folder / "samples", measured, prepared)
    worst = _worst(measured)
    task = TASKS[asked.recipe.task]
    report.write_report(
        result.report,
        report.Story(
            name=result.folder.name,
            thing=prepared.store.kind,
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
            mistakes=_shown(worst, measured, prepared),
            worst=worst,
            augmented=_augmented(asked, prepared, context),
            notes=result.said,
        ),
    )


def predict_command(model: Path, sample: Path) -> str:
    """Return a line for the shell that asks the model about a sample."""
    return f"modelwright predict {shlex.quote(str(model))} {shlex.quote(str(sample))}"


def write_samples(folder: Path, measured: Measured, prepared: Prepared) -> Path:
    """Write a few of the measured samples as files, and return the first one's path."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = measured.samples
    paths = []
    for position in range(min(SAMPLES, len(samples))):
        target = samples.targets[position]
        text = prepared.labels[int(target)] if prepared.has_classes else f"{target[0]:.4g}"
        safe = re.sub(r"[^\w.-]+", "_", text)[:40]
        paths.append(_write_sample(folder / f"{position}-{safe}", prepared, samples, position))
    return paths[0]


def _write_sample(path: Path, prepared: Prepared, samples: Split, position: int) -> Path:
    (held,) = samples.gather(np.array([position], dtype=np.int64))
    match prepared.store.kind:
        case "image":
            path = path.with_name(f"{path.name}.png")
            Image.fromarray(held[..., 0] if held.shape[-1] == 1 else held).save(path)
        case "text":
            path = path.with_name(f"{path.name}.txt")
            path.write_bytes(prepared.store.original(int(samples.rows[position])))
        case "sound":
            path = path.with_name(f"{path.name}.wav")
            path.write_bytes(_wav(held, prepared))
    return path


def _wav(sample: Any, prepared: Prepared) -> bytes:
    """Return a sound as the network took it, as a WAV file."""
    assert isinstance(prepared.input, SoundInput)
    return as_wav(sample["samples"][: sample["length"]], prepared.input.sampling_rate)


def _worst(measured: Measured) -> list[int]:
    """Return the places of the samples that the report shows: mistakes, or the largest errors."""
    found = measured.measurement
    if isinstance(found, Measurement):
        return [item.position for item in found.mistakes]
    errors = np.abs(found.tally["predicted"] - found.tally["targets"])
    spread = found.tally["targets"].std(axis=0)
    worst = (errors / np.where(spread > 0, spread, 1.0)).mean(axis=1)
    return [int(at) for at in np.argsort(-worst, kind="stable")[:WORST_SHOWN]]


def _shown(positions: list[int], measured: Measured, prepared: Prepared) -> Any:
    """Return samples as the report shows them."""
    held = measured.samples
    match prepared.store.kind:
        case "image":
            return held.gather(np.array(positions, dtype=np.int64))
        case "text":
            return [prepared.store.original(int(held.rows[at])).decode() for at in positions]
        case "sound":
            return [_wav(item, prepared) for item in held.gather(np.array(positions, np.int64))]


def _augmented(asked: Asked, prepared: Prepared, context: Run) -> np.ndarray | None:
    from modelwright.data.augment import augmented_samples

    if prepared.store.kind != "image":
        return None
    samples, times = AUGMENTED
    return augmented_samples(
        prepared.dataset().train,
        asked.recipe.augment,
        seed=context.seed,
        count=samples,
        times=times,
    )
