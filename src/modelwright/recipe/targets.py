"""The section `targets`, and the metrics that it may name.

Each metric is described once, here: recipe, gate, report, command line and docs take its name, its
direction and its explanation from this record. How it is computed stands in `modelwright.metrics`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from pydantic import AfterValidator

from modelwright.kinds import ANY_OUTPUT, CLASSIFICATION, OutputKind
from modelwright.recipe.spec import TypeDescription

_TARGET = re.compile(r"^\s*(>=|<=|>|<)\s*(-?[0-9][0-9_]*(?:\.[0-9_]+)?(?:[eE][-+]?\d+)?)\s*$")


FEWEST_SAMPLES = 10
"""Fewer samples prove nothing, whatever the metric."""
_FEWEST_IMAGES = 50
"""On fewer images, average precision is biased upward, by 0.02 and more."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that is measured, and that a target may name."""

    name: str
    """As it stands in recipes and in the ledger."""
    title: str
    """What it is called in a report, for readers who don't know the field."""
    explanation: str = ""
    """What it says, for readers who don't know the field."""
    higher_is_better: bool = True
    is_share: bool = False
    """Whether it lies between 0 and 1 (or begins there) and reads best as a percentage."""
    is_headline: bool = False
    """Whether models of its output kind are compared by it."""
    outputs: Collection[OutputKind] = ANY_OUTPUT
    """The kinds of output that it judges."""
    range: tuple[float, float] = (0.0, math.inf)
    """The lowest and the highest value there can be."""
    worst: float | None = None
    """What a model that has nothing right comes to, of metrics that a sample alone may have."""
    fewest_samples: int = FEWEST_SAMPLES
    """Of fewer samples the interval isn't known to hold, so nothing is proven."""
    is_timed: bool = False
    """Whether it is a time, which `evaluate.latency: false` leaves out."""
    needs_threshold: bool = False
    """Whether it is measured only where a threshold is chosen."""
    needs_baselines: bool = False
    """Whether it is measured only beside simple methods."""
    needs_compression: bool = False
    """Whether it is measured only where `compress` has changed the trained network."""

    def unit(self, value: float) -> float:
        """Return what a loss of it is counted in: 1 of shares, else its range or this value."""
        if self.is_share:
            return 1.0
        span = self.range[1] - self.range[0]
        return span if math.isfinite(span) else abs(value)

    def worsening(self, before: float, after: float) -> float:
        """Return by how much it got worse: of shares the difference, else in its `unit`.

        >>> round(METRICS["accuracy"].worsening(0.93, 0.92), 6)
        0.01
        >>> METRICS["rmse"].worsening(2.0, 2.5)
        0.25
        """
        worse = before - after if self.higher_is_better else after - before
        return worse / max(self.unit(before), 1e-12)


_LABEL = (OutputKind.SINGLE_LABEL,)
_SET = (OutputKind.MULTI_LABEL,)
_NUMBERS = (OutputKind.REGRESSION,)
_CTC = (OutputKind.CTC,)
_TEXTS = (OutputKind.SEQ2SEQ,)
_LM = (OutputKind.CAUSAL_LM,)
_BOXES = (OutputKind.BOXES,)

