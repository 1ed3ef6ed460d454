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
from modelwright.data import Prepared, Split
from modelwright.data.waves import as_wav
from modelwright.kinds import InputKind, OutputKind
from modelwright.pipeline.measuring import PROMPT, Measured
from modelwright.pipeline.result import RunResult
from modelwright.recipe import render_config
from modelwright.report.words import percent
from modelwright.run import Run, RunRequest, StageReport, environment
from modelwright.tasks import Task, task_of
from modelwright.transforms.audio import AudioInput

SAMPLES = 3
SAMPLES_SHOWN = 8
"""Samples with their answers, where no answer is simply right or wrong."""
AUGMENTED = (6, 8)
"""Training images shown with their variations, and how many of them each."""


def write_outputs(
    result: RunResult,
    request: RunRequest,
    prepared: Prepared,
    measured: Measured,
    stages: Sequence[StageReport],
    context: Run,
) -> None:
    """Write the report, and some samples of the measured split as pictures."""
    packed = modelfile.describe(result.model)
    task = task_of(request.recipe)
    sample = write_samples(result.folder / "samples", measured, prepared, task)
    positions = _positions(measured)
    if prepared.output_kind == OutputKind.BOXES:
        answers, shown = _boxed(positions, measured, result.model)
    else:
        answers = _answers(positions, measured, prepared, task, result.model)
        shown = _shown(positions, measured, prepared)
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
            predict_command=predict_command(result.model, sample),
            seconds=result.seconds,
            mistakes=shown,
            answers=answers,
            has_boxes=prepared.output_kind == OutputKind.BOXES,
            augmented=_augmented(request, prepared, context),
            notes=result.said,
        ),
    )


def predict_command(model: Path, sample: Path) -> str:
    """Return a line for the shell that asks the model about a sample."""
    return f"modelwright predict {shlex.quote(str(model))} {shlex.quote(str(sample))}"


def write_samples(folder: Path, measured: Measured, prepared: Prepared, task: Task) -> Path:
    """Write a few of the measured samples as files, and return the first one's path."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = measured.samples
    paths = []
    for position in range(min(SAMPLES, len(samples))):
        safe = re.sub(r"[^\w.-]+", "_", _file_stem(samples, position, prepared, task))[:40]
        paths.append(_write_sample(folder / f"{position}-{safe}", prepared, samples, position))
    return paths[0]


def _file_stem(samples: Split, position: int, prepared: Prepared, task: Task) -> str:
    """Return what a sample is, in a word for its file's name."""
    if task.describe is None:
        return str(task.output_kind)
    return task.describe(samples.targets[position], (*prepared.labels, *samples.unknown))


def _write_sample(path: Path, prepared: Prepared, samples: Split, position: int) -> Path:
    (held,) = samples.gather(np.array([position], dtype=np.int64))
    match prepared.input_kind:
        case InputKind.IMAGE:
            path = path.with_name(f"{path.name}.png")
            Image.fromarray(held[..., 0] if held.shape[-1] == 1 else held).save(path)
        case InputKind.TEXT:
            path = path.with_name(f"{path.name}.txt")
            row = int(prepared.rows[samples.name][position % len(prepared.rows[samples.name])])
            path.write_bytes(prepared.store.original(row))
        case InputKind.AUDIO:
            path = path.with_name(f"{path.name}.wav")
            path.write_bytes(_wav(held, prepared))
    return path


def _wav(sample: Any, prepared: Prepared) -> bytes:
    """Return a recording as the network took it, as a WAV file."""
    assert isinstance(prepared.input, AudioInput)
    return as_wav(sample["samples"][: sample["length"]], prepared.input.sampling_rate)


def _positions(measured: Measured) -> list[int]:
    """Return the places of the samples that the report shows: the worst, or else the first."""
    worst = measured.measurement.worst
    if worst is None:
        return list(range(min(SAMPLES_SHOWN, len(measured.samples))))
    return [int(at) for at in worst]


def _answers(
    positions: list[int], measured: Measured, prepared: Prepared, task: Task, path: Path
) -> list[report.Answered]:
    """Return the truth of samples and what the model says of them, in words."""
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
    questions = [_as_question(at, measured, prepared) for at in positions]
    answers = [item[0]["text"] for item in modelfile.load(path).predict(questions)]
    if prepared.output_kind == OutputKind.CAUSAL_LM:
        return [report.Answered(None, answer) for answer in answers]
    spoken = [references[int(rows[at])] for at in positions]
    return [report.Answered(*pair) for pair in zip(spoken, answers, strict=True)]


def _boxed(
    positions: list[int], measured: Measured, path: Path
) -> tuple[list[report.Answered], np.ndarray]:
    """Return the reference and predicted boxes of images, as text and drawn into each."""
    chosen = np.array(positions, dtype=np.int64)
    images, targets = measured.samples.gather(chosen), measured.samples.targets[chosen]
    model, names = modelfile.load(path), measured.measurement.names
    answers, drawn = [], []
    for pixels, wanted, found in zip(images, targets, model.predict(images), strict=True):
        boxes = wanted["boxes"][wanted["labels"] >= 0]
        labels = [names[at] for at in wanted["labels"] if at >= 0]
        said = [f"{item['label']} {item['probability']:.0%}" for item in found]
        answers.append(
            report.Answered(", ".join(labels) or "nothing", ", ".join(said) or "nothing")
        )
        places = [tuple(item["box"]) for item in found]
        drawn.append(report.with_boxes(pixels, predicted=places, reference=boxes.tolist()))
    return answers, np.stack(drawn)


def _as_question(position: int, measured: Measured, prepared: Prepared) -> Any:
    """Return a sample as the model is asked about it."""
    if prepared.output_kind == OutputKind.CAUSAL_LM:
        rows = prepared.rows[measured.samples.name]
        return prepared.store.original(int(rows[position % len(rows)])).decode()[:PROMPT]
    (sample,) = measured.samples.gather(np.array([position], dtype=np.int64))
    if prepared.input_kind == InputKind.AUDIO:
        return sample["samples"][: sample["length"]]
    return sample


def _shown(positions: list[int], measured: Measured, prepared: Prepared) -> Any:
    """Return samples as the report shows them."""
    held = measured.samples
    match prepared.input_kind:
        case InputKind.IMAGE:
            return held.gather(np.array(positions, dtype=np.int64))
        case InputKind.TEXT:
            rows = prepared.rows[held.name]
            return [prepared.store.original(int(rows[at % len(rows)])).decode() for at in positions]
        case InputKind.AUDIO:
            return [_wav(item, prepared) for item in held.gather(np.array(positions, np.int64))]


def _augmented(request: RunRequest, prepared: Prepared, context: Run) -> np.ndarray | None:
    from modelwright.data.augment import augmented_samples

    if prepared.input_kind != InputKind.IMAGE:
        return None
    samples, times = AUGMENTED
    augment = request.recipe.augment
    if prepared.output_kind == OutputKind.BOXES:
        augment = augment.model_copy(update={"padding": "zero"})
    return augmented_samples(
        prepared.dataset().train,
        augment,
        seed=context.seed,
        count=samples,
        times=times,
    )
