"""A text to its next token, from which continuations are generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelwright.errors import RequestError
from modelwright.kinds import OutputKind
from modelwright.metrics import text as metrics
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


def _sample_stats(outputs: Floats, targets: Any, labels: Sequence[str]) -> SampleStats:
    """Return the loss, the tokens and the bytes of each text `[N]`."""
    wanted = targets["next"]
    losses = token_losses(outputs, wanted)
    return {
        "loss": losses.sum(axis=1),
        "tokens": (wanted != PADDING).sum(axis=1),
        "bytes": targets["bytes"].astype(np.int64).sum(axis=1),
    }


def _compute(stats: SampleStats) -> Mapping[str, float]:
    loss, tokens = float(stats["loss"].sum()), int(stats["tokens"].sum())
    return {
        "token_loss": loss / max(tokens, 1),
        "perplexity": metrics.perplexity(loss, tokens),
        "bits_per_byte": metrics.bits_per_byte(loss, max(int(stats["bytes"].sum()), 1)),
    }


def no_decoding(outputs: Floats, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    """Refuse: texts are generated token by token, by the runtime."""
    raise RequestError("a generative model has no answer to decode: it generates token by token")


TASK = Task(
    name="language-modeling",
    output_kind=OutputKind.CAUSAL_LM,
    select_by="token_loss",
    sample_stats=_sample_stats,
    compute=_compute,
    decode=no_decoding,
)
