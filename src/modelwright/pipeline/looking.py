"""Looking without training: audit and forecast, a recipe for data, a network's layers."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright import data
from modelwright.data import Finding, Prepared
from modelwright.errors import DataError, RequestError, require
from modelwright.files import write_bytes
from modelwright.pipeline import recognising
from modelwright.pipeline.measuring import require_held_out
from modelwright.pipeline.request import Notes, RecipeLike, read_request, run_in
from modelwright.planning import Forecast, Workload, forecast
from modelwright.recipe import check_composition, parse_recipe
from modelwright.run import Observe, Run, RunRequest, silent
from modelwright.tasks import task_of
from modelwright.transforms import ImageInput

if TYPE_CHECKING:
    from modelwright.models import Summary
    from modelwright.models.candidate import Candidate


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found before anything is trained."""

    findings: tuple[Finding, ...]
    forecast: Forecast
    said: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `check --json` prints."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "forecast": self.forecast.to_json(),
        }


def check(
    recipe: RecipeLike,
    *,
    overrides: Sequence[str] = (),
    site: Path | None = None,
    observe: Observe = silent,
) -> CheckResult:
    """Audit the data, apply the rules and forecast memory, disk and time; train nothing.

    Raises:
        ModelwrightError: the recipe or the data can't be used.
    """
    request = read_request(recipe, overrides=overrides, site=site)
    notes = Notes(observe)
    for note in check_composition(request.recipe):
        notes.say(note)
    lenient = request.recipe.data.model_copy(update={"allow_leaks": True})
    looked = RunRequest(
        request.recipe.model_copy(update={"data": lenient}), base=request.base, stem=request.stem
    )
    with tempfile.TemporaryDirectory(prefix="modelwright-check-") as aside:
        context = run_in(request, Path(aside), observe=notes)
        # A leak is a finding here, and an error only for a run.
        prepared = data.prepare(
            looked.recipe, base=request.base, like=settled_input(request), observe=notes
        )
        require_held_out(prepared, request.recipe.inference.threshold)
        expected = forecast(request.recipe, _workload(request, prepared, context))
    findings = tuple(prepared.report.findings)
    if not request.recipe.data.allow_leaks:
        findings = data.as_errors(findings)
    return CheckResult(findings, expected, tuple(notes.said))


def _workload(request: RunRequest, prepared: Prepared, context: Run) -> Workload:
    from modelwright.training import time_steps

    start = initialize_model(request, prepared, context)
    dataset = prepared.dataset()
    step_s, validation_s = time_steps(
        start,
        request.recipe.train,
        dataset,
        context,
        task=task_of(request.recipe),
        augment=request.recipe.augment,
    )
    summary = _summary(start, prepared)
    test = prepared.test()
    validation = len(dataset.validation) if dataset.validation else 0
    return Workload(
        train_samples=len(dataset.train),
        validation_samples=validation,
        all_samples=len(dataset.train) + validation + (len(test) if test else 0),
        sample_bytes=_sample_bytes(prepared),
        store_bytes=prepared.store_bytes,
        parameters=summary.parameters,
        activations=summary.activations,
        multiply_adds=summary.multiply_adds,
        step_s=step_s,
        validation_s=validation_s,
        free_disk_bytes=shutil.disk_usage(Path.cwd()).free,
        memory_bytes=_memory_bytes(),
    )


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Not on Windows.
        return 8 << 30


def layers(
    recipe: RecipeLike, *, overrides: Sequence[str] = (), observe: Observe = silent
) -> Summary:
    """Return the layers of the network that a recipe builds for its data.

    Raises:
        ModelwrightError: the recipe or the data can't be used.
    """
    require("torch", extra="train", purpose="to build a network")
    request = read_request(recipe, overrides=overrides)
    with tempfile.TemporaryDirectory(prefix="modelwright-layers-") as aside:
        context = run_in(request, Path(aside), observe=observe)
        prepared = data.prepare(
            request.recipe, base=request.base, like=settled_input(request), observe=observe
        )
        return _summary(initialize_model(request, prepared, context), prepared)


