"""A text to a shorter text that says the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modelwright.metrics import text as metrics
from modelwright.tasks import translation
from modelwright.tasks.task import SampleStats, TextMetrics


def _text_stats(texts: Sequence[str], references: Sequence[str]) -> SampleStats:
    return {
        "rouge": metrics.rouge_statistics(texts, references),
        "chrf": metrics.chrf_statistics(texts, references),
    }


def _compute_texts(stats: SampleStats) -> Mapping[str, float]:
    first, second, longest = stats["rouge"].mean(axis=0).tolist()
    chrf = metrics.chrf(stats["chrf"].sum(axis=0))
    return {"rouge1": first, "rouge2": second, "rouge_l": longest, "chrf": chrf}


def _describe(references: Sequence[str]) -> str:
    return "ROUGE in runs of letters and digits, and characters of scripts without blanks"


TASK = replace(
    translation.TASK,
    name="summarization",
    text_metrics=TextMetrics(_text_stats, _compute_texts, _describe),
)
