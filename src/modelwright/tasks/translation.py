"""A text to another text: a translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelwright import metrics
from modelwright.tasks.language_modeling import PADDING, no_decoding, token_losses
from modelwright.tasks.task import Floats, SampleStats, Task


def tally_tokens(outputs: Floats, targets: Any, labels: Sequence[str]) -> SampleStats:
    """Return the loss and the tokens of each text `[N]`, the text wanted being given."""
    wanted = targets["next"]
    return {
        "loss": token_losses(outputs, wanted).sum(axis=1),
        "tokens": (wanted != PADDING).sum(axis=1),
    }


def sum_tokens(tally: SampleStats) -> Mapping[str, float]:
    """Return the loss a token, and the perplexity."""
    loss, tokens = float(tally["loss"].sum()), int(tally["tokens"].sum())
    return {"token_loss": loss / max(tokens, 1), "perplexity": metrics.perplexity(loss, tokens)}


def _judge(found: Sequence[str], wanted: Sequence[str]) -> SampleStats:
    return {
        "bleu": metrics.bleu_statistics(found, wanted, metrics.bleu_words(wanted)),
        "chrf": metrics.chrf_statistics(found, wanted),
    }


def _judged(tally: SampleStats) -> Mapping[str, float]:
    return {
        "bleu": metrics.bleu(tally["bleu"].sum(axis=0)),
        "chrf": metrics.chrf(tally["chrf"].sum(axis=0)),
    }


def _judged_by(wanted: Sequence[str]) -> str:
    return f"BLEU in words of sacrebleu's tokenizer `{metrics.bleu_words(wanted)}`"


TASK = Task(
    name="translation",
    select_by="token_loss",
    higher_is_better=False,
    tally=tally_tokens,
    summary=sum_tokens,
    decode=no_decoding,
    input="text",
    target="text",
    output_kind="texts",
    judge=_judge,
    judged=_judged,
    judged_by=_judged_by,
)
