"""Simple methods that a network is compared with, fitted in seconds.

They are fitted to the training split alone and measured on the samples that the model file was
measured on; of a large split a random part is used, and the evidence says so. `BASELINES` lists the
methods by kind of prediction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelwright import metrics
from modelwright.arrays import Array, Doubles, Ints
from modelwright.data.dataset import Split
from modelwright.errors import DataError, MissingExtraError
from modelwright.evaluation.bootstrap import bounded
from modelwright.evaluation.features import (
    Features,
    features_of,
    parts_of,
    reduced,
)
from modelwright.evaluation.gain import PairedStats, gain_over_simple
from modelwright.evaluation.labels import accuracy, accuracy_difference, averages
from modelwright.evaluation.least_squares import (
    FEW_LABELS,
    FEW_TEXTS,
    least_squares,
    ngram_weights,
    sparse_least_squares,
)
from modelwright.evaluation.measurement import Measurement, Record, recorder
from modelwright.kinds import OutputKind
from modelwright.ledger import Evidence
from modelwright.run import Observe, Progress, silent
from modelwright.tasks import SampleStats, Task, concatenate, take
from modelwright.transforms.ngrams import fit_ngrams

CENTROID_SIDE = 32
"""Longer sides of images are reduced by whole factors to this many pixels or fewer."""
_VALUES = 100_000_000
"""The most features and scores of all samples: 400 MB, as those of 50,000 images of 32 × 32."""
_CENTROID_COPIES = 2
"""The features, and their distances to the means."""
_WEIGHTS = 20_000_000
"""The most weights of a linear model."""
LONGEST_TEXT, _CHARACTERS = 10_000, 10_000_000
"""The most characters of one text, and of all that are counted: some ten seconds."""
_FEWEST_NGRAMS = 2_000
"""With fewer n-grams than these in memory nothing could be counted."""
_LEAST_CHANCE = 0.01
"""Least squares estimate chances that may lie outside of 0 … 1; they are kept this far inside."""
_NEVER = -50.0
"""The logit of a class that isn't predicted."""
_NAMED = 5
"""The most labels that are named in a method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The data that a simple method is fitted to and measured on."""

    task: Task
    input_kind: str
    train: Split
    samples: Split
    """The split that the model file was measured on."""
    labels: tuple[str, ...]
    num_outputs: int
    """The size of a network's output for each token."""
    texts: Callable[[Ints], list[str]]
    """Returns the texts in some rows of the store, where samples are texts."""
    features: Callable[[Array], Features]
    """Returns what a linear model of images or recordings sees `[N, D]` of gathered inputs; raises
    `DataError` where these don't allow it."""
    is_method: str = ""
    """The simple method that the model measured is, if it is one."""

    def limited(self, most: int | None) -> Problem:
        """Return the problem with so many samples of each split at most, drawn."""
        if most is None:
            return self
        parts = (split.take(_sampled(len(split), most)) for split in (self.train, self.samples))
        train, samples = parts
        return replace(self, train=train, samples=samples)

    def stats(self, outputs: Any, positions: Ints | slice = slice(None)) -> SampleStats:
        """Return the statistics of samples from raw outputs like those of a network."""
        names = (*self.labels, *self.samples.unknown)
        return self.task.sample_stats(outputs, self.samples.targets[positions], names)


@dataclass(frozen=True, slots=True)
class Predictions:
    """The statistics of the samples that a simple method predicted."""

    stats: SampleStats
    method: str
    positions: Ints | None = None
    """The positions in the measured split of the samples predicted; all by default."""


Baseline = Callable[[Problem], Predictions]
"""Raises `DataError` where these samples don't allow it."""


