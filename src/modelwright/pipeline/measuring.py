"""Measuring a model file: on the recipe's test split in a run, or later on other data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelwright import data, evaluation, modelfile
from modelwright.data import Prepared, Split
from modelwright.errors import DataError
from modelwright.evaluation import Measurement, Place, headline
from modelwright.files import json_digest
from modelwright.ledger import Ledger
from modelwright.pipeline.asking import Asked, usable_cores
from modelwright.recipe import parse_recipe
from modelwright.run import Observe, Run, silent


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured in a run, and where."""

    measurement: Measurement
    samples: Split
    place: Place
    openings: int | None
    """How often the test set was opened, this time included; `None` where there is no test set."""


def measure_file(path: Path, asked: Asked, prepared: Prepared, context: Run) -> Measured:
    """Measure a packed file on the test split, beside its baselines, and put it in the ledger.

    Without a test split the validation split takes its place, and the evidence says so.
    """
    model = modelfile.load(path, threads=context.threads)
    place = _place(context.threads)
    samples = prepared.test()
    openings = None
    if samples is None:
        samples = prepared.dataset().validation
        if samples is None:
            raise DataError(
                "there is neither a test nor a validation split to measure on",
                fix="Give `data.split.test` or `data.split.val` a share above 0",
            )
        context.say("There is no test split: figures come from the validation split")
    elif samples.name == "test":
        openings = evaluation.open_test(prepared.fingerprint("test"), run=str(context.folder))
    found = evaluation.measure(
        model,
        samples,
        fingerprint=prepared.fingerprint(samples.name),
        place=place,
        near_duplicates=prepared.report.near_test_rows if samples.name == "test" else None,
        observe=context.observe,
    )
    context.ledger.extend(found.evidence)
    if asked.recipe.evaluate.baselines:
        context.ledger.extend(
            evaluation.measure_baselines(
                prepared.dataset().train, samples, fingerprint=prepared.fingerprint(samples.name)
            )
        )
    if asked.recipe.evaluate.latency:
        context.ledger.extend(_latency(model, samples, place, context.observe))
    return Measured(found, samples, place, openings)


def _latency(
    model: modelfile.Model, samples: Split, place: Place, observe: Observe
) -> list[evaluation.Evidence]:
    pixels = samples.gather(slice(0, evaluation.BATCH))
    return evaluation.measure_latency(
        model.predict, pixels, place=place, model=model.digest, observe=observe
    )


def _place(threads: int) -> Place:
    return Place(evaluation.hardware(), evaluation.runtime(threads=threads), threads)
