"""Simple models to compare with: majority, nearest centroid, HOG with a linear classifier.

They are fitted on the training split alone and asked the samples that the model file was asked.
Large images are reduced and very many samples drawn from, so that all of it takes a minute or less
on 50,000 small images; the method of the evidence says what was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from modelwright import metrics
from modelwright.data.dataset import Split
from modelwright.errors import DataError
from modelwright.evaluation import intervals, simple
from modelwright.evaluation.compare import DIFFERENCE, compare
from modelwright.evaluation.hog import cell_pixels, hog_features
from modelwright.evaluation.linear import Features, Linear, nearest_centroid, ridge
from modelwright.evaluation.measure import Measurement, SplitName
from modelwright.ledger import Evidence
from modelwright.metrics import Ints
from modelwright.run import Observe, Progress, silent

CENTROID_SIDE = 32
HOG_SIDE = 64
"""Longer sides are reduced by whole factors to this many pixels or fewer."""
_TRAIN_PIXELS = 60_000_000
_TEST_PIXELS = 30_000_000
"""Pixels looked at after reducing: 50,000 images of 32 × 32 are 51 million."""
_WEIGHTS = 20_000_000
"""The most weights of a linear classifier; more classes than that allows aren't fitted."""
_CHUNK_PIXELS = 2_000_000


@dataclass(frozen=True, slots=True)
class Answers:
    """What a baseline answered."""

    positions: Ints
    """The places in the measured split of the samples that it was asked, in order."""
    predicted: Ints
    method: str


Baseline = Callable[[Split, Split, int], Answers]
"""From the training split, the measured split and the number of classes to answers.

Raises `DataError` where these samples don't allow it.
"""


def measure_baselines(
    train: Split,
    samples: Split,
    *,
    fingerprint: str,
    kind: str = "image",
    against: Measurement | None = None,
    observe: Observe = silent,
) -> list[Evidence]:
    """Fit every baseline of this kind of input, and measure it.

    Args:
        train: the training split.
        samples: the split that the model file was measured on.
        fingerprint: the digest of `samples`.
        kind: the kind of input; of an unknown one only the majority is measured.
        against: what was measured of the model file: each baseline is also compared with it.
        observe: told how far it is, and which baseline was left out and why.

    Returns:
        The accuracy and macro F1 of each, as `baseline:NAME`; with `against`, also the model's
        accuracy minus the baseline's on the same samples.

    Raises:
        DataError: a split is empty, or its targets aren't classes.
    """
    for split in (train, samples):
        if len(split) == 0 or not np.issubdtype(split.targets.dtype, np.integer):
            raise DataError(f"baselines need classes, and the {split.name} split holds none")
    num_classes = int(train.targets.max()) + 1
    chosen = BASELINES.get(kind, BASELINES[""])
    evidence: list[Evidence] = []
    for number, (name, baseline) in enumerate(chosen.items()):
        observe(Progress("baselines", number, len(chosen)))
        try:
            answers = baseline(train, samples, num_classes)
        except DataError as error:
            note = f"The baseline `{name}` is left out: {error}"
            observe(Progress("baselines", number, len(chosen), note=note))
            continue
        evidence += _evidence(name, answers, samples, fingerprint)
        if against is not None:
            evidence.append(_difference(name, answers, samples, fingerprint, against))
    observe(Progress("baselines", len(chosen), len(chosen)))
    return evidence


def majority(train: Split, samples: Split, num_classes: int) -> Answers:
    """Answer always with the most frequent class of the training split."""
    best = int(np.bincount(train.targets, minlength=num_classes).argmax())
    everywhere = np.arange(len(samples))
    return Answers(everywhere, np.full(len(samples), best), "the most frequent training class")


def centroid(train: Split, samples: Split, num_classes: int) -> Answers:
    """Answer with the class whose mean image is nearest, by Euclidean distance of pixels."""
    return _linear(
        train,
        samples,
        num_classes=num_classes,
        side=CENTROID_SIDE,
        features=_flat,
        fit=nearest_centroid,
        method="the class whose mean training image is nearest",
    )


def hog(train: Split, samples: Split, num_classes: int) -> Answers:
    """Answer by histograms of oriented gradients and a linear classifier (ridge regression)."""
    height, width = _reduced_size(train, HOG_SIDE)
    if cell_pixels(height, width) == 0:
        raise DataError(f"images of {height} × {width} pixels are too small for it")
    return _linear(
        train,
        samples,
        num_classes=num_classes,
        side=HOG_SIDE,
        features=hog_features,
        fit=ridge,
        method="histograms of oriented gradients with a linear classifier (ridge regression)",
    )


def words(train: Split, samples: Split, num_classes: int) -> Answers:
    """Answer by the words' frequencies in each class (multinomial naive Bayes)."""
    found = simple.naive_bayes(train, samples, num_classes)
    return Answers(np.arange(len(samples)), found, "multinomial naive Bayes over the tokens")


def spectrum(train: Split, samples: Split, num_classes: int) -> Answers:
    """Answer by the average spectrum, with a linear classifier (ridge regression)."""
    found = simple.spectrum(train, samples, num_classes)
    method = "mean and deviation of the spectrum with a linear classifier (ridge regression)"
    return Answers(np.arange(len(samples)), found, method)