def measure_baselines(
    problem: Problem,
    measured: Measurement | None,
    *,
    fingerprint: str,
    limit: int | None = None,
    observe: Observe = silent,
) -> list[Evidence]:
    """Fit every simple method for this kind of prediction and of input, and measure it.

    Args:
        problem: the data.
        measured: the model on the same samples; `None` where there is no model yet.
        fingerprint: of the samples.
        limit: the most samples of each split that are used, without a model; all by default.
        observe: called with progress.

    Returns:
        The figures of each, as `baseline:NAME`; where samples have one label each, its accuracy and
        macro F1, and the model's accuracy minus the baseline's on the same samples. Of the model,
        how much better it is than the best of them.
    """
    assert measured is None or limit is None  # A model is measured on all samples.
    problem = problem.limited(limit)
    kind = problem.task.output_kind
    keys = ((kind, problem.input_kind), (kind, problem.task.name), (kind, ""))
    methods = next((BASELINES[key] for key in keys if key in BASELINES), {})
    evidence: list[Evidence] = []
    compared: list[PairedStats] = []
    for number, (name, baseline) in enumerate(methods.items()):
        observe(Progress("baselines", number, len(methods)))
        try:
            predictions = baseline(problem)
        except (DataError, MissingExtraError) as error:
            note = f"The baseline `{name}` is left out: {error}"
            observe(Progress("baselines", number, len(methods), note=note))
            continue
        record = recorder(problem.samples, fingerprint, subject=f"baseline:{name}")
        evidence += _figures(predictions, problem, measured, record)
        if measured is not None:
            compared.append(
                PairedStats(name, _of_model(predictions, problem, measured), predictions.stats)
            )
    if compared and measured is not None:
        task = problem.task
        evidence.append(
            gain_over_simple(
                compared,
                task.output_kind,
                task.compute if task.text_metrics is None else task.text_metrics.compute,
                recorder(problem.samples, fingerprint),
                model=measured.model,
                is_method=problem.is_method,
                texts=problem.samples.texts,
            )
        )
    if methods:
        observe(Progress("baselines", len(methods), len(methods)))
    return evidence


def _figures(
    predictions: Predictions, problem: Problem, measured: Measurement | None, record: Record
) -> list[Evidence]:
    task = problem.task
    if task.output_kind != OutputKind.SINGLE_LABEL:
        return bounded(
            predictions.stats,
            task.compute if task.text_metrics is None else task.text_metrics.compute,
            record,
            method=predictions.method,
            counts=task.label_counts(predictions.stats) if task.label_counts else None,
            texts=problem.samples.texts,
        )
    predicted, targets = predictions.stats["predicted"], predictions.stats["targets"]
    num_classes = len(problem.labels) + len(problem.samples.unknown)
    cells = metrics.confusion(predicted, targets, num_classes=num_classes)
    means = averages(cells, record, method=f"{predictions.method}; ")
    hits = predicted == targets
    figures = [
        accuracy(hits, record, method=predictions.method),
        next(mean for mean in means if mean.metric == "f1_macro"),
    ]
    if measured is None:
        return figures
    model_hits = _of_model(predictions, problem, measured)["ranks"] == 0
    return [*figures, accuracy_difference(model_hits, hits, record, model=measured.model)]


def _of_model(predictions: Predictions, problem: Problem, measured: Measurement) -> SampleStats:
    """Return the model's statistics of the samples that a simple method predicted."""
    scores = problem.task.text_metrics
    if scores is not None:
        assert problem.samples.pairs is not None
        return scores.sample_stats(measured.texts, problem.samples.pairs()[1])
    if predictions.positions is None:
        return measured.stats
    return take(measured.stats, predictions.positions)


# -- always the same prediction --------------------------------------------------------------


def majority(problem: Problem) -> Predictions:
    """Predict always the most frequent class of the training split."""
    counts = np.bincount(problem.train.targets, minlength=len(problem.labels))
    return _constant(problem, counts.astype(np.float64), "the most frequent training class")


