"""A text to what follows each of its tokens; so it writes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelwright import metrics
from modelwright.errors import RequestError
from modelwright.tasks.task import Floats, Prediction, SampleStats, Task

PADDING = 0


def token_losses(outputs: Floats, wanted: Any) -> Any:
    """Return the cross-entropy of each token in nats `[N, T]`, 0 at padding.

    Args:
        outputs: logits `[N, T, V]`.
        wanted: token ids `[N, T]`, 0 where nothing is asked.
    """
    found = np.zeros(wanted.shape)
    for at, (logits, ids) in enumerate(zip(outputs, wanted, strict=True)):
        size = int(np.count_nonzero(ids != PADDING))
        own = logits[:size].astype(np.float64)
        largest = own.max(axis=1, initial=-np.inf)
        totals = largest + np.log(np.exp(own - largest[:, None]).sum(axis=1))
        found[at, :size] = totals - own[np.arange(size), ids[:size]]
    return found


def _tally(outputs: Floats, targets: Any, labels: Sequence[str]) -> SampleStats:
    """Return the loss, the tokens and the bytes of each text `[N]`."""
    wanted = targets["next"]
    losses = token_losses(outputs, wanted)
    return {
        "loss": losses.sum(axis=1),
        "tokens": (wanted != PADDING).sum(axis=1),
        "bytes": targets["bytes"].astype(np.int64).sum(axis=1),
    }


def _summary(tally: SampleStats) -> Mapping[str, float]:
    loss, tokens = float(tally["loss"].sum()), int(tally["tokens"].sum())
    return {
        "token_loss": loss / max(tokens, 1),
        "perplexity": metrics.perplexity(loss, tokens),
        "bits_per_byte": metrics.bits_per_byte(loss, max(int(tally["bytes"].sum()), 1)),
    }


def no_decoding(outputs: Floats, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    """Refuse: answers are written token by token, by the runtime."""
    raise RequestError("a language model answers by writing, token by token")


TASK = Task(
    name="language-modeling",
    select_by="token_loss",
    higher_is_better=False,
    tally=_tally,
    summary=_summary,
    decode=no_decoding,
    input="text",
    target="next",
    output_kind="tokens",
)
