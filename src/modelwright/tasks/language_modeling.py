"""A text to its next token, from which continuations are generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelwright.arrays import Doubles, Floats, Integers
from modelwright.errors import DataError, RequestError
from modelwright.kinds import OutputKind
from modelwright.metrics import text as metrics
from modelwright.tasks.sampling import log_softmax
from modelwright.tasks.task import Prediction, SampleStats, Scoring, Targets, Task

PADDING = 0


def token_losses(outputs: Floats, targets: Integers) -> Doubles:
    """Return the cross-entropy of each token in nats `[N, T]`, 0 at padding.

    Args:
        outputs: logits `[N, T, V]`.
        targets: token ids `[N, T]`, 0 at padding.
    """
    losses = np.zeros(targets.shape)
    for at, (logits, ids) in enumerate(zip(outputs, targets, strict=True)):
        size = int(np.count_nonzero(ids != PADDING))
        log_probs = log_softmax(logits[:size].astype(np.float64))
        losses[at, :size] = -log_probs[np.arange(size), ids[:size]]
    return losses


def token_stats(outputs: Floats, targets: Targets, labels: Sequence[str]) -> SampleStats:
    """Return the loss and the number of tokens of each text `[N]`."""
    ids = targets["next"]
    return {
        "loss": token_losses(outputs, ids).sum(axis=1),
        "tokens": (ids != PADDING).sum(axis=1),
    }


def _token_metrics(sums: Doubles) -> dict[str, Doubles]:
    """Return the mean loss of a token and the perplexity, from sums of losses and of tokens."""
    loss, tokens = sums[..., 0], sums[..., 1]
    return {
        "token_loss": loss / np.maximum(tokens, 1.0),
        "perplexity": metrics.perplexity(loss, tokens),
    }


def _token_columns(stats: SampleStats) -> Doubles:
    """Return the loss and the number of tokens of each text `[N, 2]`.

    Raises:
        DataError: there is no token.
    """
    if not stats["tokens"].any():
        raise DataError("there is no token to measure a language model on")
    return np.stack([stats["loss"], stats["tokens"]], axis=1, dtype=np.float64)


_SCALES = {"perplexity": (np.log, np.exp)}
TOKEN_SCORING = Scoring(_token_columns, _token_metrics, _SCALES)


def _sample_stats(outputs: Floats, targets: Targets, labels: Sequence[str]) -> SampleStats:
    size_bytes = targets["bytes"].astype(np.int64).sum(axis=1)
    return {**token_stats(outputs, targets, labels), "bytes": size_bytes}


def _columns(stats: SampleStats) -> Doubles:
    sizes = stats["bytes"][:, None].astype(np.float64)
    return np.concatenate([_token_columns(stats), sizes], axis=1)


def _metrics(sums: Doubles) -> Mapping[str, Doubles]:
    bits = metrics.bits_per_byte(sums[..., 0], sums[..., 2])
    return {**_token_metrics(sums), "bits_per_byte": bits}


def no_decoding(outputs: Floats, labels: Sequence[str], top: int) -> list[list[Prediction]]:
    """Refuse: texts are generated token by token, by the runtime."""
    raise RequestError("a generative model has no answer to decode: it generates token by token")


TASK = Task(
    name="language-modeling",
    output_kind=OutputKind.CAUSAL_LM,
    select_by="token_loss",
    goal=("bits_per_byte", "<= 2.5"),
    sample_stats=_sample_stats,
    compute=Scoring(_columns, _metrics, _SCALES),
    decode=no_decoding,
)
