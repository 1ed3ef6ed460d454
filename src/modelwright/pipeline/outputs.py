"""What a run writes for people: the report, and a few samples to try the model on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modelwright import modelfile, report
from modelwright.data import Prepared
from modelwright.data.waves import as_wav
from modelwright.evaluation import Comparison
from modelwright.kinds import InputKind, OutputKind
from modelwright.pipeline.measuring import Measured, originals, questions
from modelwright.pipeline.result import RunResult
from modelwright.pipeline.searching import Found, front_file
from modelwright.recipe import render_config
from modelwright.report.words import percent
from modelwright.run import Run, RunRequest, StageReport, environment
from modelwright.tasks import Task, task_of
from modelwright.transforms.audio import AudioInput

SAMPLES = 3
SAMPLES_SHOWN = 8
"""Samples with their answers, where no answer is simply right or wrong."""
SUFFIXES = {InputKind.IMAGE: ".png", InputKind.TEXT: ".txt", InputKind.AUDIO: ".wav"}
AUGMENTED = (6, 8)
"""Training images shown with their variations, and how many of them each."""


def write_outputs(
    result: RunResult,
    request: RunRequest,
    prepared: Prepared,
    measured: Measured,
    stages: Sequence[StageReport],
    context: Run,
    *,
    comparison: Comparison | None = None,
    found: Found | None = None,
) -> None:
    """Write the report, and some samples of the measured split as pictures."""
    packed = modelfile.describe(result.model)
    task = task_of(request.recipe)
    is_sealed = prepared.store.sealing is not None  # Then no sample may be written anywhere.
    sample = Path("INPUT")
    if not is_sealed:
        sample = _write_samples(result.folder / "samples", measured, prepared, task)
    worst = measured.measurement.worst
    first = range(min(SAMPLES_SHOWN, len(measured.samples)))
    positions = first if worst is None else worst.tolist()
    answers: list[report.Answered] = []
    shown: Any = ()
    if is_sealed:
        comparison = None
    elif prepared.output_kind == OutputKind.BOXES:
        answers, shown = _boxed(positions, measured, result.model)
    else:
        answers = _answers(positions, measured, prepared, task, result.model)
        shown = _shown(positions, measured, prepared)
    flips = [] if comparison is None else comparison.flipped[:SAMPLES_SHOWN].tolist()
    report.write_report(
        result.report,
        report.ReportData(
            name=result.folder.name,
            input_kind=prepared.input_kind,
            source=prepared.source,
            ledger=result.ledger,
            verdicts=result.verdicts,
            measurement=measured.measurement,
            select_by=task.select_by,
            goal=task.goal,
            stages=stages,
            counts=prepared.counts,
            findings=prepared.report.findings,
            test_accesses=measured.test_accesses.count if measured.test_accesses else None,
            recipe=render_config(request.recipe, with_place=False),
            decisions=context.decisions.taken(),
            environment=environment(device=context.device, threads=str(context.threads)),
            lineage=packed["lineage"],
            model_name=result.model.name,
            model_digest=modelfile.digest(result.model),
            predict_command=shlex.join(("modelwright", "predict", str(result.model), str(sample))),
            seconds=result.seconds,
            mistakes=shown,
            answers=answers,
            is_sealed=is_sealed,
            has_boxes=prepared.output_kind == OutputKind.BOXES,
            changed=_changed(flips, measured, comparison, prepared, task),
            changed_samples=_shown(flips, measured, prepared) if flips else (),
            tried=() if found is None else _tried(found),
            rejected={} if found is None else found.rejected,
            tried_by=() if found is None else found.goal.compared,
            augmented=None if is_sealed else _augmented(request, prepared, context),
            notes=result.notes,
        ),
    )


def _tried(found: Found) -> list[report.Tried]:
    """Return what a search has measured, as the report shows it."""
    numbers = {point.name: number for number, point in enumerate(found.front)}
    files = {name: front_file(number) for name, number in numbers.items()}
    files.pop(found.points[0].name, None)  # That of the network before is kept elsewhere.
    compared = found.goal.compared
    return [
        report.Tried(
            point.name,
            {name: point.figures[name].value for name in compared if name in point.figures},
            point.name in numbers,
            files.get(point.name, ""),
            point.name == found.point.name,
            list(found.goal.missed(point)),
        )
        for point in found.points
    ]


def _write_samples(folder: Path, measured: Measured, prepared: Prepared, task: Task) -> Path:
    """Write a few of the measured samples as files, and return the first one's path."""
    folder.mkdir(parents=True, exist_ok=True)
    samples, paths = measured.samples, []
    names = (*prepared.labels, *samples.unknown)
    positions = range(min(SAMPLES, len(samples)))
    for position, sample in zip(positions, _shown(positions, measured, prepared), strict=True):
        stem = str(task.output_kind)
        if task.describe is not None:
            stem = task.describe(samples.targets[position], names)
        stem = re.sub(r"[^\w.-]+", "_", stem)[:40]
        path = folder / f"{position}-{stem}{SUFFIXES[prepared.input_kind]}"
        if isinstance(sample, np.ndarray):
            Image.fromarray(sample[..., 0] if sample.shape[-1] == 1 else sample).save(path)
        else:
            path.write_bytes(sample.encode() if isinstance(sample, str) else sample)
        paths.append(path)
    return paths[0]


