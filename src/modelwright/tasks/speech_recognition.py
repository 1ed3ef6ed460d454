"""A sound to the text that is spoken in it, letter by letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelwright import metrics
from modelwright.tasks import ctc
from modelwright.tasks.task import Outputs, Prediction, Tally, Task

BEAM = 16
"""How many prefixes the search keeps."""


def _tally(outputs: Outputs, targets: Any, labels: Sequence[str]) -> Tally:
    """Return the errors and the length of each text, in words and in characters `[N, 2]`."""
    wanted = texts_of(targets["letters"], targets["count"], labels)
    found = [next(iter(texts)) for texts in _heard(outputs, labels, BEAM)]
    return {
        "words": metrics.word_errors(found, wanted),
        "characters": metrics.character_errors(found, wanted),
    }


def texts_of(letters: Any, count: Any, labels: Sequence[str]) -> list[str]:
    """Return targets, letters as 1…K−1 `[N, L]` and how many `[N]`, as texts."""
    names = np.array(["", *labels], dtype=object)
    return ["".join(names[row[:size]]) for row, size in zip(letters, count, strict=True)]


def _summary(tally: Tally) -> Mapping[str, float]:
    return {
        "wer": metrics.error_rate(tally["words"].sum(axis=0)),
        "cer": metrics.error_rate(tally["characters"].sum(axis=0)),
    }


def _decode(outputs: Outputs, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    return [
        [{"text": text, "probability": held} for text, held in list(texts.items())[:top]]
        for texts in _heard(outputs, labels, max(BEAM, top))
    ]


def _heard(outputs: Outputs, labels: Sequence[str], beam: int) -> list[dict[str, float]]:
    """Return each sample's texts with their probabilities, best first.

    Texts that differ in nothing but blanks are one.
    """
    frames, steps = outputs
    found = []
    for row in ctc.beam_search(frames, steps, labels, beam=beam, top=beam):
        texts: dict[str, float] = {}
        for item in row:
            text = " ".join(item.text.split())
            texts[text] = texts.get(text, 0.0) + float(np.exp(item.score))
        ranked = sorted(texts.items(), key=lambda pair: -pair[1])
        found.append({text: min(held, 1.0) for text, held in ranked})
    return found


TASK = Task(
    name="speech-recognition",
    select_by="wer",
    higher_is_better=False,
    tally=_tally,
    summary=_summary,
    decode=_decode,
    ties_by="cer",
    input="sound",
    target="letters",
    output_kind="frames",
)
