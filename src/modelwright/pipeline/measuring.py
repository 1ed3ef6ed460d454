"""Measuring a model file: on the recipe's test split in a run, or later on other data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from modelwright import data, evaluation, modelfile
from modelwright.arrays import Array
from modelwright.data import Prepared, Split
from modelwright.data.frames import keep_frame
from modelwright.errors import DataError, RecipeError, RequestError
from modelwright.evaluation import Measurement, Place, TestSetAccess, headline
from modelwright.files import JsonObject
from modelwright.kinds import CLASSIFICATION, InputKind, OutputKind
from modelwright.ledger import Evidence, Ledger
from modelwright.pipeline.result import RunResult
from modelwright.recipe import parse_recipe
from modelwright.recipe.data import DataSpec
from modelwright.recipe.inference import ThresholdSpec
from modelwright.recipe.preparation import AudioSpec
from modelwright.run import Observe, Progress, Run, RunRequest, silent, usable_cores
from modelwright.scaffold import guess_columns
from modelwright.tasks import Task
from modelwright.tasks.inference import Threshold

SIMPLE_METHODS = {"tfidf": "words", "hog": "hog", "logmel": "spectrum"}
"""The simple method that a linear model of some features is."""
PROMPT = 100
"""Characters of a text from which a language model is timed writing on."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurement of a run, and the machine that it was made on."""

    measurement: Measurement
    samples: Split
    place: Place
    test_accesses: TestSetAccess | None
    """How often the test set was opened; `None` where there is no test set."""


def measure_file(path: Path, request: RunRequest, prepared: Prepared, context: Run) -> Measured:
    """Measure a packed file on the test split, beside its baselines, and put it in the ledger.

    Without a test split the validation split takes its place, and the evidence says so.
    """
    calibrate(path, request, prepared, context)
    model = modelfile.load(path, threads=context.threads)
    place = Place.here(context.threads)
    samples, fingerprint, opened = _held_out(prepared, context, model.digest)
    # Windows of texts aren't compared with those of other splits.
    is_compared = samples.name == "test" and prepared.targets.windows is None
    measurement = evaluation.measure(
        model,
        samples,
        model.scoring,
        fingerprint=fingerprint,
        place=place,
        near_duplicates=prepared.report.near_test_rows if is_compared else None,
        observe=context.observe,
    )
    context.ledger.extend(measurement.evidence)
    context.ledger.extend(evaluation.measure_threshold(model, samples, fingerprint, place))
    if request.recipe.evaluate.baselines:
        problem = simple_problem(
            prepared,
            samples,
            task=model.scoring,
            audio=request.recipe.audio,
            is_method=_simple_method(model),
        )
        context.ledger.extend(
            evaluation.measure_baselines(
                problem, measurement, fingerprint=fingerprint, observe=context.observe
            )
        )
    if request.recipe.evaluate.latency:
        context.ledger.extend(
            evaluation.measure_latency(
                model.predict,
                questions(range(min(evaluation.BATCH, len(samples))), samples, prepared),
                place=place,
                model=model.digest,
                observe=context.observe,
            )
        )
    return Measured(measurement, samples, place, opened)


def simple_problem(
    prepared: Prepared, samples: Split, *, task: Task, audio: AudioSpec, is_method: str = ""
) -> evaluation.Problem:
    """Return the data as simple methods are fitted to it, and measured on some samples of it.

    `is_method` names the simple method that the measured model is, if it is one.
    """
    from modelwright.models.linear import simple_features

    return evaluation.Problem(
        task=task,
        input_kind=prepared.input_kind,
        train=prepared.dataset().train,
        samples=samples,
        labels=prepared.labels,
        num_outputs=prepared.num_outputs,
        texts=lambda rows: originals(rows.tolist(), prepared),
        features=simple_features(prepared.input, audio),
        is_method=is_method,
    )