def frequent(problem: Problem) -> Predictions:
    """Predict always the most frequent labels: as many as a sample has, one at least.

    A label's probability, for the log loss, is its frequency, by Jeffreys' prior never 0 or 1.
    """
    counts, size = problem.train.targets[:].sum(axis=0), len(problem.train)
    chances = (counts + 0.5) / (size + 1.0)
    most = max(round(float(counts.sum()) / size), 1)
    best = np.argsort(-counts, kind="stable")[:most]
    named = ", ".join(f"`{problem.labels[at]}`" for at in np.sort(best)[:_NAMED].tolist())
    more = ", …" if most > _NAMED else ""
    method = f"always the most frequent of the training labels, {most} of them: {named}{more}"
    stats = dict(_constant(problem, _logits(chances), method).stats)
    stats["predicted"] = np.zeros_like(stats["targets"])
    stats["predicted"][:, best] = True
    return Predictions(stats, method)


def mean(problem: Problem) -> Predictions:
    """Predict always the average of the training samples."""
    average = problem.train.targets[:].astype(np.float64).mean(axis=0)
    return _constant(problem, average, "always the average of the training samples")


def _constant(problem: Problem, output: Doubles, method: str) -> Predictions:
    outputs = np.broadcast_to(output, (len(problem.samples), *output.shape))
    return Predictions(problem.stats(outputs), method)


def box(problem: Problem) -> Predictions:
    """Predict always each class's average box, scored by the share of images with the class."""
    num_classes = len(problem.labels)
    sums, boxes, images = np.zeros((num_classes, 4)), np.zeros(num_classes), np.zeros(num_classes)
    for part in parts_of(len(problem.train)):
        targets = problem.train.targets[part]
        image, place = np.nonzero(targets["labels"] >= 0)
        label = targets["labels"][image, place]
        np.add.at(sums, label, targets["boxes"][image, place])
        boxes += np.bincount(label, minlength=num_classes)
        pairs = np.unique(image * num_classes + label)
        images += np.bincount(pairs % num_classes, minlength=num_classes)
    average = sums / np.maximum(boxes, 1.0)[:, None]
    chances = np.clip(images / len(problem.train), 1e-6, 1 - 1e-6)
    scores = np.where(np.eye(num_classes, dtype=bool), _logits(chances), _NEVER)
    parts = []
    for part in parts_of(len(problem.samples)):
        shape = (part.stop - part.start, num_classes)
        average_boxes = np.broadcast_to(average, (*shape, 4))
        outputs = np.broadcast_to(scores, (*shape, num_classes)), average_boxes
        parts.append(problem.stats(outputs, part))
    method = "the average box of each class, scored by how frequent the class is"
    return Predictions(concatenate(parts), method)


def unigram(problem: Problem) -> Predictions:
    """Predict by how frequent each token is in the training split, without any context."""
    counts = np.ones(problem.num_outputs)
    for part in parts_of(len(problem.train)):
        tokens = problem.train.targets[part]["next"]
        counts += np.bincount(tokens.ravel(), minlength=len(counts))
    losses = np.zeros(len(counts))  # Padding, the first, costs nothing.
    losses[1:] = -np.log(counts[1:] / counts[1:].sum())
    parts = []
    for part in parts_of(len(problem.samples)):
        targets = problem.samples.targets[part]
        parts.append(
            {
                "loss": losses[targets["next"]].sum(axis=1),
                "tokens": (targets["next"] != 0).sum(axis=1),
                "bytes": targets["bytes"].astype(np.int64).sum(axis=1),
            }
        )
    return Predictions(concatenate(parts), "each token by its share of the training tokens")


# -- a text from a text ----------------------------------------------------------------------


def copy(problem: Problem) -> Predictions:
    """Predict the source text itself."""
    return _as_text(problem, lambda text: text, "the text itself, as it is given")


def lead(problem: Problem) -> Predictions:
    """Predict the first sentence of the source text."""

    def first(text: str) -> str:
        return re.split(r"(?<=[.!?。！？])\s", text.strip(), maxsplit=1)[0]

    return _as_text(problem, first, "the first sentence")


def _as_text(problem: Problem, write: Callable[[str], str], method: str) -> Predictions:
    scores = problem.task.text_metrics
    assert problem.samples.pairs is not None
    assert scores is not None
    sources, references = problem.samples.pairs()
    stats = scores.sample_stats([write(text) for text in sources], references)
    return Predictions(stats, f"{method}; {scores.describe(references)}")


