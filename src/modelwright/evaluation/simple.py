"""Baselines beyond images of classes: what a network has to beat, fitted without iterations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from modelwright.data.dataset import Split
from modelwright.errors import DataError
from modelwright.evaluation.linear import Features, ridge
from modelwright.evaluation.scores import bounded
from modelwright.ledger import Evidence
from modelwright.metrics import Doubles, Ints
from modelwright.tasks import Task, join

_CHUNK = 256
_COUNTS = 100_000_000
"""The most counts of a word in a class; more classes times words aren't fitted."""
_NEVER = -50.0
"""The logit of what is out of the question."""
_NAMED = 5
"""So many labels are named in a method."""
WINDOW, BANDS = 512, 32
"""Samples of a window, and bands that its spectrum is pooled to."""


def naive_bayes(train: Split, samples: Split, num_classes: int) -> Ints:
    """Answer by the words' frequencies in each class: multinomial naive Bayes, smoothed by one.

    As in Wang and Manning 2012, section 2, the baseline MNB of single words.

    Raises:
        DataError: there are too many classes for so many words.
    """
    vocabulary = 1 + max(_largest(train), _largest(samples))
    if num_classes * vocabulary > _COUNTS:
        raise DataError(f"{num_classes:,} classes are too many for {vocabulary:,} words")
    counts = np.ones((num_classes, vocabulary))
    for start, tokens in _tokens(train):
        classes = train.targets[start : start + len(tokens)].astype(np.int64)
        places = classes[:, None] * vocabulary + tokens
        counts += np.bincount(places[tokens > 0], minlength=num_classes * vocabulary).reshape(
            counts.shape
        )
    log_chance: Doubles = np.log(counts / counts.sum(axis=1, keepdims=True))
    log_chance[:, 0] = 0.0  # Padding says nothing.
    prior = np.bincount(train.targets, minlength=num_classes).astype(np.float64)
    log_prior = np.log(np.maximum(prior, 1e-9) / prior.sum())
    found = [
        (log_chance[:, tokens].sum(axis=2).T + log_prior).argmax(axis=1)
        for _, tokens in _tokens(samples)
    ]
    return np.concatenate(found).astype(np.int64)


def _tokens(split: Split, asked: str = "") -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield where each chunk begins, and its token ids: the inputs', or what is asked."""
    for start in range(0, len(split), _CHUNK):
        chosen = slice(start, start + _CHUNK)
        yield start, split.targets[chosen][asked] if asked else split.gather(chosen)["tokens"]


def _largest(split: Split) -> int:
    return max(int(tokens.max(initial=0)) for _, tokens in _tokens(split))


def spectrum(train: Split, samples: Split, num_classes: int) -> Ints:
    """Answer by the average spectrum and its spread, with a linear classifier (ridge)."""

    def chunks() -> Iterator[tuple[Features, Ints]]:
        for start in range(0, len(train), _CHUNK):
            chosen = slice(start, start + _CHUNK)
            yield _spectra(train, chosen), train.targets[chosen].astype(np.int64)

    classifier = ridge(chunks, num_classes=num_classes)
    found = [
        classifier.answer(_spectra(samples, slice(start, start + _CHUNK)))
        for start in range(0, len(samples), _CHUNK)
    ]
    return np.concatenate(found)


def _spectra(split: Split, chosen: slice) -> Features:
    held = split.gather(chosen)
    rows = [_spectrum(item["samples"][: item["length"]]) for item in held]
    return np.stack(rows).astype(np.float32)


def _spectrum(samples: NDArray[np.int16]) -> Doubles:
    """Return mean and deviation over time of the logarithm of each band's energy `[2 · BANDS]`."""
    padded = np.pad(samples.astype(np.float64), (0, -len(samples) % WINDOW))
    frames = padded.reshape(-1, WINDOW) * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)[:, 1:]) ** 2
    energy = power.reshape(len(frames), BANDS, -1).mean(axis=2)
    logs = np.log(energy + 1.0)
    found: Doubles = np.concatenate([logs.mean(axis=0), logs.std(axis=0)])
    return found