def _simple_method(model: modelfile.Model) -> str:
    """Return the simple method that a model is; empty where it is none."""
    architecture = model.spec.architecture
    # With test-time augmentation it is more than that.
    is_linear = architecture.get("name") == "linear" and model.inference.tta == "none"
    return SIMPLE_METHODS.get(architecture["features"], "") if is_linear else ""


def calibrate(path: Path, request: RunRequest, prepared: Prepared, context: Run) -> None:
    """Fit the temperature on the validation split, then choose the decision threshold, if any."""
    asked, validation = request.recipe.inference, prepared.dataset().validation
    if validation is None:
        return
    is_calibrated = asked.calibration != "none" and prepared.output_kind in CLASSIFICATION
    known = modelfile.load(path).inference
    if known.temperature or known.threshold:  # A file that was calibrated before.
        modelfile.with_inference(path, replace(known, temperature=(), threshold=None))
    made: list[Callable[..., Evidence]] = []
    if is_calibrated:
        model = modelfile.load(path, threads=context.threads)
        temperature, method = evaluation.fit_temperature(model, validation)
        modelfile.with_inference(path, replace(model.inference, temperature=temperature))
        made.append(partial(evaluation.temperature_evidence, temperature, method=method))
    if asked.threshold is not None:
        model = modelfile.load(path, threads=context.threads)
        value, method = evaluation.choose_threshold(
            model, validation, label=asked.threshold.label, min_recall=asked.threshold.min_recall
        )
        threshold = Threshold(asked.threshold.label, value)
        modelfile.with_inference(path, replace(model.inference, threshold=threshold))
        made.append(partial(evaluation.threshold_evidence, threshold, method=method))
    digest, fingerprint = modelfile.digest(path), prepared.fingerprint("validation")
    context.ledger.extend([make(model=digest, fingerprint=fingerprint) for make in made])


def data_spec(model: modelfile.Model) -> DataSpec | None:
    """Return the section `data` of a model file's recipe, where this version can read it."""
    try:
        return parse_recipe(model.recipe, where="the model file's recipe").data
    except RecipeError:
        return None  # A file that was written without one, or by a later version.


def questions(positions: Sequence[int], samples: Split, prepared: Prepared) -> Array | list[Any]:
    """Return samples as `predict` takes them: decoded pixels, texts, or recordings.

    A language model is asked to go on with the beginnings of its texts.
    """
    if prepared.input_kind == InputKind.TEXT:
        rows = prepared.rows[samples.name]  # A text may give several samples.
        texts = originals([int(rows[at % len(rows)]) for at in positions], prepared)
        is_prompt = prepared.output_kind == OutputKind.CAUSAL_LM
        return [text[:PROMPT] for text in texts] if is_prompt else texts
    inputs = samples.gather(np.array(positions, dtype=np.int64))
    if prepared.input_kind == InputKind.IMAGE:
        return inputs
    return [item["samples"][: item["length"]] for item in inputs]


def originals(rows: Sequence[int], prepared: Prepared) -> list[str]:
    """Return the texts in some rows of the store."""
    return [prepared.store.original(row).decode() for row in rows]


def require_held_out(prepared: Prepared, threshold: ThresholdSpec | None) -> None:
    """Check that there are samples to measure on, and to choose a threshold on.

    Raises:
        DataError: there is neither a test nor a validation split; a threshold lacks its class or a
            validation split; or a split has no box.
    """
    if threshold is not None:
        evaluation.require_class(threshold.label, prepared.labels)
        if prepared.dataset().validation is None:
            raise DataError(
                "the threshold of `inference.threshold` is chosen on a validation split, and "
                "there is none",
                where="data.split",
                fix="Give `data.split.val` a share above 0",
            )
    if prepared.test() is None and prepared.dataset().validation is None:
        raise DataError(
            "there is neither a test nor a validation split to measure on",
            where="data.split",
            fix="Give `data.split.test` or `data.split.val` a share above 0; each class needs "
            "samples enough for every split",
        )
    for split in (prepared.dataset().validation, prepared.test()):
        has_boxes = prepared.output_kind == OutputKind.BOXES
        if has_boxes and split is not None and not (split.targets[:]["labels"] >= 0).any():
            raise DataError(
                f"no image of the {split.name} split has a box, so nothing can be measured on it",
                where="data.split",
                fix="Raise its share, or give it images with boxes",
            )


