"""The sections `evaluate`, `targets` and `resources`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modelwright.recipe.spec import Kind, Spec

_TARGET = re.compile(r"^\s*(>=|<=|>|<)\s*([0-9][0-9_]*(?:\.[0-9_]+)?(?:[eE][-+]?\d+)?)\s*$")


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that a target may name."""

    sentence: str
    higher_is_better: bool = True
    is_share: bool = False
    """Whether it lies between 0 and 1."""
    of: tuple[str, ...] = ()
    """What it judges: labels, label sets, numbers, tokens, texts, letters, boxes; nothing here: any
    model."""


_OF_LABELS = ("labels", "label sets")


METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        "share of samples whose most probable class is right", is_share=True, of=("labels",)
    ),
    "exact_match": Metric(
        "share of samples that are given just their labels, none missing, none too many",
        is_share=True,
        of=("label sets",),
    ),
    "f1_micro": Metric("F1 over all labels of all samples", is_share=True, of=("label sets",)),
    "top5_accuracy": Metric(
        "share whose class is among the five most probable", is_share=True, of=("labels",)
    ),
    "precision_macro": Metric("precision, mean over the classes", is_share=True, of=_OF_LABELS),
    "precision_weighted": Metric(
        "precision, weighted by the classes' samples", is_share=True, of=("labels",)
    ),
    "recall_macro": Metric("recall, mean over the classes", is_share=True, of=_OF_LABELS),
    "recall_weighted": Metric(
        "recall, weighted by the classes' samples", is_share=True, of=("labels",)
    ),
    "f1_macro": Metric("F1, mean over the classes", is_share=True, of=_OF_LABELS),
    "f1_weighted": Metric("F1, weighted by the classes' samples", is_share=True, of=("labels",)),
    "log_loss": Metric("mean cross-entropy in nats", higher_is_better=False, of=_OF_LABELS),
    "calibration_error": Metric(
        "expected gap between confidence and accuracy",
        higher_is_better=False,
        is_share=True,
        of=("labels",),
    ),
    "rmse": Metric("root of the mean squared error", higher_is_better=False, of=("numbers",)),
    "mae": Metric("mean absolute error", higher_is_better=False, of=("numbers",)),
    "r2": Metric("share of the variance that is explained", of=("numbers",)),
    "token_loss": Metric(
        "mean cross-entropy of a token in nats", higher_is_better=False, of=("tokens", "texts")
    ),
    "perplexity": Metric(
        "how many tokens were as likely as the next one, on average",
        higher_is_better=False,
        of=("tokens", "texts"),
    ),
    "bits_per_byte": Metric(
        "bits that a byte of text takes, whatever the tokenizer",
        higher_is_better=False,
        of=("tokens",),
    ),
    "bleu": Metric("BLEU of the translations, 0 to 100", of=("texts",)),
    "chrf": Metric("chrF2 of the texts written, 0 to 100", of=("texts",)),
    "rouge1": Metric("F1 of the words shared with the summary", is_share=True, of=("texts",)),
    "rouge2": Metric("F1 of the pairs of words shared", is_share=True, of=("texts",)),
    "rouge_l": Metric("F1 of the longest common subsequence", is_share=True, of=("texts",)),
    "wer": Metric("wrong, missing and extra words a word", higher_is_better=False, of=("letters",)),
    "cer": Metric(
        "wrong, missing and extra letters a letter", higher_is_better=False, of=("letters",)
    ),
    "map50": Metric(
        "mean average precision of the boxes that overlap by half", is_share=True, of=("boxes",)
    ),
    "map50_95": Metric(
        "mean average precision over overlaps from 0.5 to 0.95", is_share=True, of=("boxes",)
    ),
    "recall_at_threshold": Metric(
        "recall of the class of `evaluate.recall`, called from its threshold on",
        is_share=True,
        of=("labels",),
    ),
    "precision_at_threshold": Metric(
        "precision of the class of `evaluate.recall`, called from its threshold on",
        is_share=True,
        of=("labels",),
    ),
    "latency_p50_ms": Metric("median time of one prediction", higher_is_better=False),
    "latency_p95_ms": Metric("time that 95 % of predictions stay within", higher_is_better=False),
    "latency_p99_ms": Metric("time that 99 % of predictions stay within", higher_is_better=False),
    "throughput_per_s": Metric("predictions a second in batches of 64"),
    "size_bytes": Metric("bytes of all that decides a prediction", higher_is_better=False),
    "file_bytes": Metric("bytes of the whole model file", higher_is_better=False),
    "parameters": Metric("numbers that the network learnt", higher_is_better=False),
    "multiply_adds": Metric("multiply-adds of one prediction", higher_is_better=False),
}
"""What can be measured and so targeted, by its name in the ledger."""

AT_THRESHOLD = ("recall_at_threshold", "precision_at_threshold")
"""The metrics that `evaluate.recall` asks for."""
TIMED = tuple(name for name in METRICS if name.startswith(("latency_", "throughput_")))
"""The metrics that `latency: false` leaves out."""


class LanguageModelSpec(Spec):
    """How the training texts are spelled, letter by letter, helps to hear new ones.

    N-grams of letters, smoothed (Witten and Bell 1991), in a search over prefixes (Hannun et al.
    2014). Where a few words are all that is ever said, it knows them.
    """

    order: Annotated[int, Field(ge=1, le=12)] = 5
    """Letters of an n-gram."""
    weight: Annotated[float, Field(gt=0, le=10)] = 0.5
    """How much its say counts beside the network's."""


class RecallSpec(Spec):
    """From which probability on a class is called, so that few of it are missed.

    The highest such probability is chosen on the validation split; what it comes to on the test
    split is measured as `recall_at_threshold` and `precision_at_threshold`.
    """

    label: str
    """The class that is not to be missed."""
    at_least: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The share of it that is to be found in the validation split."""


class EvaluateSpec(Spec):
    """How the shipped file is measured."""

    views: Literal["none", "flip", 6, "speeds"] = "none"
    """Test-time averaging. Of images: `flip` (with the mirror image), `6` (shifted as well). Of
    recordings: `speeds` (a tenth slower and faster as well)."""
    baselines: bool = True
    """Also measure simple methods: the most frequent answer, a linear model of simple features."""
    latency: bool = True
    """Also measure time per prediction."""
    language_model: LanguageModelSpec | None = None
    """Of speech recognition: let a model of the training texts' letters have its say."""
    recall: RecallSpec | None = None
    """Of a classification: choose a threshold for a class that is not to be missed."""


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


Target = Annotated[
    str,
    AfterValidator(_check_target),
    Kind('a comparison and a number in quotes, such as `">= 0.93"`', _TARGET.pattern),
]


class ResourcesSpec(Spec):
    """Where the run takes place; never part of what is computed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """The processor; `auto` takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Processor threads; all cores where not said."""
