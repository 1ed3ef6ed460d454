"""A text to another text: a translation, or a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modelwright.kinds import OutputKind
from modelwright.metrics import text as metrics
from modelwright.tasks.language_modeling import no_decoding, token_metrics, token_stats
from modelwright.tasks.task import SampleStats, Task, TextMetrics


def _translation_stats(texts: Sequence[str], references: Sequence[str]) -> SampleStats:
    return {
        "bleu": metrics.bleu_statistics(texts, references, metrics.bleu_words(references)),
        "chrf": metrics.chrf_statistics(texts, references),
    }


def _translation_metrics(stats: SampleStats) -> Mapping[str, float]:
    return {
        "bleu": metrics.bleu(stats["bleu"].sum(axis=0)),
        "chrf": metrics.chrf(stats["chrf"].sum(axis=0)),
    }


def _summary_stats(texts: Sequence[str], references: Sequence[str]) -> SampleStats:
    return {
        "rouge": metrics.rouge_statistics(texts, references),
        "chrf": metrics.chrf_statistics(texts, references),
    }


def _summary_metrics(stats: SampleStats) -> Mapping[str, float]:
    rouge1, rouge2, rouge_l = stats["rouge"].mean(axis=0).tolist()
    chrf = metrics.chrf(stats["chrf"].sum(axis=0))
    return {"rouge1": rouge1, "rouge2": rouge2, "rouge_l": rouge_l, "chrf": chrf}


TRANSLATION = Task(
    name="translation",
    output_kind=OutputKind.SEQ2SEQ,
    select_by="token_loss",
    goal=("chrf", ">= 40"),
    sample_stats=token_stats,
    compute=token_metrics,
    decode=no_decoding,
    text_metrics=TextMetrics(
        _translation_stats,
        _translation_metrics,
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
        _summary_metrics,
        lambda _: "ROUGE in runs of letters and digits, and characters of scripts without blanks",
    ),
)