def _held_out(
    prepared: Prepared, context: Run, model_digest: str
) -> tuple[Split, str, TestSetAccess | None]:
    """Return the samples to measure on, their fingerprint, and the looks at a test split."""
    test = prepared.test()
    if test is not None:
        opened = evaluation.record_access(
            prepared.digests("test"),
            run=str(context.folder),
            model=model_digest,
            trained=prepared.digests("train"),
        )
        for note in opened.notes:
            context.say(note)
        return test, prepared.fingerprint("test"), opened
    validation = prepared.dataset().validation
    assert validation is not None  # `require_held_out` has seen to it before training.
    context.say("There is no test split: all figures come from the validation split")
    return validation, prepared.fingerprint("validation"), None


def _file_of(model: Path | str | modelfile.Model | RunResult) -> Path:
    """Return the file of a model, beside which the folder of its run may stand."""
    if isinstance(model, RunResult):
        return model.model
    if not isinstance(model, modelfile.Model):
        return Path(model)
    if model.path is None:
        raise RequestError(
            "a model that was loaded from bytes or a stream can't be measured again",
            fix="Give the path of its file",
        )
    return model.path


def evaluate(
    model: Path | str | modelfile.Model | RunResult,
    source: object = None,
    *,
    sandbox: bool = False,
    observe: Observe = silent,
) -> JsonObject:
    """Measure a model file on labelled data, or return what its own ledger holds.

    The model is a path, what `load` returned for one, or the result of a run.

    The data is a folder of class folders, a table, a DataFrame, or a name such as `cifar10`;
    without it the figures are those that were measured when the file was made. Of a table with the
    column of splits that the model was made with, the test rows are measured. Each call counts as
    an access to the test set. With `sandbox`, the model runs in a process of its own, with limits.

    Samples that the run has trained on, or chosen the model by, are no test: their number is said
    and returned. They are known by the folder of the run, where the file stands in it, or else by
    the file's own digests of its splits, which tell whole splits alone.

    Returns:
        `{"metrics": {NAME: {"value", "low", "high", "n"}}}`, and for data `"is_test"` and `"seen"`:
        how many samples were `train` and `validation`, `of` how many, or `None` where it can't be
        told.

    Raises:
        ModelwrightError: the file or the data can't be used.
    """
    path = _file_of(model)
    loaded = modelfile.load(path, sandbox=sandbox)
    if source is None:
        return {"metrics": headline(loaded.ledger)}
    if not isinstance(source, str | os.PathLike):
        source = keep_frame(source).path
    samples, fingerprint, overlap, digests = data.labelled_split(
        Path(source),
        input=loaded.input,
        labels=loaded.labels,
        observe=observe,
        like=data_spec(loaded),
        output_kind=loaded.spec.output_kind,
        guess=guess_columns,
        known=data.run_splits(path, modelfile.data_card(path)),
    )
    assert overlap is not None  # As `known` is given.
    if not overlap:
        opened = evaluation.record_access(digests, run=f"evaluate {path}", model=loaded.digest)
        for note in opened.notes:
            observe(Progress("note", 0, 0, note=note))
    place = Place.here(usable_cores())
    measurement = evaluation.measure(
        loaded, samples, loaded.scoring, fingerprint=fingerprint, place=place, observe=observe
    )
    ledger = Ledger(measurement.evidence)
    ledger.extend(evaluation.measure_threshold(loaded, samples, fingerprint, place))
    return {"metrics": headline(ledger), "is_test": not overlap, "seen": overlap.to_json()}