def _sample_bytes(prepared: Prepared) -> int:
    """Return the bytes of one sample as it is kept for training, on average."""
    inputs = prepared.inputs
    if isinstance(inputs, np.ndarray):
        return int(inputs[:1].nbytes)
    return int(inputs.lengths.mean() * inputs.item_bytes) + 1


def _summary(candidate: Candidate, prepared: Prepared) -> Summary:
    """Describe a network for one sample; of texts and recordings, for one of about median length."""
    from modelwright.models import summarise, summarise_sample

    if isinstance(prepared.input, ImageInput):
        shape = prepared.input
        return summarise(
            candidate.network, channels=shape.channels, height=shape.height, width=shape.width
        )
    assert not isinstance(prepared.inputs, np.ndarray)
    lengths = prepared.inputs.lengths
    middle = np.array([int(np.argsort(lengths)[len(lengths) // 2])])
    return summarise_sample(candidate.network, prepared.inputs[middle])


@dataclass(frozen=True, slots=True)
class NewResult:
    """A recipe written for some data."""

    path: Path
    findings: tuple[Finding, ...]
    text: str
    command: str
    """What to type next."""


_HEAD = """\
# Written by `modelwright new` from what it saw in the data: {seen}.
# `modelwright config {name}` shows every other setting with its default.
version: 1
"""
"""How every recipe that `new` writes begins."""
_NEW = (
    _HEAD
    + """\
data:
{data}
transforms:
  size: {size}  # pixels fed to the network; larger sees more and takes longer
augment:
  flip: {flip}  # `random` mirrors images; `none`, if that changes what they show (text, say)
  translate: {translate}  # pixels
model:
{model}
train:
  epochs: {epochs}  # passes over the training images, at most
  budget: 10m  # wall-clock time of training, at most; the schedule ends by then
  batch_size: {batch_size}
  optimizer: {{name: adamw, lr: 0.002}}
  schedule: {{name: one-cycle}}
  loss: {{name: cross-entropy, label_smoothing: 0.1{balance}}}
# What must be reached; the run says for each whether it is met and whether that is proven.
targets:
  accuracy: ">= {target}"
"""
)
_NEW_OTHER = (
    _HEAD
    + """\
task: {task}
data:
{data}
{input}
model: auto  # or one that `modelwright config` lists
train:
  epochs: {epochs}  # passes over the training {noun}s, at most
  budget: 10m  # wall-clock time of training, at most; the schedule ends by then
  batch_size: {batch_size}
  optimizer: {{name: adamw, lr: {lr}}}
  schedule: {{name: one-cycle}}
  loss: {{name: cross-entropy, label_smoothing: 0.1{balance}}}
# What must be reached; the run says for each whether it is met and whether that is proven.
targets:
  accuracy: ">= {target}"
"""
)
_NEW_LABEL_SETS = (
    _HEAD
    + """\
task: text-classification
data:
{data}
{input}
model: auto  # or one that `modelwright config` lists
train:
  epochs: {epochs}  # passes over the training texts, at most
  budget: 10m  # wall-clock time of training, at most; the schedule ends by then
  batch_size: {batch_size}
  optimizer: {{name: adamw, lr: 0.01}}
  schedule: {{name: one-cycle}}
# What must be reached; the run says for each whether it is met and whether that is proven.
targets:
  f1_macro: ">= 0.5"
"""
)
_NEW_NUMBERS = (
    _HEAD
    + """\
task: regression
data:
{data}
{input}
model: auto  # or one that `modelwright config` lists
train:
  epochs: {epochs}  # passes over the training {noun}s, at most
  budget: 10m  # wall-clock time of training, at most; the schedule ends by then
  batch_size: {batch_size}
  optimizer: {{name: adamw, lr: 0.002}}
  schedule: {{name: one-cycle}}
# What must be reached; the run says for each whether it is met and whether that is proven.
targets:
  r2: ">= 0.5"
"""
)
_NEW_WRITTEN = (
    _HEAD
    + """\
task: {task}
data:
{data}
{more}
model: auto  # or one that `modelwright config` lists
train:
  epochs: {epochs}  # passes over the training texts, at most
  budget: 20m  # wall-clock time of training, at most; the schedule ends by then
  batch_size: {batch_size}
  clip_norm: 1.0  # keeps a single odd batch from undoing much
  optimizer: {{name: adamw, lr: {lr}}}
  schedule: {{name: one-cycle}}
# What must be reached; the run says for each whether it is met and whether that is proven.
targets:
{target}
"""
)
_NEW_WRITING: dict[str, tuple[str, float, dict[str, str]]] = {
    "next": (
        "text:\n  max_length: 256  # tokens that it sees at once",
        0.002,
        {"language-modeling": '  bits_per_byte: "<= 2.5"'},
    ),
    "text": (
        "text:\n  max_length: 256  # tokens; of longer texts the end is cut off, and counted",
        0.001,
        {"translation": '  chrf: ">= 40"', "summarization": '  rouge_l: ">= 0.2"'},
    ),
}
"""What the recipe of a task that writes texts says: input, rate, target."""
_NEW_BOXES = (
    _HEAD
    + """\
task: object-detection
data:
{data}
transforms:
  size: {size}  # pixels fed to the network; more see smaller things and take longer
  resize: letterbox  # keeps all of an image that isn't square
augment:
  flip: random  # mirrors images; `none`, if that changes what they show (text, say)
  crop: {{scale: [0.4, 1.0]}}  # a part of the image, with the boxes in it
model: auto  # or `detector` with settings that `modelwright config` lists
train:
  epochs: {epochs}  # passes over the training images, at most
  budget: 20m  # wall-clock time of training, at most; the schedule ends by then
  batch_size: 16
  clip_norm: 5.0  # keeps a single odd batch from undoing much
  optimizer: {{name: adamw, lr: 0.002}}
  schedule: {{name: one-cycle}}
# What must be reached; the run says for each whether it is met and whether that is proven.
targets:
  map50: ">= 0.5"
"""
)
_BOXED_SIDES = (32, 160)
"""The smallest and the largest side that `new` writes for images with boxes."""
_NEW_HEARD = (
    _HEAD
    + """\
task: speech-recognition
data:
{data}
{input}
model: auto  # or `conv-ctc` and `rnn-ctc` with settings that `modelwright config` lists
train:
  epochs: {epochs}  # passes over the training recordings, at most
  budget: 10m  # wall-clock time of training, at most; the schedule ends by then
  batch_size: {batch_size}
  optimizer: {{name: adamw, lr: 0.002}}
  schedule: {{name: one-cycle}}
# What must be reached; the run says for each whether it is met and whether that is proven.
targets:
  wer: "<= 0.5"
"""
)
_INPUTS = {
    "text": """\
text:
  tokenizer: word  # `bpe` or `character` for languages without blanks
  max_length: 512  # tokens; of longer texts the end is cut off, and counted""",
    "audio": """\
audio:
  max_seconds: 30.0  # seconds; of longer recordings the end is cut off, and counted""",
}
_TASKS = {
    "image": "image-classification",
    "text": "text-classification",
    "audio": "audio-classification",
}
_SIDES = ("height", "width")
_SPEEDNET_SIDE = 24
"""Below this side the third pooling of a speednet leaves too little."""


def new(
    source: Path | str, *, out: Path = Path("recipe.yaml"), observe: Observe = silent
) -> NewResult:
    """Look at data and write a commented recipe for it.

    Args:
        source: a folder of class folders, a table, or the name of data that is known: `digits`,
            `cifar10`.
        out: where the recipe goes.
        observe: called with progress.

    Raises:
        RequestError: there is a file at `out` already.
        DataError: the data can't be used.
    """
    out = Path(out)
    if out.is_dir():
        out = out / "recipe.yaml"
    if out.exists():
        raise RequestError(
            "this file exists already", where=str(out), fix="Name another one with --out FILE"
        )
    if not out.parent.is_dir():
        raise RequestError("there is no such folder to write into", where=str(out.parent))
    described, task = _describe(source, out)
    bare = parse_recipe(f"version: 1\ntask: {task}\ndata:\n{described}", where=str(source))
    request = RunRequest(bare, base=out.resolve().parent)
    lenient = bare.model_copy(update={"data": bare.data.model_copy(update={"allow_leaks": True})})
    prepared = data.prepare(lenient, base=request.base, observe=observe)
    text = _fill(prepared, described, task, out)
    parse_recipe(text, where=str(out))  # What is written must be readable.
    write_bytes(out, text.encode())
    command = f"modelwright run {shlex.quote(str(out))}"
    return NewResult(out, data.as_errors(tuple(prepared.report.findings)), text, command)


def _describe(source: Path | str, out: Path) -> tuple[str, str]:
    """Return the section `data` for a folder, a table, a file or a name; and the task."""
    path = Path(source)
    if str(source) in ("digits", "cifar10") and not path.exists():
        return f"  source: {source}", _TASKS["image"]
    quoted = json.dumps(
        os.path.relpath(os.path.realpath(path), out.resolve().parent), ensure_ascii=False
    )
    if data.is_table(path) or data.is_table_folder(path):
        boxed = data.guess_boxes(path)
        if boxed is not None:
            return _boxes(quoted, boxed), "object-detection"
        kind, columns = data.guess_table(path)
        task = "regression" if "numbers" in columns else _TASKS[kind]
        written = recognising.written_column(data.columns_of(path), columns.get(kind, kind))
        listed = recognising.listed_column(path, columns) if kind == "text" else None
        if listed is not None:
            columns, task = listed, _TASKS["text"]
        elif kind == "text" and written is not None and "numbers" not in columns:
            columns["label"], task = written
        _require_columns(path, kind, columns)
        if kind == "audio" and "numbers" not in columns and data.holds_transcripts(path, columns):
            task = "speech-recognition"
        lines = ["  source: table", f"  path: {quoted}"]
        lines += [f"  {key}: {json.dumps(name)}" for key, name in columns.items()]
        return "\n".join(lines), task
    if data.has_boxes(path):
        return _boxes(quoted, {}), "object-detection"
    if path.is_file() and path.suffix.lower() == ".json":
        raise data.no_table(path)
    if path.suffix.lower() == ".npz":
        return f"  source: arrays\n  path: {quoted}", _TASKS["image"]
    if path.is_file():
        return recognising.text_file(path, json.loads(quoted))
    if path.is_dir() and data.has_transcripts(path):
        return f"  source: folder\n  path: {quoted}", "speech-recognition"
    if path.is_dir() and recognising.text_folder(path):
        return f"  source: documents\n  path: {quoted}", "language-modeling"
    kind = data.likely_kind(path) if path.is_dir() else "image"
    return f"  source: folder\n  path: {quoted}", _TASKS[kind]


def _require_columns(path: Path, kind: str, columns: Mapping[str, Any]) -> None:
    """Refuse a table of which it can't be told which columns are meant.

    Raises:
        DataError: no column is called like one of inputs, or like one of what is wanted.
    """
    names = data.columns_of(path)
    given, wanted = columns.get(kind, kind), columns.get("label", "label")
    if not names:
        raise DataError("this table is empty", where=str(path), fix="Look at it")
    if given in names and ("numbers" in columns or wanted in names):
        return
    what, rename = "images, texts or recordings", "Call that column `image`, `text` or `audio`"
    if given in names:
        what, rename = (
            "what is wanted: labels or numbers",
            "Call that column `label` or, of numbers, `target`",
        )
    example = f"{{source: table, path: {path.name}, {kind}: …, label: …}}"
    raise DataError(
        f"can't tell which column holds {what}",
        where=str(path),
        why=f"Its columns are {', '.join(f'`{name}`' for name in names)}",
        fix=f"{rename}, or write a recipe that says which columns are meant, as in "
        f"`data: {example}`",
    )


def _boxes(quoted: str, columns: Mapping[str, str]) -> str:
    lines = ["  source: boxes", f"  path: {quoted}"]
    return "\n".join([*lines, *(f"  {key}: {json.dumps(name)}" for key, name in columns.items())])


def _fill(prepared: Prepared, described: str, task: str, out: Path) -> str:
    counts = {name: sum(of_class) for name, of_class in prepared.counts.items()}
    train, classes = counts["train"], len(prepared.labels)
    sizes = [n for n in prepared.counts["train"] if n] if prepared.has_classes else []
    uneven = bool(sizes) and max(sizes) > 3 * min(sizes)
    common = {
        "name": out.name,
        "data": described,
        "epochs": max(10, min(200, 200_000 // max(train, 1))),
        "batch_size": min(256, max(8, 2 ** ((train // 20).bit_length() - 1))) if train >= 20 else 8,
        "balance": ", class_weights: balanced" if uneven else "",
        "target": round(min(max(2 / classes, 0.5), 0.8) if classes > 1 else 0.5, 2),
    }
    kind = prepared.store.kind
    total = f"{sum(counts.values()):,} {kind}s"
    if prepared.kind in _NEW_WRITING:
        more, lr, target = _NEW_WRITING[prepared.kind]
        return _NEW_WRITTEN.format(
            seen=total, task=task, more=more, lr=lr, **common | {"target": target.get(task, "")}
        )
    if prepared.kind == "letters":
        seen = f"{total} with their texts, in {classes:,} letters and signs"
        return _NEW_HEARD.format(seen=seen, input=_INPUTS[kind], **common)
    if prepared.kind == "boxes":
        sides = [prepared.store.numbers(side)[prepared.rows["train"]] for side in _SIDES]
        side = int(np.clip(np.median(sides), *_BOXED_SIDES))
        seen = f"{total}, boxes of {classes:,} classes"
        return _NEW_BOXES.format(seen=seen, size=side, **common)
    if prepared.kind == "labels":
        seen = f"{total} with any number of {classes:,} labels"
        return _NEW_LABEL_SETS.format(seen=seen, input=_INPUTS[kind], **common)
    if not prepared.has_classes:
        text = f"transforms: {{size: {_size(prepared)}}}" if kind == "image" else _INPUTS[kind]
        return _NEW_NUMBERS.format(
            seen=f"{total}, {', '.join(prepared.labels)}", noun=kind, input=text, **common
        )
    seen = f"{total}, {classes:,} classes"
    if kind != "image":
        lr = 0.01 if kind == "text" else 0.002
        return _NEW_OTHER.format(
            seen=seen, noun=kind, task=_TASKS[kind], input=_INPUTS[kind], lr=lr, **common
        )
    side = min(prepared.image.height, prepared.image.width)
    if side >= _SPEEDNET_SIDE:
        widths = "[64, 256, 256]" if train >= 20_000 else "[32, 64, 128]"
        model = f"  name: speednet\n  widths: {widths}"
    else:
        block = "{{filters: {}, convolutions: 2}}"
        model = f"  name: cnn\n  blocks: [{block.format(32)}, {block.format(64)}]"
    return _NEW.format(
        seen=seen,
        size=_size(prepared),
        flip="none" if prepared.image.channels == 1 else "random",
        translate=max(side // 16, 1),
        model=model,
        **common,
    )


def _size(prepared: Prepared) -> str:
    height, width = prepared.image.height, prepared.image.width
    return f"{height}" if height == width else f"[{height}, {width}]"
