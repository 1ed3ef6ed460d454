"""Measuring a model file: on the recipe's test split in a run, or later on other data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright import data, evaluation, modelfile
from modelwright.data import Prepared, Split
from modelwright.errors import DataError, RecipeError
from modelwright.evaluation import Measurement, Place, TestSetAccess, headline
from modelwright.kinds import InputKind, OutputKind
from modelwright.ledger import Ledger
from modelwright.recipe import parse_recipe
from modelwright.recipe.data import AudioSpec, DataSpec
from modelwright.recipe.inference import ThresholdSpec
from modelwright.run import Observe, Progress, Run, RunRequest, silent, usable_cores
from modelwright.scaffold import guess_columns
from modelwright.tasks.inference import Threshold

SIMPLE_METHODS = {"tfidf": "words", "hog": "hog", "logmel": "spectrum"}
"""The simple method that a linear model of some features is."""
PROMPT = 100
"""Characters of a text from which a language model is timed writing on."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured in a run, and where."""

    measurement: Measurement
    samples: Split
    place: Place
    test_accesses: TestSetAccess | None
    """How often the test set was opened; `None` where there is no test set."""


def measure_file(path: Path, request: RunRequest, prepared: Prepared, context: Run) -> Measured:
    """Measure a packed file on the test split, beside its baselines, and put it in the ledger.

    Without a test split the validation split takes its place, and the evidence says so.
    """
    set_threshold(path, request, prepared, context)
    model = modelfile.load(path, threads=context.threads)
    place = Place(
        evaluation.hardware(), evaluation.runtime(threads=context.threads), context.threads
    )
    samples, fingerprint, opened = _held_out(prepared, context, model.digest)
    measurement = evaluation.measure(
        model,
        samples,
        model.scoring,
        fingerprint=fingerprint,
        place=place,
        near_duplicates=_near_duplicates(prepared, samples),
        observe=context.observe,
    )
    context.ledger.extend(measurement.evidence)
    context.ledger.extend(evaluation.measure_threshold(model, samples, fingerprint, place))
    if request.recipe.evaluate.baselines:
        context.ledger.extend(
            evaluation.measure_baselines(
                _problem(model, samples, prepared, request.recipe.audio),
                measurement,
                fingerprint=fingerprint,
                observe=context.observe,
            )
        )
    if request.recipe.evaluate.latency:
        context.ledger.extend(
            evaluation.measure_latency(
                model.predict,
                _as_asked(prepared, samples),
                place=place,
                model=model.digest,
                observe=context.observe,
            )
        )
    return Measured(measurement, samples, place, opened)


def _problem(
    model: modelfile.Model, samples: Split, prepared: Prepared, audio: AudioSpec
) -> evaluation.Problem:
    """Return what baselines learn from and are asked."""
    from modelwright.models.linear import simple_features

    architecture = model.spec.architecture
    # With test-time augmentation it is no longer the simple method alone.
    is_linear = architecture.get("name") == "linear" and model.inference.tta == "none"
    return evaluation.Problem(
        task=model.scoring,
        input_kind=prepared.input_kind,
        train=prepared.dataset().train,
        samples=samples,
        labels=prepared.labels,
        num_outputs=prepared.num_outputs,
        texts=lambda rows: [prepared.store.original(row).decode() for row in rows.tolist()],
        features=simple_features(prepared.input, audio),
        is_method=SIMPLE_METHODS.get(architecture["features"], "") if is_linear else "",
    )


def set_threshold(path: Path, request: RunRequest, prepared: Prepared, context: Run) -> None:
    """Choose the decision threshold that a recipe asks for, if it does, and put it into the file.

    It is chosen by what the packed file answers on the validation split.
    """
    spec, validation = request.recipe.inference.threshold, prepared.dataset().validation
    if spec is None:
        return
    assert validation is not None  # `require_held_out` has checked before training.
    model = modelfile.load(path, threads=context.threads)
    value, method = evaluation.choose_threshold(
        model, validation, label=spec.label, min_recall=spec.min_recall
    )
    threshold = Threshold(spec.label, value)
    modelfile.with_inference(path, replace(model.inference, threshold=threshold))
    context.ledger.extend(
        [
            evaluation.threshold_evidence(
                threshold,
                method=method,
                model=modelfile.digest(path),
                fingerprint=prepared.fingerprint("validation"),
            )
        ]
    )