BASELINES: dict[str, dict[str, Baseline]] = {
    "image": {"majority": majority, "centroid": centroid, "hog": hog},
    "text": {"majority": majority, "words": words},
    "audio": {"majority": majority, "spectrum": spectrum},
    "": {"majority": majority},
}
"""By kind of input; the empty kind stands for all that aren't named."""


def _linear(
    train: Split,
    samples: Split,
    *,
    num_classes: int,
    side: int,
    features: Callable[[NDArray[np.uint8]], Features],
    fit: Callable[..., Linear],
    method: str,
) -> Answers:
    height, width = _reduced_size(train, side)
    size = features(_reduce(train.gather(slice(0, 1)), side)).shape[1]
    if size * num_classes > _WEIGHTS:
        raise DataError(f"{num_classes:,} classes are too many for it")
    taught = _drawn(len(train), _TRAIN_PIXELS // (height * width))
    asked = _drawn(len(samples), _TEST_PIXELS // (height * width))
    step = max(1, min(_CHUNK_PIXELS // (height * width), _CHUNK_PIXELS // num_classes))

    def chunks(split: Split, positions: Ints) -> Iterator[tuple[Features, Ints]]:
        for start in range(0, len(positions), step):
            chosen = positions[start : start + step]
            pixels = _reduce(split.gather(chosen), side)
            yield features(pixels), split.targets[chosen].astype(np.int64)

    classifier = fit(lambda: chunks(train, taught), num_classes=num_classes)
    predicted = [classifier.answer(values) for values, _ in chunks(samples, asked)]
    if (height, width) != train.pixels.shape[1:3]:
        method += f"; images reduced to {height} × {width}"
    if len(taught) < len(train):
        method += f"; fitted on {len(taught):,} of {len(train):,} samples, drawn at random"
    if len(asked) < len(samples):
        method += f"; asked {len(asked):,} of {len(samples):,} samples, drawn at random"
    return Answers(asked, np.concatenate(predicted), method)


def _flat(pixels: NDArray[np.uint8]) -> Features:
    flat: Features = pixels.reshape(len(pixels), -1).astype(np.float32)
    flat /= 255
    return flat


def _drawn(count: int, most: int) -> Ints:
    """Return positions in order: all, or as many as allowed, the same draw every time."""
    if count <= most:
        return np.arange(count)
    drawn: Ints = np.sort(np.random.default_rng(0).choice(count, size=max(most, 1), replace=False))
    return drawn


def _factors(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the whole factors that reduce an image; it becomes at most twice as long as wide."""
    shorter = max(4, min(height, width, side))
    most = min(side, 2 * shorter)
    return -(-height // most), -(-width // most)


def _reduced_size(split: Split, side: int) -> tuple[int, int]:
    height, width = split.pixels.shape[1:3]
    down, across = _factors(height, width, side)
    return height // down, width // across


def _reduce(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return images reduced to their blocks' means; what is left at the border is cut off."""
    count, height, width, channels = pixels.shape
    down, across = _factors(height, width, side)
    if down == across == 1:
        return pixels
    rows, columns = height // down, width // across
    whole = pixels[:, : rows * down, : columns * across]
    blocks = whole.reshape(count, rows, down, columns, across, channels)
    means = blocks.mean(axis=(2, 4), dtype=np.float32)
    reduced: NDArray[np.uint8] = np.rint(means).astype(np.uint8)
    return reduced


def _context(samples: Split, fingerprint: str) -> dict[str, Any]:
    split = samples.name if samples.name in ("test", "validation", "train") else ""
    return {"split": cast("SplitName", split), "data": fingerprint}


def _evidence(name: str, answers: Answers, samples: Split, fingerprint: str) -> list[Evidence]:
    targets = samples.targets[answers.positions]
    num_classes = int(max(answers.predicted.max(), targets.max())) + 1
    count, hits = len(targets), int((answers.predicted == targets).sum())
    cells = metrics.confusion(answers.predicted, targets, num_classes=num_classes)
    scores = metrics.class_scores(cells)
    f1 = float(metrics.averages(scores.hits, scores.predicted, scores.support)["f1_macro"])
    found = (
        ("accuracy", hits / count, intervals.share(hits, count), "Wilson interval"),
        ("f1_macro", f1, intervals.average_bounds(cells)["f1_macro"], "bootstrap"),
    )
    return [
        Evidence(
            metric=metric,
            value=value,
            low=bounds.low,
            high=bounds.high,
            n=count,
            method=f"{answers.method}; {how}",
            subject=f"baseline:{name}",
            **_context(samples, fingerprint),
        )
        for metric, value, bounds, how in found
    ]


def _difference(
    name: str, answers: Answers, samples: Split, fingerprint: str, against: Measurement
) -> Evidence:
    right = answers.predicted == samples.targets[answers.positions]
    found = compare(against.outcomes.hits[answers.positions], right)
    return Evidence(
        metric=DIFFERENCE,
        value=found.difference,
        low=found.low,
        high=found.high,
        n=found.n,
        method="the model's accuracy minus this baseline's on the same samples; paired interval of "
        f"Bonett and Price; exact McNemar test p {_p(found.p)}",
        model=against.model,
        subject=f"baseline:{name}",
        **_context(samples, fingerprint),
    )


def _p(chance: float) -> str:
    return f"= {chance:.2g}" if chance >= 1e-12 else "< 1e-12"