def mean_numbers(train: Split, samples: Split, task: Task, *, fingerprint: str) -> list[Evidence]:
    """Measure always answering with the training samples' average, as `baseline:mean`."""
    average = train.targets.astype(np.float64).mean(axis=0)
    answers = np.broadcast_to(average, samples.targets.shape)
    return bounded(
        task.tally(answers, samples.targets, ()),
        task.summary,
        samples,
        method="always the average of the training samples",
        fingerprint=fingerprint,
        subject="baseline:mean",
    )


def frequent_tokens(
    train: Split, samples: Split, task: Task, vocabulary: int, *, fingerprint: str
) -> list[Evidence]:
    """Measure a model that knows how frequent each token is and nothing else: `unigram`."""
    counts = np.ones(vocabulary)
    for _, tokens in _tokens(train, "next"):
        counts += np.bincount(tokens.ravel(), minlength=vocabulary)
    counts[0] = 0.0  # Padding.
    with np.errstate(divide="ignore"):
        losses = -np.log(counts / counts.sum())
    losses[0] = 0.0
    parts = []
    for start, tokens in _tokens(samples, "next"):
        sizes = samples.targets[start : start + len(tokens)]["bytes"].astype(np.int64)
        parts.append(
            {
                "loss": losses[tokens].sum(axis=1),
                "tokens": (tokens != 0).sum(axis=1),
                "bytes": sizes.sum(axis=1),
            }
        )
    return bounded(
        join(parts),
        task.summary,
        samples,
        method="each token by its share of the training tokens",
        fingerprint=fingerprint,
        subject="baseline:unigram",
    )


def average_boxes(
    train: Split, samples: Split, task: Task, labels: Sequence[str], *, fingerprint: str
) -> list[Evidence]:
    """Measure always answering with each class's average box, as `baseline:box`.

    A class is as sure as its share of the training images.
    """
    sums, boxes, images = np.zeros((len(labels), 4)), np.zeros(len(labels)), np.zeros(len(labels))
    for start in range(0, len(train), _CHUNK):
        held = train.targets[start : start + _CHUNK]
        for number in range(len(labels)):
            of_class = held["labels"] == number
            sums[number] += held["boxes"][of_class].sum(axis=0)
            boxes[number] += of_class.sum()
            images[number] += of_class.any(axis=1).sum()
    average = sums / np.maximum(boxes, 1.0)[:, None]
    chance = np.clip(images / len(train), 1e-6, 1 - 1e-6)
    scores = np.where(np.eye(len(labels), dtype=bool), np.log(chance / (1 - chance)), _NEVER)
    parts = []
    for start in range(0, len(samples), _CHUNK):
        held = samples.targets[start : start + _CHUNK]
        outputs = [np.broadcast_to(each, (len(held), *each.shape)) for each in (scores, average)]
        parts.append(task.tally(tuple(outputs), held, labels))
    return bounded(
        join(parts),
        task.summary,
        samples,
        method="the average box of each class, as sure as the class is frequent",
        fingerprint=fingerprint,
        subject="baseline:box",
    )


def frequent_labels(
    train: Split, samples: Split, task: Task, labels: Sequence[str], *, fingerprint: str
) -> list[Evidence]:
    """Measure always answering with the most frequent labels, as `baseline:frequent`.

    As many as a training sample has on average, at least one; a label is as sure as it is frequent,
    which the log loss is taken from.
    """
    count, held = len(train), train.targets.sum(axis=0)
    chance = (held + 0.5) / (count + 1.0)  # Jeffreys' prior: none is out of the question.
    most = max(round(float(held.sum()) / count), 1)
    chosen = np.zeros(len(labels), dtype=np.bool_)
    chosen[np.argsort(-held, kind="stable")[:most]] = True
    outputs = np.broadcast_to(np.log(chance / (1.0 - chance)), samples.targets.shape)
    tally = {
        **task.tally(outputs, samples.targets, labels),
        "chosen": np.broadcast_to(chosen, samples.targets.shape),
    }
    names = ", ".join(f"`{labels[at]}`" for at in np.flatnonzero(chosen)[:_NAMED])
    return bounded(
        tally,
        task.summary,
        samples,
        counts=task.counts,
        method=f"always the most frequent of the training labels, {most} of them: {names}"
        + (", …" if most > _NAMED else ""),
        fingerprint=fingerprint,
        subject="baseline:frequent",
    )