def _near_duplicates(prepared: Prepared, samples: Split) -> NDArray[np.int64] | None:
    """Return the rows of a test split that resemble one of another; of stretches of texts none."""
    is_tested = samples.name == "test" and prepared.targets.windows is None
    return prepared.report.near_test_rows if is_tested else None


def _made_from(model: modelfile.Model) -> DataSpec | None:
    """Return the section `data` of a model file's recipe, where this version can read it."""
    try:
        return parse_recipe(model.recipe, where="the model file's recipe").data
    except RecipeError:
        return None  # A file that was written without one, or by a later version.


def _as_asked(prepared: Prepared, samples: Split) -> NDArray[Any] | Sequence[Any]:
    """Return some samples as a model is asked about them: decoded pixels, texts, or recordings."""
    rows = prepared.rows[samples.name][: evaluation.BATCH].tolist()
    if prepared.output_kind == OutputKind.CAUSAL_LM:
        return [prepared.store.original(row).decode()[:PROMPT] for row in rows]
    match prepared.input_kind:
        case InputKind.IMAGE:
            return samples.gather(slice(0, evaluation.BATCH))
        case InputKind.TEXT:
            return [prepared.store.original(row).decode() for row in rows]
        case InputKind.AUDIO:
            held = samples.gather(slice(0, evaluation.BATCH))
            return [item["samples"][: item["length"]] for item in held]


def require_held_out(prepared: Prepared, recall: ThresholdSpec | None) -> None:
    """Refuse data of which nothing is left to measure on, or to choose a threshold by.

    Raises:
        DataError: there is neither a test nor a validation split, or no validation split for a
            threshold, or not the class that it is wanted for; or a split without a box.
    """
    if recall is not None:
        evaluation.require_class(recall.label, prepared.labels)
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
    if prepared.output_kind == OutputKind.BOXES:
        _require_boxes(prepared)


def _require_boxes(prepared: Prepared) -> None:
    for split in (prepared.dataset().validation, prepared.test()):
        if split is not None and not (split.targets[:]["labels"] >= 0).any():
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
        fingerprint = prepared.fingerprint("test")
        opened = evaluation.record_access(fingerprint, run=str(context.folder), model=model_digest)
        for note in opened.notes:
            context.say(note)
        return test, fingerprint, opened
    validation = prepared.dataset().validation
    assert validation is not None  # `require_held_out` has seen to it before training.
    context.say("There is no test split: all figures come from the validation split")
    return validation, prepared.fingerprint("validation"), None


def evaluate(
    model: Path | str, source: Path | str | None = None, *, observe: Observe = silent
) -> dict[str, Any]:
    """Measure a model file on labelled data, or return what its own ledger holds.

    A look at a test set counts as one, whichever command it is that looks.

    Args:
        model: the model file.
        source: a folder of class folders, a table, or `cifar10`-like data; without it the figures
            that were measured when the file was made.
        observe: called with progress.

    Returns:
        `{"metrics": {NAME: {"value", "low", "high", "n"}}}`.

    Raises:
        ModelwrightError: the file or the data can't be used.
    """
    loaded = modelfile.load(Path(model))
    if source is None:
        return {"metrics": headline(loaded.ledger)}
    samples, fingerprint = data.labelled_split(
        Path(source),
        input=loaded.input,
        labels=loaded.labels,
        observe=observe,
        like=_made_from(loaded),
        output_kind=loaded.spec.output_kind,
        guess=guess_columns,
    )
    opened = evaluation.record_access(fingerprint, run=f"evaluate {model}", model=loaded.digest)
    for note in opened.notes:
        observe(Progress("note", 0, 0, note=note))
    threads = usable_cores()
    place = Place(evaluation.hardware(), evaluation.runtime(threads=threads), threads)
    measurement = evaluation.measure(
        loaded, samples, loaded.scoring, fingerprint=fingerprint, place=place, observe=observe
    )
    ledger = Ledger(measurement.evidence)
    ledger.extend(evaluation.measure_threshold(loaded, samples, fingerprint, place))
    return {"metrics": headline(ledger)}
