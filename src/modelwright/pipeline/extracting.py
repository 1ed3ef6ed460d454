"""Measuring how many questions it takes to copy a model file's model by asking it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from modelwright import modelfile
from modelwright.data import unlabelled_split
from modelwright.errors import RequestError
from modelwright.evaluation.extraction import (
    FEWEST_QUERIES,
    TOLERANCE,
    Attack,
    Protection,
    ask,
    copies,
)
from modelwright.files import JsonObject
from modelwright.kinds import OutputKind
from modelwright.pipeline.measuring import data_spec
from modelwright.recipe.preparation import AudioSpec
from modelwright.run import Observe, Progress, silent

AGREEMENT = 0.9
"""A copy that agrees with the model on so many samples counts as one."""
MOST_QUERIES = 20_000


def audit_extraction(
    model: Path | str,
    source: Path | str | None = None,
    *,
    digits: int = 1,
    top: int = 1,
    queries: int = 4096,
    seed: int = 0,
    observe: Observe = silent,
) -> JsonObject:
    """Measure how many questions someone needs to copy a model, with and without protections.

    Args:
        model: the model file.
        source: samples to ask about: a folder or a table, whose labels aren't read, or the name of
            a known source; by default the data that the model was made from, of which the test part
            where it comes with one.
        digits: to how many digits the server would round probabilities.
        top: how many labels it would tell at most.
        queries: the most questions.
        seed: decides which samples are asked about, and which measure.
        observe: called with progress.

    Returns:
        For each protection the agreement with its exact 95 % interval after 16, 32, 64 … questions,
        and the fewest after which it is 0.9 or more (`queries_needed`, or `None`); what always
        giving one answer would agree (`chance`); the model's mean confidence in the samples and in
        questions that are mixed of two. Numbers are told whole whatever the protection is, so of
        such a model there is only `none`.

    Raises:
        RequestError: a model of another task, or settings that make no sense.
        DataError: the samples are of another kind, too few, or can't be found.
        ModelFileError: the file can't be used.
    """
    _check(digits=digits, top=top, queries=queries)
    loaded = modelfile.load(Path(model))
    kind = loaded.spec.output_kind
    if kind not in (OutputKind.SINGLE_LABEL, OutputKind.REGRESSION):
        raise RequestError(
            f"copying is measured of models that predict one label or numbers, and this one "
            f"predicts {kind.noun}",
            where=str(model),
            why="Whether two such answers agree isn't a matter of yes or no",
        )
    samples, texts = unlabelled_split(
        None if source is None else Path(source),
        input=loaded.input,
        like=data_spec(loaded),
        output_kind=kind,
        observe=observe,
    )
    from modelwright.models.linear import simple_features

    features = simple_features(loaded.input, AudioSpec())
    attack = Attack(
        model=loaded, samples=samples, features=features, texts=texts, queries=queries, seed=seed
    )
    asked = ask(attack, observe=observe)
    if asked.queries < queries:
        note = f"There are samples for {asked.queries:,} questions, so no more are asked"
        observe(Progress("note", 0, 0, note=note))
    compared = [
        Protection("none"),
        Protection("rounded", digits=digits),
        Protection("top", top=top),
        Protection("both", digits=digits, top=top),
    ]
    compared = compared if asked.first is not None else compared[:1]
    found = copies(asked, compared, observe=observe)
    rows = []
    for protection in compared:
        agreements = found[protection.name]
        needed = next((item.queries for item in agreements if item.value >= AGREEMENT), None)
        rows.append(
            {
                **asdict(protection),
                "queries_needed": needed,
                "agreements": [item._asdict() for item in agreements],
            }
        )
    natural = asked.queries - asked.num_mixed
    return {
        "model": loaded.digest,
        "agreement": AGREEMENT,
        "tolerance": None if asked.first is not None else TOLERANCE,
        "queries": asked.queries,
        "mixed": asked.num_mixed,
        "seed": seed,
        "chance": asked.chance(),
        "confidence": asked.confidence(slice(natural)),
        "mixed_confidence": asked.confidence(slice(natural, asked.queries)),
        "protections": rows,
    }


def _check(*, digits: int, top: int, queries: int) -> None:
    for option, value, least, most in (
        ("--digits", digits, 0, 6),
        ("--top", top, 1, None),
        ("--queries", queries, FEWEST_QUERIES, MOST_QUERIES),
    ):
        if value < least or (most is not None and value > most):
            to = " or more" if most is None else f" to {most:,}"
            raise RequestError(f"{option} takes {least}{to}; got {value:,}")
