"""What a run leaves for people: the report, and a few samples to try the model on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modelwright import modelfile, report
from modelwright.data import Prepared, Split
from modelwright.data.waves import as_wav
from modelwright.evaluation import Measurement
from modelwright.pipeline.measuring import PROMPT, Measured
from modelwright.pipeline.request import RunRequest, environment
from modelwright.pipeline.result import RunResult
from modelwright.recipe import render_config
from modelwright.run import Run, StageReport
from modelwright.tasks import task_of
from modelwright.transforms.audio import AudioInput

SAMPLES = 3
WORST_SHOWN = 12
SAMPLES_SHOWN = 8
"""Samples with their answers, where no answer is simply right or wrong."""
AUGMENTED = (6, 8)
"""Training images shown with their variations, and how many of them each."""


def tell(
    result: RunResult,
    request: RunRequest,
    prepared: Prepared,
    measured: Measured,
    stages: Sequence[StageReport],
    context: Run,
) -> None:
    """Write the report, and some samples of the measured split as pictures."""
    packed = modelfile.describe(result.model)
    sample = write_samples(result.folder / "samples", measured, prepared)
    worst = _worst(measured)
    if prepared.kind == "boxes":
        answers, shown = _boxed(worst, measured, result.model)
    else:
        answers = _answers(worst, measured, prepared, result.model)
        shown = _shown(worst, measured, prepared)
    task = task_of(request.recipe)
    report.write_report(
        result.report,
        report.ReportData(
            name=result.folder.name,
            thing=prepared.store.kind,
            source=prepared.source,
            ledger=result.ledger,
            verdicts=result.verdicts,
            measurement=measured.measurement,
            higher_is_better=task.higher_is_better,
            select_by=task.select_by,
            stages=stages,
            counts=prepared.counts,
            findings=[
                report.Finding(
                    kind=item.kind, severity=item.severity, message=item.message, fix=item.fix
                )
                for item in prepared.report.findings
            ],
            test_accesses=measured.test_accesses.count if measured.test_accesses else None,
            recipe=render_config(request.recipe, with_place=False),
            decisions=context.decisions.taken(),
            environment=environment(context),
            lineage=packed["lineage"],
            model_name=result.model.name,
            model_digest=modelfile.digest(result.model),
            predict_command=predict_command(result.model, sample),
            seconds=result.seconds,
            mistakes=shown,
            worst=worst,
            answers=answers,
            of_boxes=prepared.kind == "boxes",
            augmented=_augmented(request, prepared, context),
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
        safe = re.sub(r"[^\w.-]+", "_", _called(samples, position, prepared))[:40]
        paths.append(_write_sample(folder / f"{position}-{safe}", prepared, samples, position))
    return paths[0]


def _called(samples: Split, position: int, prepared: Prepared) -> str:
    """Return what a sample is, in a word for its file's name."""
    match prepared.kind:
        case "label":
            return (*prepared.labels, *samples.unknown)[int(samples.targets[position])]
        case "labels":
            return _listed((*prepared.labels, *samples.unknown), samples.targets[position])
        case "numbers":
            return f"{samples.targets[position][0]:.4g}"
        case _:
            return prepared.kind


