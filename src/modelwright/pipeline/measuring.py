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
from modelwright.evaluation import Measurement, Place, Scored, TestSetAccess, headline
from modelwright.kinds import InputKind, OutputKind
from modelwright.ledger import Evidence, Ledger
from modelwright.pipeline.request import usable_cores
from modelwright.recipe import parse_recipe
from modelwright.recipe.data import DataSpec
from modelwright.recipe.inference import ThresholdSpec
from modelwright.run import Observe, Progress, Run, RunRequest, silent
from modelwright.scaffold import guess_columns

PROMPT = 100
"""Characters of a text from which a language model is timed writing on."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured in a run, and where."""

    measurement: Measurement | Scored
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
    measure = _measure_classes if prepared.has_classes else _measure_scores
    found = measure(model, samples, fingerprint, place, request, prepared, context)
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
    return Measured(found, samples, place, opened)


def _measure_classes(
    model: modelfile.Model,
    samples: Split,
    fingerprint: str,
    place: Place,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
) -> Measurement:
    found = evaluation.measure(
        model,
        samples,
        fingerprint=fingerprint,
        place=place,
        near_duplicates=_near_duplicates(prepared, samples),
        observe=context.observe,
    )
    context.ledger.extend(found.evidence)
    context.ledger.extend(_at_threshold(model, samples, fingerprint, place, request, prepared))
    if request.recipe.evaluate.baselines:
        context.ledger.extend(
            evaluation.measure_baselines(
                prepared.dataset().train,
                samples,
                fingerprint=fingerprint,
                kind=prepared.input_kind,
                against=found,
                observe=context.observe,
            )
        )
    return found


def _at_threshold(
    model: modelfile.Model,
    samples: Split,
    fingerprint: str,
    place: Place,
    request: RunRequest,
    prepared: Prepared,
) -> list[Evidence]:
    """Choose the threshold that the recipe asks for, if it does, and measure it on the samples."""
    wanted = request.recipe.inference.threshold
    if wanted is None:
        return []
    validation = prepared.dataset().validation
    assert validation is not None  # `require_held_out` has seen to it before training.
    chosen = evaluation.choose_threshold(
        model,
        validation,
        label=wanted.label,
        at_least=wanted.min_recall,
        fingerprint=prepared.fingerprint("validation"),
    )
    measured = evaluation.measure_threshold(
        model, samples, chosen, fingerprint=fingerprint, place=place
    )
    return [chosen, *measured]


def _measure_scores(
    model: modelfile.Model,
    samples: Split,
    fingerprint: str,
    place: Place,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
) -> Scored:
    task = model.scoring
    found = evaluation.measure_scores(
        model,
        samples,
        task,
        fingerprint=fingerprint,
        place=place,
        near_duplicates=_near_duplicates(prepared, samples),
        observe=context.observe,
    )
    context.ledger.extend([*found.evidence, *evaluation.sizes(model)])
    wants_baselines, train = request.recipe.evaluate.baselines, prepared.dataset().train
    if task.judge is not None:
        evidence, answers = evaluation.measure_texts(
            model,
            samples,
            task,
            fingerprint=fingerprint,
            place=place,
            baseline=wants_baselines,
            observe=context.observe,
        )
        context.ledger.extend(evidence)
        return replace(found, answers=answers)
    if wants_baselines and prepared.output_kind == OutputKind.REGRESSION:
        context.ledger.extend(
            evaluation.mean_numbers(train, samples, task, fingerprint=fingerprint)
        )
    if wants_baselines and prepared.output_kind == OutputKind.MULTI_LABEL:
        context.ledger.extend(
            evaluation.label_set_baselines(
                train,
                samples,
                task,
                prepared.labels,
                fingerprint=fingerprint,
                observe=context.observe,
            )
        )
    if wants_baselines and prepared.output_kind == OutputKind.BOXES:
        context.ledger.extend(
            evaluation.average_boxes(train, samples, task, prepared.labels, fingerprint=fingerprint)
        )
    if wants_baselines and prepared.output_kind == OutputKind.CAUSAL_LM:
        context.ledger.extend(
            evaluation.frequent_tokens(
                train, samples, task, prepared.num_outputs, fingerprint=fingerprint
            )
        )
    return found


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
                "the threshold of `inference.threshold` is chosen on a validation split, and there is "
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
        target=loaded.scoring.target,
        guess=guess_columns,
    )
    opened = evaluation.record_access(fingerprint, run=f"evaluate {model}", model=loaded.digest)
    for note in opened.notes:
        observe(Progress("note", 0, 0, note=note))
    threads = usable_cores()
    place = Place(evaluation.hardware(), evaluation.runtime(threads=threads), threads)
    found: Measurement | Scored
    if loaded.spec.output_kind != OutputKind.SINGLE_LABEL:
        task = loaded.scoring
        found = evaluation.measure_scores(
            loaded, samples, task, fingerprint=fingerprint, place=place, observe=observe
        )
        if task.judge is not None:
            more, _ = evaluation.measure_texts(
                loaded,
                samples,
                task,
                fingerprint=fingerprint,
                place=place,
                baseline=False,
                observe=observe,
            )
            found = replace(found, evidence=(*found.evidence, *more))
    else:
        found = evaluation.measure(
            loaded, samples, fingerprint=fingerprint, place=place, observe=observe
        )
        chosen = evaluation.chosen_threshold(loaded.ledger)
        if chosen is not None:
            more = evaluation.measure_threshold(
                loaded, samples, chosen, fingerprint=fingerprint, place=place
            )
            found = replace(found, evidence=(*found.evidence, *more))
    return {"metrics": headline(Ledger(found.evidence))}