# -- a fitted model --------------------------------------------------------------------------


def centroid(problem: Problem) -> Predictions:
    """Predict the class whose mean image is nearest, by Euclidean distance of pixels."""

    def flat(pixels: Array) -> Features:
        small = reduced(pixels, CENTROID_SIDE)
        return small.reshape(len(small), -1).astype(np.float32) / np.float32(255)

    num_features = flat(problem.train.gather(slice(1))).shape[1]
    train_rows, test_rows = _drawn(problem, num_features, copies=_CENTROID_COPIES)
    classes = problem.train.targets[train_rows]
    if len(np.unique(classes)) < 2:
        raise DataError("the training samples drawn are all of one class")
    features = features_of(problem.train, train_rows, flat)
    found, which = np.unique(classes, return_inverse=True)
    is_of = (which == np.arange(len(found))[:, None]).astype(np.float32)
    means = is_of @ features / is_of.sum(axis=1, keepdims=True)
    # A pixel's own square is the same for every class.
    scores = features_of(problem.samples, test_rows, flat) @ means.T - (means**2).sum(axis=1) / 2
    predicted = found[scores.argmax(axis=1)]
    outputs = (predicted[:, None] == np.arange(len(problem.labels))).astype(np.float32)
    method = "the class whose mean training image is nearest"
    return _predictions(problem, outputs, train_rows, test_rows, method)


def hog(problem: Problem) -> Predictions:
    """Predict by histograms of oriented gradients, by place and of textures, and a linear model."""
    method = "histograms of oriented gradients, block by block and over the image,"
    return _linear(problem, problem.features, method)


def spectrum(problem: Problem) -> Predictions:
    """Predict by statistics of a spectrum's mel bands over time, and a linear model."""
    method = "mean, deviation, change and means of each quarter of mel bands"
    return _linear(problem, problem.features, method)


