"""A text to another text: a translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelwright.kinds import OutputKind
from modelwright.metrics import text as metrics
from modelwright.tasks.language_modeling import PADDING, no_decoding, token_losses
from modelwright.tasks.task import Floats, SampleStats, Task, TextMetrics


def token_stats(outputs: Floats, targets: Any, labels: Sequence[str]) -> SampleStats:
    """Return the loss and the number of tokens of each reference text `[N]`."""
    wanted = targets["next"]
    return {
        "loss": token_losses(outputs, wanted).sum(axis=1),
        "tokens": (wanted != PADDING).sum(axis=1),
    }


def token_metrics(stats: SampleStats) -> Mapping[str, float]:
    """Return the loss a token, and the perplexity."""
    loss, tokens = float(stats["loss"].sum()), int(stats["tokens"].sum())
    return {"token_loss": loss / max(tokens, 1), "perplexity": metrics.perplexity(loss, tokens)}


def _text_stats(texts: Sequence[str], references: Sequence[str]) -> SampleStats:
    return {
        "bleu": metrics.bleu_statistics(texts, references, metrics.bleu_words(references)),
        "chrf": metrics.chrf_statistics(texts, references),
    }


def _compute_texts(stats: SampleStats) -> Mapping[str, float]:
    return {
        "bleu": metrics.bleu(stats["bleu"].sum(axis=0)),
        "chrf": metrics.chrf(stats["chrf"].sum(axis=0)),
    }


def _describe(references: Sequence[str]) -> str:
    return f"BLEU in words of sacrebleu's tokenizer `{metrics.bleu_words(references)}`"


TASK = Task(
    name="translation",
    output_kind=OutputKind.SEQ2SEQ,
    select_by="token_loss",
    sample_stats=token_stats,
    compute=token_metrics,
    decode=no_decoding,
    text_metrics=TextMetrics(_text_stats, _compute_texts, _describe),
)
