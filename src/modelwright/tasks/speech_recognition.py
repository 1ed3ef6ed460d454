"""A recording to its transcript."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from modelwright.arrays import Doubles, Ints
from modelwright.errors import ModelFileError
from modelwright.files import Json, JsonObject
from modelwright.kinds import OutputKind
from modelwright.metrics import text as metrics
from modelwright.tasks import ctc
from modelwright.tasks.task import Outputs, Prediction, SampleStats, Scoring, Targets, Task

BEAM = 16
"""How many prefixes the search keeps."""
MOST_WEIGHT = 10.0
"""The largest weight of a language model."""


@dataclass(frozen=True, slots=True)
class CharacterLM:
    """A character model of transcripts for the prefix beam search, and its weight."""

    model: ctc.NgramModel
    weight: float

    @staticmethod
    def fit(
        texts: Iterable[str], characters: Sequence[str], *, order: int, weight: float
    ) -> CharacterLM:
        """Fit the model to the training transcripts, as `ctc.NgramModel.fit` does."""
        return CharacterLM(ctc.NgramModel.fit(texts, order, characters=characters), weight)

    def to_json(self) -> JsonObject:
        """Return it as plain JSON values."""
        return {"model": self.model.to_json(), "weight": self.weight}

    @staticmethod
    def from_json(value: Json) -> CharacterLM:
        """Read what `to_json` returned; anything else is a `ModelFileError`."""
        match value:
            case {"model": model, "weight": float() as weight, **others} if not others:
                if 0 < weight <= MOST_WEIGHT:
                    return CharacterLM(ctc.NgramModel.from_json(model), weight)
        raise ModelFileError("a language model isn't a character model and its weight")


def _sample_stats(
    outputs: Outputs,
    targets: Targets,
    labels: Sequence[str],
    *,
    language_model: CharacterLM | None = None,
) -> SampleStats:
    """Return the errors and the length of each text, in words and in characters `[N, 2]`."""
    references = texts_of(targets["characters"], targets["count"], labels)
    ranked = _transcribe(outputs, labels, BEAM, language_model)
    predicted = [next(iter(texts)) for texts in ranked]
    return {
        "words": metrics.word_errors(predicted, references),
        "characters": metrics.character_errors(predicted, references),
    }


UNKNOWN = "\ufffd"
"""Stands for a character that doesn't occur in the training texts."""


def texts_of(characters: Ints, count: Ints, labels: Sequence[str]) -> list[str]:
    """Return the texts of targets: ids 1…K−1 `[N, L]`, K for unknown, and their count `[N]`."""
    names = np.array(["", *labels, UNKNOWN], dtype=object)
    return ["".join(names[row[:size]]) for row, size in zip(characters, count, strict=True)]


def _columns(stats: SampleStats) -> Doubles:
    return np.concatenate([stats["words"], stats["characters"]], axis=1).astype(np.float64)


def _metrics(sums: Doubles) -> Mapping[str, Doubles]:
    return {
        "wer": metrics.error_rate(sums[..., :2]),
        "cer": metrics.error_rate(sums[..., 2:]),
    }


def _decode(
    outputs: Outputs, labels: Sequence[str], top: int, *, language_model: CharacterLM | None = None
) -> list[list[Prediction]]:
    return [
        [
            {"text": text, "probability": probability}
            for text, probability in list(texts.items())[:top]
        ]
        for texts in _transcribe(outputs, labels, max(BEAM, top), language_model)
    ]


def _transcribe(
    outputs: Outputs, labels: Sequence[str], beam: int, language_model: CharacterLM | None
) -> list[dict[str, float]]:
    """Return each sample's texts with their probabilities, best first.

    Texts that differ only in spaces are merged. With a language model, probabilities are relative
    to the texts that the search kept, since the sum over all texts isn't known.
    """
    frames, steps = outputs
    model, weight = None, 1.0
    if language_model is not None:
        model, weight = language_model.model, language_model.weight
    transcripts = []
    for hypotheses in ctc.beam_search(
        frames, steps, labels, beam=beam, model=model, weight=weight, top=beam
    ):
        total = 0.0 if model is None else np.logaddexp.reduce([item.score for item in hypotheses])
        texts: dict[str, float] = {}
        for item in hypotheses:
            text = " ".join(item.text.split())
            texts[text] = texts.get(text, 0.0) + float(np.exp(item.score - total))
        ranked = sorted(texts.items(), key=lambda pair: -pair[1])
        transcripts.append({text: min(probability, 1.0) for text, probability in ranked})
    return transcripts


TASK = Task(
    name="speech-recognition",
    output_kind=OutputKind.CTC,
    select_by="wer",
    goal=("wer", "<= 0.5"),
    sample_stats=_sample_stats,
    compute=Scoring(_columns, _metrics),
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
