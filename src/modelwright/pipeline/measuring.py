"""Measuring a model file: on the recipe's test split in a run, or later on other data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright import data, evaluation, modelfile
from modelwright.data import Prepared, Split
from modelwright.errors import DataError, RecipeError
from modelwright.evaluation import Measurement, Place, TestSetAccess, headline
from modelwright.ledger import Evidence, Ledger
from modelwright.pipeline.request import RunRequest
from modelwright.recipe import parse_recipe
from modelwright.recipe.data import DataSpec
from modelwright.recipe.evaluate import RecallSpec
from modelwright.run import Observe, Progress, Run, silent, usable_cores
from modelwright.tasks import Task

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
    context.ledger.extend(_at_threshold(model, samples, fingerprint, place, request, prepared))
    if request.recipe.evaluate.baselines:
        context.ledger.extend(
            evaluation.measure_baselines(
                _problem(model.scoring, samples, prepared),
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


def _problem(task: Task, samples: Split, prepared: Prepared) -> evaluation.Problem:
    """Return what baselines learn from and are asked."""
    return evaluation.Problem(
        task=task,
        input_kind=prepared.store.kind,
        train=prepared.dataset().train,
        samples=samples,
        labels=prepared.labels,
        num_outputs=prepared.num_outputs,
        texts=lambda rows: [prepared.store.original(row).decode() for row in rows.tolist()],
    )


def _at_threshold(
    model: modelfile.Model,
    samples: Split,
    fingerprint: str,
    place: Place,
    request: RunRequest,
    prepared: Prepared,
) -> list[Evidence]:
    """Choose the threshold that the recipe asks for, if it does, and measure it on the samples."""
    wanted = request.recipe.evaluate.recall
    if wanted is None:
        return []
    validation = prepared.dataset().validation
    assert validation is not None  # `require_held_out` has seen to it before training.
    chosen = evaluation.choose_threshold(
        model,
        validation,
        label=wanted.label,
        at_least=wanted.at_least,
        fingerprint=prepared.fingerprint("validation"),
    )
    measured = evaluation.measure_threshold(
        model, samples, chosen, fingerprint=fingerprint, place=place
    )
    return [chosen, *measured]


def _near_duplicates(prepared: Prepared, samples: Split) -> NDArray[np.int64] | None:
    """Return the rows of a test split that resemble one of another; of stretches of texts none."""
    is_tested = samples.name == "test" and prepared.windows is None
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
    if prepared.kind == "next":
        return [prepared.store.original(row).decode()[:PROMPT] for row in rows]
    match prepared.store.kind:
        case "image":
            return samples.gather(slice(0, evaluation.BATCH))
        case "text":
            return [prepared.store.original(row).decode() for row in rows]
        case "audio":
            held = samples.gather(slice(0, evaluation.BATCH))
            return [item["samples"][: item["length"]] for item in held]


def require_held_out(prepared: Prepared, recall: RecallSpec | None) -> None:
    """Refuse data of which nothing is left to measure on, or to choose a threshold by.

    Raises:
        DataError: there is neither a test nor a validation split, or no validation split for a
            threshold, or not the class that it is wanted for; or a split without a box.
    """
    if recall is not None:
        evaluation.require_class(recall.label, prepared.labels)
        if prepared.dataset().validation is None:
            raise DataError(
                "the threshold of `evaluate.recall` is chosen on a validation split, and there is "
                "none",
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
    if prepared.kind == "boxes":
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
        target=loaded.scoring.target,
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
    chosen = evaluation.chosen_threshold(loaded.ledger)
    if chosen is not None:
        ledger.extend(
            evaluation.measure_threshold(
                loaded, samples, chosen, fingerprint=fingerprint, place=place
            )
        )
    return {"metrics": headline(ledger)}
