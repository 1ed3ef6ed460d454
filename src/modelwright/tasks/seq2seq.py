"""A text to another text: a translation, or a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from modelwright.arrays import Doubles
from modelwright.kinds import OutputKind
from modelwright.metrics import text as metrics
from modelwright.tasks.language_modeling import TOKEN_SCORING, no_decoding, token_stats
from modelwright.tasks.task import SampleStats, Scoring, Task, TextMetrics


def _translation_stats(texts: Sequence[str], references: Sequence[str]) -> SampleStats:
    return {
        "bleu": metrics.bleu_statistics(texts, references, metrics.bleu_words(references)),
        "chrf": metrics.chrf_statistics(texts, references),
    }


def _translation_columns(stats: SampleStats) -> Doubles:
    return np.concatenate([stats["bleu"], stats["chrf"]], axis=1).astype(np.float64)


def _translation_metrics(sums: Doubles) -> Mapping[str, Doubles]:
    bleu, chrf = np.split(sums, [metrics.BLEU_COLUMNS], axis=-1)
    return {"bleu": metrics.bleu(bleu), "chrf": metrics.chrf(chrf)}


def _summary_stats(texts: Sequence[str], references: Sequence[str]) -> SampleStats:
    return {
        "rouge": metrics.rouge_statistics(texts, references),
        "chrf": metrics.chrf_statistics(texts, references),
    }


def _summary_columns(stats: SampleStats) -> Doubles:
    rouge, count = stats["rouge"], np.ones((len(stats["rouge"]), 1))
    return np.concatenate([count, rouge, stats["chrf"]], axis=1)


def _summary_metrics(sums: Doubles) -> Mapping[str, Doubles]:
    means = sums[..., 1:4] / sums[..., :1]
    rouge = {name: means[..., at] for at, name in enumerate(("rouge1", "rouge2", "rouge_l"))}
    return {**rouge, "chrf": metrics.chrf(sums[..., 4:])}


TRANSLATION = Task(
    name="translation",
    output_kind=OutputKind.SEQ2SEQ,
    select_by="token_loss",
    goal=("chrf", ">= 40"),
    sample_stats=token_stats,
    compute=TOKEN_SCORING,
    decode=no_decoding,
    text_metrics=TextMetrics(
        _translation_stats,
        Scoring(_translation_columns, _translation_metrics),
        lambda references: (
            f"BLEU in words of sacrebleu's tokenizer `{metrics.bleu_words(references)}`"
        ),
    ),
)
SUMMARIZATION = replace(
    TRANSLATION,
    name="summarization",
    goal=("rouge_l", ">= 0.2"),
    text_metrics=TextMetrics(
        _summary_stats,
        Scoring(_summary_columns, _summary_metrics),
        lambda _: "ROUGE in runs of letters and digits, and characters of scripts without blanks",
    ),
)
