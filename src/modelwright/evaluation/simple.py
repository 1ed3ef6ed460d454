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
from modelwright.run import Observe, Progress, silent
from modelwright.tasks import SampleStats, Task, join

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
        parts.append(task.tally(tuple(outputs), held, (*labels, *samples.unknown)))
    return bounded(
        join(parts),
        task.summary,
        samples,
        method="the average box of each class, as sure as the class is frequent",
        fingerprint=fingerprint,
        subject="baseline:box",
    )


def label_set_baselines(
    train: Split,
    samples: Split,
    task: Task,
    labels: Sequence[str],
    *,
    fingerprint: str,
    observe: Observe = silent,
) -> list[Evidence]:
    """Measure simple answers with any number of labels: `baseline:frequent`, `baseline:words`.

    Args:
        train: the training split.
        samples: the split that the model file was measured on.
        task: the task, which tallies and sums up.
        labels: the labels, in the order of the targets.
        fingerprint: the digest of `samples`.
        observe: told which baseline was left out and why.
    """
    evidence: list[Evidence] = []
    for name, baseline in (("frequent", _frequent_labels), ("words", _words_of_labels)):
        try:
            tally, method = baseline(train, samples, task, labels)
        except DataError as error:
            note = f"The baseline `{name}` is left out: {error}"
            observe(Progress("baselines", 0, 2, note=note))
            continue
        evidence += bounded(
            tally,
            task.summary,
            samples,
            counts=task.counts,
            method=method,
            fingerprint=fingerprint,
            subject=f"baseline:{name}",
        )
    return evidence


def _label_chances(train: Split) -> Doubles:
    """Return each label's share of the training samples `[K]`, by Jeffreys' prior never 0 or 1."""
    chances: Doubles = (train.targets.sum(axis=0) + 0.5) / (len(train) + 1.0)
    return chances


def _frequent_labels(
    train: Split, samples: Split, task: Task, labels: Sequence[str]
) -> tuple[SampleStats, str]:
    """Answer always with the most frequent labels: as many as a sample has, one at least.

    A label is as sure as it is frequent, which the log loss is taken from.
    """
    chances, held = _label_chances(train), train.targets.sum(axis=0)
    most = max(round(float(held.sum()) / len(train)), 1)
    names = (*labels, *samples.unknown)
    chosen = np.zeros(len(names), dtype=np.bool_)
    chosen[np.argsort(-held, kind="stable")[:most]] = True
    outputs = np.broadcast_to(np.log(chances / (1.0 - chances)), (len(samples), len(labels)))
    tally = {
        **task.tally(outputs, samples.targets, names),
        "chosen": np.broadcast_to(chosen, samples.targets.shape),
    }
    shown = ", ".join(f"`{labels[at]}`" for at in np.flatnonzero(chosen)[:_NAMED].tolist())
    more = ", …" if most > _NAMED else ""
    return tally, f"always the most frequent of the training labels, {most} of them: {shown}{more}"


def _words_of_labels(
    train: Split, samples: Split, task: Task, labels: Sequence[str]
) -> tuple[SampleStats, str]:
    """Answer by the words' frequencies with and without each label.

    That is multinomial naive Bayes of each label by itself, smoothed by one.

    Raises:
        DataError: there are too many labels for so many words.
    """
    vocabulary = 1 + max(_largest(train), _largest(samples))
    if len(labels) * vocabulary > _COUNTS:
        raise DataError(f"{len(labels):,} labels are too many for {vocabulary:,} words")
    having, all_of = np.zeros((vocabulary, len(labels))), np.zeros(vocabulary)
    for start, tokens in _tokens(train):
        rows, numbers = np.nonzero(train.targets[start : start + len(tokens)])
        np.add.at(having, (tokens[rows], numbers[:, None]), 1.0)
        all_of += np.bincount(tokens.ravel(), minlength=vocabulary)
    odds = np.zeros((vocabulary, len(labels)))  # Padding, the first, says nothing.
    for counts, sign in ((having[1:], 1.0), (all_of[1:, None] - having[1:], -1.0)):
        odds[1:] += sign * np.log((counts + 1.0) / (counts + 1.0).sum(axis=0))
    chances = _label_chances(train)
    prior = np.log(chances / (1.0 - chances))
    parts = [
        np.stack([odds[row].sum(axis=0) + prior for row in tokens])
        for _, tokens in _tokens(samples)
    ]
    tally = task.tally(np.concatenate(parts), samples.targets, (*labels, *samples.unknown))
    return tally, "multinomial naive Bayes over the tokens, of each label by itself"