def words(problem: Problem) -> Predictions:
    """Predict by TF-IDF weights of n-grams, those of `model: linear`, and a linear model."""
    train_rows, test_rows = _drawn(problem, _FEWEST_NGRAMS)
    train_texts, train_rows = _texts(problem, problem.train, train_rows)
    test_texts, test_rows = _texts(problem, problem.samples, test_rows)
    encoder = fit_ngrams(train_texts, most=_WEIGHTS // len(problem.labels))
    train, test = (ngram_weights(encoder, texts) for texts in (train_texts, test_texts))
    outputs = _ridge(problem, train, problem.train.targets[train_rows], test)
    method = f"TF-IDF weights of {encoder.describe()} with a linear model (ridge regression)"
    return _predictions(problem, outputs, train_rows, test_rows, method)


def _texts(problem: Problem, split: Split, positions: Ints) -> tuple[list[str], Ints]:
    """Return the beginnings of texts, as many as may be counted, and which these are."""
    texts = [text[:LONGEST_TEXT] for text in problem.texts(split.rows[positions])]
    most = len(texts) * _CHARACTERS // max(sum(map(len, texts)), 1)
    by_label = most * FEW_LABELS // max(len(problem.labels), FEW_LABELS)
    kept = _sampled(len(texts), max(by_label, min(most, FEW_TEXTS)))
    return [texts[at] for at in kept.tolist()], positions[kept]


def _linear(problem: Problem, extract: Callable[[Array], Features], method: str) -> Predictions:
    """Predict by a linear model of features that are extracted from each sample."""
    train_rows, test_rows = _drawn(problem, extract(problem.train.gather(slice(1))).shape[1])
    train = features_of(problem.train, train_rows, extract)
    test = features_of(problem.samples, test_rows, extract)
    outputs = _ridge(problem, train, problem.train.targets[train_rows], test)
    method += (
        " with a linear model (ridge regression, its penalty chosen by leaving out each training "
        "sample once)"
    )
    return _predictions(problem, outputs, train_rows, test_rows, method)


def _ridge(problem: Problem, train: Any, targets: Array, test: Any) -> Doubles:
    """Fit numbers, or the indicators of labels, by penalised least squares.

    Least squares on indicators estimate chances (Hastie, Tibshirani and Friedman 2009, section
    4.2). Where each label is there or not by itself, they are returned as logits.

    Returns:
        Numbers `[N, D]`, or scores `[N, K]`.
    """
    fitted = least_squares if isinstance(train, np.ndarray) else sparse_least_squares
    kind = problem.task.output_kind
    if kind == OutputKind.REGRESSION:
        return fitted(train, targets.astype(np.float64).reshape(len(targets), -1), test)
    is_multi_label = kind == OutputKind.MULTI_LABEL
    indicators = targets if is_multi_label else targets[:, None] == np.arange(len(problem.labels))
    chances = fitted(train, indicators.astype(np.float32), test)
    if not is_multi_label:
        return chances
    return _logits(np.clip(chances, _LEAST_CHANCE, 1 - _LEAST_CHANCE))


def _logits(chances: Doubles) -> Doubles:
    return np.log(chances / (1.0 - chances))


def _predictions(
    problem: Problem, outputs: Array, train_rows: Ints, test_rows: Ints, method: str
) -> Predictions:
    """Return the statistics of the predicted samples; the method says how many were drawn."""
    for verb, positions, split in (
        ("fitted on", train_rows, problem.train),
        ("measured on", test_rows, problem.samples),
    ):
        if len(positions) < len(split):
            method += f"; {verb} {len(positions):,} of {len(split):,} samples, drawn at random"
    return Predictions(problem.stats(outputs, test_rows), method, test_rows)


def _drawn(problem: Problem, num_features: int, *, copies: int = 1) -> tuple[Ints, Ints]:
    """Return the positions of the samples that a model is fitted to and of those it predicts.

    `copies` says how often the features stand in memory.

    Raises:
        DataError: there are too many labels for so many features.
    """
    num_labels = len(problem.labels)
    if num_features * num_labels > _WEIGHTS:
        raise DataError(f"{num_labels:,} classes are too many for it")
    most = _VALUES // (copies * num_features + 2 * num_labels)
    return _sampled(len(problem.train), most), _sampled(len(problem.samples), most)


def _sampled(count: int, most: int) -> Ints:
    """Return positions in order: all, or as many as allowed, the same draw every time."""
    if count <= most:
        return np.arange(count)
    drawn: Ints = np.sort(np.random.default_rng(0).choice(count, size=max(most, 1), replace=False))
    return drawn


BASELINES: dict[tuple[OutputKind, str], dict[str, Baseline]] = {
    (OutputKind.SINGLE_LABEL, "image"): {"majority": majority, "centroid": centroid, "hog": hog},
    (OutputKind.SINGLE_LABEL, "text"): {"majority": majority, "words": words},
    (OutputKind.SINGLE_LABEL, "audio"): {"majority": majority, "spectrum": spectrum},
    (OutputKind.SINGLE_LABEL, ""): {"majority": majority},
    (OutputKind.MULTI_LABEL, "image"): {"frequent": frequent, "hog": hog},
    (OutputKind.MULTI_LABEL, "text"): {"frequent": frequent, "words": words},
    (OutputKind.MULTI_LABEL, "audio"): {"frequent": frequent, "spectrum": spectrum},
    (OutputKind.REGRESSION, "image"): {"mean": mean, "hog": hog},
    (OutputKind.REGRESSION, "text"): {"mean": mean, "words": words},
    (OutputKind.REGRESSION, "audio"): {"mean": mean, "spectrum": spectrum},
    (OutputKind.REGRESSION, ""): {"mean": mean},
    (OutputKind.BOXES, ""): {"box": box},
    (OutputKind.CAUSAL_LM, ""): {"unigram": unigram},
    (OutputKind.SEQ2SEQ, "translation"): {"copy": copy},
    (OutputKind.SEQ2SEQ, "summarization"): {"lead": lead},
}
"""By kind of prediction and of input (empty: any other), or, where texts are written, by task."""
