"""A text to another text: a translation, or a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modelwright.arrays import Floats
from modelwright.kinds import OutputKind
from modelwright.metrics import text as metrics
from modelwright.tasks.language_modeling import PADDING, no_decoding, token_losses
from modelwright.tasks.task import SampleStats, Targets, Task, TextMetrics


def _token_stats(outputs: Floats, targets: Targets, labels: Sequence[str]) -> SampleStats:
    """Return the loss and the number of tokens of each reference text `[N]`."""
    ids = targets["next"]
    return {"loss": token_losses(outputs, ids).sum(axis=1), "tokens": (ids != PADDING).sum(axis=1)}


def _token_metrics(stats: SampleStats) -> Mapping[str, float]:
    loss, tokens = float(stats["loss"].sum()), int(stats["tokens"].sum())
    return {"token_loss": loss / max(tokens, 1), "perplexity": metrics.perplexity(loss, tokens)}


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


def _describe_bleu(references: Sequence[str]) -> str:
    return f"BLEU in words of sacrebleu's tokenizer `{metrics.bleu_words(references)}`"


def _summary_stats(texts: Sequence[str], references: Sequence[str]) -> SampleStats:
    return {
        "rouge": metrics.rouge_statistics(texts, references),
        "chrf": metrics.chrf_statistics(texts, references),
    }


def _summary_metrics(stats: SampleStats) -> Mapping[str, float]:
    rouge1, rouge2, rouge_l = stats["rouge"].mean(axis=0).tolist()
    chrf = metrics.chrf(stats["chrf"].sum(axis=0))
    return {"rouge1": rouge1, "rouge2": rouge2, "rouge_l": rouge_l, "chrf": chrf}


def _describe_rouge(references: Sequence[str]) -> str:
    return "ROUGE in runs of letters and digits, and characters of scripts without blanks"


TRANSLATION = Task(
    name="translation",
    output_kind=OutputKind.SEQ2SEQ,
    select_by="token_loss",
    goal=("chrf", ">= 40"),
    sample_stats=_token_stats,
    compute=_token_metrics,
    decode=no_decoding,
    text_metrics=TextMetrics(_translation_stats, _translation_metrics, _describe_bleu),
)
SUMMARIZATION = replace(
    TRANSLATION,
    name="summarization",
    goal=("rouge_l", ">= 0.2"),
    text_metrics=TextMetrics(_summary_stats, _summary_metrics, _describe_rouge),
)