_share = partial(Metric, is_share=True, range=(0.0, 1.0))
_loss = partial(Metric, higher_is_better=False)
_METRICS = (
    _share(
        "accuracy",
        "right answers (accuracy)",
        "How many of 100 samples are given the right label.",
        is_headline=True,
        outputs=_LABEL,
    ),
    _share(
        "exact_match",
        "all labels right (exact match)",
        "How many of 100 samples are given just their labels: none is missing, none is too many.",
        outputs=_SET,
    ),
    _share(
        "f1_micro",
        "F1 over all labels",
        "Precision and recall in one figure; each label of each sample counts the same.",
        outputs=_SET,
    ),
    _share(
        "top5_accuracy",
        "right among the first five answers",
        "How often the right class is one of the model's five best guesses; "
        "of five classes or fewer it isn't measured.",
        outputs=_LABEL,
    ),
    _share(
        "precision_macro",
        "precision, averaged over the classes",
        "When it names a class, how often that is right; each class counts the same.",
        outputs=CLASSIFICATION,
    ),
    _share(
        "precision_weighted",
        "precision, weighted by the classes' size",
        "The same; a class counts as much as it has samples.",
        outputs=_LABEL,
    ),
    _share(
        "recall_macro",
        "recall, averaged over the classes",
        "Of the samples of a class, how many it finds; each class counts the same.",
        outputs=CLASSIFICATION,
    ),
    _share(
        "recall_weighted",
        "recall, weighted by the classes' size",
        "The same; a class counts as much as it has samples.",
        outputs=_LABEL,
    ),
    _share(
        "f1_macro",
        "F1, averaged over the classes",
        "Precision and recall in one figure; each class counts the same.",
        is_headline=True,
        outputs=CLASSIFICATION,
    ),
    _share(
        "f1_weighted",
        "F1, weighted by the classes' size",
        "The same; a class counts as much as it has samples.",
        outputs=_LABEL,
    ),
    _loss(
        "log_loss",
        "log loss",
        "The mean cross-entropy in nats: 0 is perfect, and being surely wrong costs most.",
        outputs=CLASSIFICATION,
    ),
    _loss(
        "calibration_error",
        "calibration error",
        "How far its stated confidence lies from how often it is right: 0 is perfect.",
        outputs=_LABEL,
    ),
    _loss(
        "rmse",
        "typical error (RMSE)",
        "The root of the mean squared error, in the target's unit: large errors count most.",
        is_headline=True,
        outputs=_NUMBERS,
    ),
    _loss(
        "mae",
        "mean error (MAE)",
        "The mean absolute error: how far it is off on average, in the target's unit.",
        outputs=_NUMBERS,
    ),
    Metric(
        "r2",
        "explained share (R²)",
        "1 is perfect; 0 is no better than always saying the average.",
        outputs=_NUMBERS,
        range=(-math.inf, 1.0),
    ),
    Metric(
        "bleu",
        "BLEU",
        "Runs of words shared with the reference translation, 0 to 100.",
        is_headline=True,
        outputs=_TEXTS,
        range=(0.0, 100.0),
        worst=0.0,
    ),
    Metric(
        "chrf",
        "chrF",
        "Runs of characters shared with the reference text (chrF2), 0 to 100.",
        outputs=_TEXTS,
        range=(0.0, 100.0),
        worst=0.0,
    ),
    _share(
        "rouge1",
        "ROUGE-1",
        "F1 of the words shared with the reference summary.",
        outputs=_TEXTS,
        worst=0.0,
    ),
    _share(
        "rouge2",
        "ROUGE-2",
        "F1 of the pairs of words shared with the reference summary.",
        outputs=_TEXTS,
        worst=0.0,
    ),
    _share(
        "rouge_l",
        "ROUGE-L",
        "F1 of the longest common subsequence of words with the reference summary.",
        is_headline=True,
        outputs=_TEXTS,
        worst=0.0,
    ),
    Metric(
        "wer",
        "word error rate (WER)",
        "Wrong, missing and extra words for each word spoken: 0 is perfect.",
        higher_is_better=False,
        is_share=True,
        is_headline=True,
        outputs=_CTC,
        worst=1.0,
    ),
    Metric(
        "cer",
        "character error rate (CER)",
        "The same for characters.",
        higher_is_better=False,
        is_share=True,
        outputs=_CTC,
        worst=1.0,
    ),
    _share(
        "map50",
        "average precision (mAP@50)",
        "How well boxes are found that overlap the true ones by half: 100 % is perfect.",
        is_headline=True,
        outputs=_BOXES,
        fewest_samples=_FEWEST_IMAGES,
    ),
    _share(
        "map50_95",
        "average precision, exact boxes (mAP@50:95)",
        "The same over ever stricter overlaps, up to 95 %.",
        outputs=_BOXES,
        fewest_samples=_FEWEST_IMAGES,
    ),
    _loss(
        "token_loss",
        "loss a token (nats)",
        "The mean cross-entropy of a token: 0 is perfect; its exponential is the perplexity.",
        outputs=_LM + _TEXTS,
    ),
    _loss(
        "perplexity",
        "perplexity",
        "Among how many equally likely tokens it hesitates (exp of the token loss): 1 is perfect.",
        is_headline=True,
        outputs=_LM + _TEXTS,
        range=(1.0, math.inf),
    ),
    _loss(
        "bits_per_byte",
        "bits a byte",
        "How well it would compress such text; comparable whatever the tokenizer.",
        outputs=_LM,
    ),
    _share(
        "recall_at_threshold",
        "recall at the threshold",
        "Of the samples of the class that is not to be missed, how many are found.",
        outputs=_LABEL,
        needs_threshold=True,
    ),
    _share(
        "precision_at_threshold",
        "precision at the threshold",
        "Of the samples that are given this label, how many have it.",
        outputs=_LABEL,
        needs_threshold=True,
    ),
    Metric(
        "gain_over_simple",
        "gain over the best simple method",
        "By how much the main figure is better than that of the best simple method on the same "
        "samples; below 0 it is worse.",
        outputs=tuple(kind for kind in OutputKind if kind != OutputKind.CTC),
        needs_baselines=True,
        range=(-math.inf, math.inf),
    ),
    Metric(
        "gain_over_parent",
        "gain over the network before compression",
        "By how much the main figure is better than before compression, on the same samples; below "
        "0 it is worse.",
        needs_compression=True,
        range=(-math.inf, math.inf),
    ),
    _share(
        "flipped",
        "answers that compression changed",
        "Of 100 samples, how many are answered otherwise than before compression, rightly or not.",
        higher_is_better=False,
        outputs=CLASSIFICATION + _TEXTS,
        needs_compression=True,
    ),
    _share(
        "worst_label_drop",
        "largest drop of a class",
        "By how much the recall of the class that lost most is lower than before compression.",
        higher_is_better=False,
        outputs=CLASSIFICATION,
        range=(-1.0, 1.0),
        needs_compression=True,
    ),
    Metric(
        "speedup_batch_1",
        "times faster, one sample at a time",
        "The time of an answer before compression over that after, on this machine.",
        is_timed=True,
        needs_compression=True,
    ),
    Metric(
        "speedup_batch_64",
        "times faster, 64 samples at a time",
        "The same for 64 samples at once.",
        is_timed=True,
        needs_compression=True,
    ),
    Metric(
        "size_ratio",
        "times smaller",
        "The size of the model before compression over that after.",
        needs_compression=True,
    ),
    _loss(
        "latency_p50_ms",
        "time for one answer, typically",
        "The median: half of the answers come sooner.",
        is_timed=True,
    ),
    _loss("latency_p95_ms", "time for one answer, at most in 95 of 100", is_timed=True),
    _loss("latency_p99_ms", "time for one answer, at most in 99 of 100", is_timed=True),
    Metric("throughput_per_s", "answers a second", "In batches of 64 samples.", is_timed=True),
    Metric(
        "size_bytes", "size of the model", "All that decides a prediction.", higher_is_better=False
    ),
    _loss("file_bytes", "size of the file", "The model with its proof: figures, recipe, samples."),
    Metric(
        "parameters", "parameters", "How many numbers the network learned.", higher_is_better=False
    ),
    _loss(
        "multiply_adds",
        "multiply-adds of one answer",
        "Each a multiplication with an addition: the work of one pass through the network.",
    ),
)

METRICS = {metric.name: metric for metric in _METRICS}
"""What can be measured and so targeted, by its name in the ledger.

Where several headline metrics judge one kind of output, the first that was measured is the one.
"""


def headline_metric(names: Iterable[str]) -> str | None:
    """Return the metric that models are compared by: the first headline metric among these."""
    present = set(names)
    headlines = (metric.name for metric in METRICS.values() if metric.is_headline)
    return next((name for name in headlines if name in present), None)


def parse_target(target: str) -> tuple[str, float]:
    """Split a target such as `>= 0.93` into its comparison and its bound.

    >>> parse_target("<= 3_000_000")
    ('<=', 3000000.0)

    Raises:
        ValueError: it isn't a comparison and a number.
    """
    match = _TARGET.match(target)
    if not match:
        raise ValueError(f'{target!r} is not a target; write a comparison and a number: ">= 0.93"')
    return match[1], float(match[2].replace("_", ""))


def _check_target(target: str) -> str:
    parse_target(target)
    return target


TargetExpression = Annotated[
    str,
    AfterValidator(_check_target),
    TypeDescription('a comparison and a number in quotes, such as `">= 0.93"`', _TARGET.pattern),
]
