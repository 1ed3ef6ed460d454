"""A recording to its transcript."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from modelwright import metrics
from modelwright.errors import ModelFileError
from modelwright.kinds import OutputKind
from modelwright.tasks import ctc
from modelwright.tasks.task import Outputs, Prediction, SampleStats, Task

BEAM = 16
"""How many prefixes the search keeps."""
MOST_WEIGHT = 10.0
"""Of a language_model."""


@dataclass(frozen=True, slots=True)
class CharacterLM:
    """A character model of transcripts for the prefix beam search, and its weight."""

    model: ctc.NgramModel
    weight: float

    @staticmethod
    def fit(
        texts: Iterable[str], letters: Sequence[str], *, order: int, weight: float
    ) -> CharacterLM:
        """Fit the model to the training transcripts; see `ctc.NgramModel.fit`."""
        return CharacterLM(ctc.NgramModel.fit(texts, order, letters=letters), weight)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"model": self.model.to_json(), "weight": self.weight}

    @staticmethod
    def from_json(value: Any) -> CharacterLM:
        """Read what `to_json` returned.

        Raises:
            ModelFileError: it isn't that.
        """
        match value:
            case {"model": model, "weight": float() as weight, **others} if not others:
                if 0 < weight <= MOST_WEIGHT:
                    return CharacterLM(ctc.NgramModel.from_json(model), weight)
        raise ModelFileError("a language model isn't a character model and its weight")


def _sample_stats(
    outputs: Outputs,
    targets: Any,
    labels: Sequence[str],
    *,
    language_model: CharacterLM | None = None,
) -> SampleStats:
    """Return the errors and the length of each text, in words and in characters `[N, 2]`."""
    wanted = texts_of(targets["letters"], targets["count"], labels)
    found = [next(iter(texts)) for texts in _heard(outputs, labels, BEAM, language_model)]
    return {
        "words": metrics.word_errors(found, wanted),
        "characters": metrics.character_errors(found, wanted),
    }


UNKNOWN = "\ufffd"
"""Stands for a letter that no training text has."""


def texts_of(letters: Any, count: Any, labels: Sequence[str]) -> list[str]:
    """Return targets, letters as 1…K−1 `[N, L]` and how many `[N]`, as texts; K is unknown."""
    names = np.array(["", *labels, UNKNOWN], dtype=object)
    return ["".join(names[row[:size]]) for row, size in zip(letters, count, strict=True)]


def _compute(stats: SampleStats) -> Mapping[str, float]:
    return {
        "wer": metrics.error_rate(stats["words"].sum(axis=0)),
        "cer": metrics.error_rate(stats["characters"].sum(axis=0)),
    }


def _decode(
    outputs: Outputs, labels: Sequence[str], top: int, *, language_model: CharacterLM | None = None
) -> list[list[Prediction]]:
    return [
        [{"text": text, "probability": held} for text, held in list(texts.items())[:top]]
        for texts in _heard(outputs, labels, max(BEAM, top), language_model)
    ]


def _heard(
    outputs: Outputs, labels: Sequence[str], beam: int, language_model: CharacterLM | None
) -> list[dict[str, float]]:
    """Return each sample's texts with their probabilities, best first.

    Texts that differ in nothing but blanks are one. With a language model, probabilities are shares
    of what the search kept: its scores sum up to no known whole.
    """
    frames, steps = outputs
    model, weight = (
        (language_model.model, language_model.weight) if language_model is not None else (None, 1.0)
    )
    found = []
    for row in ctc.beam_search(
        frames, steps, labels, beam=beam, model=model, weight=weight, top=beam
    ):
        whole = (
            np.logaddexp.reduce([item.score for item in row]) if language_model is not None else 0.0
        )
        texts: dict[str, float] = {}
        for item in row:
            text = " ".join(item.text.split())
            texts[text] = texts.get(text, 0.0) + float(np.exp(item.score - whole))
        ranked = sorted(texts.items(), key=lambda pair: -pair[1])
        found.append({text: min(held, 1.0) for text, held in ranked})
    return found


TASK = Task(
    name="speech-recognition",
    output_kind=OutputKind.CTC,
    select_by="wer",
    sample_stats=_sample_stats,
    compute=_compute,
    decode=_decode,
    ties_by="cer",
)


def with_language_model(language_model: CharacterLM) -> Task:
    """Return the task as it decodes with a language model."""
    return replace(
        TASK,
        sample_stats=partial(_sample_stats, language_model=language_model),
        decode=partial(_decode, language_model=language_model),
    )