def _listed(labels: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    """Return the names of the labels that are chosen `[K]`."""
    return ", ".join(labels[at] for at in np.flatnonzero(chosen).tolist()) or "none"


def _write_sample(path: Path, prepared: Prepared, samples: Split, position: int) -> Path:
    (held,) = samples.gather(np.array([position], dtype=np.int64))
    match prepared.store.kind:
        case "image":
            path = path.with_name(f"{path.name}.png")
            Image.fromarray(held[..., 0] if held.shape[-1] == 1 else held).save(path)
        case "text":
            path = path.with_name(f"{path.name}.txt")
            row = int(prepared.rows[samples.name][position % len(prepared.rows[samples.name])])
            path.write_bytes(prepared.store.original(row))
        case "audio":
            path = path.with_name(f"{path.name}.wav")
            path.write_bytes(_wav(held, prepared))
    return path


def _wav(sample: Any, prepared: Prepared) -> bytes:
    """Return a recording as the network took it, as a WAV file."""
    assert isinstance(prepared.input, AudioInput)
    return as_wav(sample["samples"][: sample["length"]], prepared.input.sampling_rate)


def _worst(measured: Measured) -> list[int]:
    """Return the places of the samples that the report shows: mistakes, or the largest errors."""
    found = measured.measurement
    if isinstance(found, Measurement):
        return [item.position for item in found.mistakes]
    if "chosen" in found.tally:
        wrong = (found.tally["chosen"] != found.tally["wanted"]).any(axis=1)
        order = np.argsort(-found.tally["losses"], kind="stable")
        return [int(at) for at in order[wrong[order]][:WORST_SHOWN]]
    if "predicted" not in found.tally:
        return list(range(min(SAMPLES_SHOWN, len(measured.samples))))
    errors = np.abs(found.tally["predicted"] - found.tally["targets"])
    spread = found.tally["targets"].std(axis=0)
    worst = (errors / np.where(spread > 0, spread, 1.0)).mean(axis=1)
    return [int(at) for at in np.argsort(-worst, kind="stable")[:WORST_SHOWN]]


def _answers(
    positions: list[int], measured: Measured, prepared: Prepared, path: Path
) -> list[tuple[str, str]]:
    """Return what was wanted of samples and what the model answers, as text."""
    found = measured.measurement
    if isinstance(found, Measurement) or prepared.kind in ("label", "numbers"):
        return []
    if prepared.kind == "labels":
        wanted, chosen = (
            [_listed(found.names, found.tally[key][at]) for at in positions]
            for key in ("wanted", "chosen")
        )
        return list(zip(wanted, chosen, strict=True))
    rows, held = prepared.rows[measured.samples.name], prepared.store.strings("label")
    if found.answers:
        return [(held[int(rows[at])], found.answers[at]) for at in positions]
    request = [_as_question(at, measured, prepared) for at in positions]
    answers = modelfile.load(path).predict(request)
    if prepared.kind == "next":
        return [("", answer[0]["text"]) for answer in answers]
    spoken = [held[int(rows[at])] for at in positions]
    return [(text, item[0]["text"]) for text, item in zip(spoken, answers, strict=True)]


def _boxed(
    positions: list[int], measured: Measured, path: Path
) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Return what was wanted of images and found in them, in words and drawn into each."""
    chosen = np.array(positions, dtype=np.int64)
    images, targets = measured.samples.gather(chosen), measured.samples.targets[chosen]
    model, names = modelfile.load(path), measured.measurement.names
    answers, drawn = [], []
    for pixels, wanted, found in zip(images, targets, model.predict(images), strict=True):
        boxes = wanted["boxes"][wanted["labels"] >= 0]
        labels = [names[at] for at in wanted["labels"] if at >= 0]
        said = [f"{item['label']} {item['probability']:.0%}" for item in found]
        answers.append((", ".join(labels) or "nothing", ", ".join(said) or "nothing"))
        places = [tuple(item["box"]) for item in found]
        drawn.append(report.with_boxes(pixels, found=places, wanted=boxes.tolist()))
    return answers, np.stack(drawn)


def _as_question(position: int, measured: Measured, prepared: Prepared) -> Any:
    """Return a sample as the model is asked about it."""
    if prepared.kind == "next":
        rows = prepared.rows[measured.samples.name]
        return prepared.store.original(int(rows[position % len(rows)])).decode()[:PROMPT]
    (held,) = measured.samples.gather(np.array([position], dtype=np.int64))
    return held["samples"][: held["length"]] if prepared.kind == "letters" else held


def _shown(positions: list[int], measured: Measured, prepared: Prepared) -> Any:
    """Return samples as the report shows them."""
    held = measured.samples
    match prepared.store.kind:
        case "image":
            return held.gather(np.array(positions, dtype=np.int64))
        case "text":
            rows = prepared.rows[held.name]
            return [prepared.store.original(int(rows[at % len(rows)])).decode() for at in positions]
        case "audio":
            return [_wav(item, prepared) for item in held.gather(np.array(positions, np.int64))]


def _augmented(request: RunRequest, prepared: Prepared, context: Run) -> np.ndarray | None:
    from modelwright.data.augment import augmented_samples

    if prepared.store.kind != "image":
        return None
    samples, times = AUGMENTED
    augment = request.recipe.augment
    if prepared.kind == "boxes":
        augment = augment.model_copy(update={"padding": "zero"})
    return augmented_samples(
        prepared.dataset().train,
        augment,
        seed=context.seed,
        count=samples,
        times=times,
    )