def _answers(
    positions: Sequence[int], measured: Measured, prepared: Prepared, task: Task, path: Path
) -> list[report.Answered]:
    """Return the references and the predictions of samples, as text."""
    measurement, describe = measured.measurement, task.describe
    if describe is not None:
        stats, names = measurement.stats, measurement.names
        confidence = stats.get("confidence")
        return [
            report.Answered(
                describe(stats["targets"][at], names),
                describe(stats["predicted"][at], names),
                "" if confidence is None else percent(float(confidence[at])),
            )
            for at in positions
        ]
    rows, references = prepared.rows[measured.samples.name], prepared.store.strings("label")
    if measurement.texts:
        pairs = ((references[int(rows[at])], measurement.texts[at]) for at in positions)
        return [report.Answered(*pair) for pair in pairs]
    inputs = questions(positions, measured.samples, prepared)
    answers = [item[0]["text"] for item in modelfile.load(path).predict(inputs)]
    if prepared.output_kind == OutputKind.CAUSAL_LM:
        return [report.Answered(None, answer) for answer in answers]
    transcripts = [references[int(rows[at])] for at in positions]
    return [report.Answered(*pair) for pair in zip(transcripts, answers, strict=True)]


def _changed(
    positions: Sequence[int],
    measured: Measured,
    comparison: Comparison | None,
    prepared: Prepared,
    task: Task,
) -> list[report.Changed]:
    """Return samples that are answered otherwise than before compression, with both answers."""
    if comparison is None or not positions:
        return []
    own, before = measured.measurement, comparison.parent
    if own.texts:
        rows, references = prepared.rows[measured.samples.name], prepared.store.strings("label")
        return [
            report.Changed(references[int(rows[at])], before.texts[at], own.texts[at])
            for at in positions
        ]
    describe, names = task.describe, own.names
    assert describe is not None  # Only labels and texts can flip.
    return [
        report.Changed(
            describe(own.stats["targets"][at], names),
            describe(before.stats["predicted"][at], names),
            describe(own.stats["predicted"][at], names),
        )
        for at in positions
    ]


def _boxed(
    positions: Sequence[int], measured: Measured, path: Path
) -> tuple[list[report.Answered], np.ndarray]:
    """Return the reference and predicted boxes of images, as text and drawn into each."""
    chosen = np.array(positions, dtype=np.int64)
    images, targets = measured.samples.gather(chosen), measured.samples.targets[chosen]
    model, names = modelfile.load(path), measured.measurement.names
    answers, drawn = [], []
    for pixels, target, predicted in zip(images, targets, model.predict(images), strict=True):
        reference = target["boxes"][target["labels"] >= 0].tolist()
        labels = ", ".join(names[at] for at in target["labels"] if at >= 0)
        answer = ", ".join(f"{item['label']} {item['probability']:.0%}" for item in predicted)
        answers.append(report.Answered(labels or "nothing", answer or "nothing"))
        boxes = [tuple(item["box"]) for item in predicted]
        drawn.append(report.with_boxes(pixels, predicted=boxes, reference=reference))
    return answers, np.stack(drawn)


def _shown(positions: Sequence[int], measured: Measured, prepared: Prepared) -> Any:
    """Return samples as the report shows them: pixels, texts, or WAV files."""
    if prepared.input_kind == InputKind.TEXT:
        rows = prepared.rows[measured.samples.name]
        return originals([int(rows[at % len(rows)]) for at in positions], prepared)
    inputs = questions(positions, measured.samples, prepared)
    if not isinstance(prepared.input, AudioInput):
        return inputs
    return [as_wav(recording, prepared.input.sampling_rate) for recording in inputs]


def _augmented(request: RunRequest, prepared: Prepared, context: Run) -> np.ndarray | None:
    from modelwright.data.augment import augmented_samples

    if prepared.input_kind != InputKind.IMAGE:
        return None
    augment = request.recipe.augment
    if prepared.output_kind == OutputKind.BOXES:
        augment = augment.model_copy(update={"padding": "zero"})
    count, times = AUGMENTED
    train = prepared.dataset().train
    pictures = augmented_samples(train, augment, seed=context.seed, count=count, times=times)
    is_varied = bool((pictures != pictures[:, :1]).any())
    return pictures if is_varied else None
