"""How many questions it takes to copy a model by asking it, and what a server's protections change.

The attacker has unlabelled samples of the kind that the model was made for (as in Orekondy et al.
2019, `Knockoff Nets`), asks about some, fits copies to the answers, and takes the one that agrees
best on questions that it wasn't fitted to. It learns logarithms of probabilities, so that a model
that is linear in what it sees is recovered (Tramèr et al. 2016, `Stealing Machine Learning Models
via Prediction APIs`, section 4.1). How often it agrees with the model on samples that were never
asked is its fidelity (Jagielski et al. 2020, `High Accuracy and High Fidelity Extraction`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from modelwright import metrics
from modelwright.arrays import Array, Bools, Doubles, Ints
from modelwright.data.dataset import Split
from modelwright.errors import DataError
from modelwright.evaluation.baselines import CENTROID_SIDE, LONGEST_TEXT
from modelwright.evaluation.features import Features, parts_of, reduced
from modelwright.evaluation.intervals import share
from modelwright.evaluation.least_squares import least_squares, ngram_weights, sparse_least_squares
from modelwright.kinds import InputKind, OutputKind
from modelwright.modelfile import Model
from modelwright.run import Observe, Progress, silent
from modelwright.transforms.ngrams import fit_ngrams

FEWEST_QUERIES = 16
_HELD_OUT, _FEWEST_SAMPLES = 2_000, 150
"""A third of the samples, and at most so many, measure the agreement and are never asked."""
TOLERANCE = 0.1
"""Predicted numbers agree within so many standard deviations of the model's answers."""
_FOLDS, _FEW_QUERIES = 5, 512
"""An attacker chooses by cross-validation; after more questions, by a fifth of them alone."""
_LANDMARKS, _MOST_NGRAMS = 1_000, 100_000
"""The most questions that a kernel is laid around, and the most n-grams of each kind."""
_LEAST = 1e-6
"""Stands for a probability or a distance of 0."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What of an answer a server tells, as `answers` in its settings says."""

    name: str
    digits: int | None = None
    top: int | None = None


class Agreement(NamedTuple):
    """How often a copy agrees with the model after some questions, with its exact 95 % interval."""

    queries: int
    value: float
    low: float
    high: float
    n: int
    """The samples that it was measured on."""
    copy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """The model that is asked, and what the attacker has."""

    model: Model
    samples: Split
    """Samples as the model takes them, whose targets aren't looked at."""
    features: Callable[[Array], Features]
    """Returns what a linear model of images or recordings sees `[N, D]` of gathered inputs."""
    texts: Callable[[Ints], list[str]]
    """Returns the texts in some rows of the store, where samples are texts."""
    queries: int
    """The most questions. Of images, those beyond the samples are mixed of two."""
    seed: int = 0


@dataclass(slots=True)
class Asked:
    """The questions, in order, and behind them the samples that measure; with the answers."""

    answers: Doubles
    """Probabilities `[N, K]`, or numbers `[N, D]`."""
    first: Ints | None
    """The label that the model predicts `[N]`; `None` where it predicts numbers."""
    queries: int
    num_mixed: int
    views: dict[str, Any]
    """What copies see of each."""

    def agrees(self, outputs: Array, rows: Ints | slice) -> Bools:
        """Say of which rows the outputs of a copy agree with the model."""
        if self.first is not None:
            return np.asarray(outputs.argmax(axis=1) == self.first[rows])
        apart = np.abs(outputs - self.answers[rows])
        return np.asarray((apart <= TOLERANCE * self.answers.std(axis=0)).all(axis=1))

    def chance(self) -> float:
        """Return the agreement of whoever always gives one answer, the best one."""
        rows = slice(self.queries, None)
        if self.first is not None:
            return float(np.bincount(self.first[rows]).max() / len(self.first[rows]))
        return float(self.agrees(self.answers.mean(axis=0, keepdims=True), rows).mean())

    def confidence(self, rows: slice) -> float | None:
        """Return the mean probability of the predicted label, which a server watches."""
        if self.first is None or not len(self.answers[rows]):
            return None
        return float(np.take_along_axis(self.answers, self.first[:, None], 1)[rows].mean())


def ask(attack: Attack, *, observe: Observe = silent) -> Asked:
    """Ask a model about all questions, and about the samples that measure, once.

    Raises:
        DataError: there are too few samples.
    """
    samples, random = attack.samples, np.random.default_rng(attack.seed)
    if len(samples) < _FEWEST_SAMPLES:
        raise DataError(
            f"there are {len(samples):,} different samples, and {_FEWEST_SAMPLES} are needed: two "
            "thirds to ask about, and a third to measure the agreement",
            fix="Give more of them with --data; they need no labels",
        )
    kind, order = attack.model.input.input_kind, random.permutation(len(samples))
    num_held_out = min(_HELD_OUT, len(samples) // 3)
    held_out, own = order[:num_held_out], order[num_held_out:]
    queries = attack.queries if kind == InputKind.IMAGE else min(attack.queries, len(own))
    num_mixed = max(queries - len(own), 0)
    own = own[:queries]
    rows = np.concatenate([own, random.choice(own, num_mixed), held_out])
    others = np.concatenate([own, random.choice(own, num_mixed), held_out])
    shares = random.uniform(0.5, 1.0, len(rows))
    parts: list[tuple[Doubles, Ints | None, dict[str, Features]]] = []
    for part in parts_of(len(rows)):
        observe(Progress("ask", part.start, len(rows)))
        inputs = samples.gather(rows[part])
        if num_mixed:
            weights = shares[part, None, None, None]
            mixed = weights * inputs + (1.0 - weights) * samples.gather(others[part])
            inputs = np.rint(mixed).astype(inputs.dtype)
        parts.append((*_answers(attack.model, inputs), dict(_seen(attack, kind, inputs))))
    observe(Progress("ask", len(rows), len(rows)))
    views = {name: np.concatenate([view[name] for *_, view in parts]) for name in parts[0][2]}
    if kind == InputKind.TEXT:
        texts = [text[:LONGEST_TEXT] for text in attack.texts(samples.rows[rows])]
        encoder = fit_ngrams(texts[:queries], most=_MOST_NGRAMS)
        views["words"] = ngram_weights(encoder, texts)
    firsts = [first for _, first, _ in parts if first is not None]
    answers = np.concatenate([answers for answers, *_ in parts])
    return Asked(answers, np.concatenate(firsts) if firsts else None, queries, num_mixed, views)


def _answers(model: Model, inputs: Array) -> tuple[Doubles, Ints | None]:
    outputs = np.asarray(model.outputs(inputs), dtype=np.float64)
    if model.spec.output_kind == OutputKind.REGRESSION:
        return outputs.reshape(len(outputs), -1), None
    chosen = model.inference.threshold
    decision = None if chosen is None else (model.labels.index(chosen.label), chosen.probability)
    scores = metrics.decision_scores(outputs, decision)
    return np.asarray(metrics.softmax(outputs), np.float64), scores.argmax(axis=1)


def _seen(attack: Attack, kind: InputKind, inputs: Array) -> Iterator[tuple[str, Features]]:
    if kind == InputKind.IMAGE:
        small = reduced(inputs, CENTROID_SIDE)
        yield "pixels", small.reshape(len(small), -1).astype(np.float32) / np.float32(255)
    if kind != InputKind.TEXT:
        yield "gradients" if kind == InputKind.IMAGE else "spectra", attack.features(inputs)


def copies(
    asked: Asked, compared: Sequence[Protection], *, observe: Observe = silent
) -> dict[str, list[Agreement]]:
    """Copy a model by its answers, by protection, after 16, 32, 64 … questions and after all."""
    doubled = (FEWEST_QUERIES << k for k in range(20))
    steps = [*(n for n in doubled if n < asked.queries), asked.queries]
    total = len(compared) * len(steps)
    found: dict[str, list[Agreement]] = {}
    for protection in compared:
        targets = _targets(asked, protection)
        for at, queries in enumerate(steps):
            observe(Progress("copy", len(found) * len(steps) + at, total))
            found.setdefault(protection.name, []).append(_copied(asked, targets, queries))
    observe(Progress("copy", total, total))
    return found


def told(probabilities: Doubles, first: Ints, protection: Protection) -> Doubles:
    """Return what is told of probabilities `[N, K]`; what isn't is spread over the other labels.

    `first` is the predicted label `[N]`, which is told first.
    """
    known, rows = probabilities.copy(), np.arange(len(first))[:, None]
    if protection.digits is not None:
        known = known.round(protection.digits)
    if protection.top is not None and protection.top < known.shape[1]:
        ranked = -probabilities
        ranked[rows, first[:, None]] = -np.inf
        hidden = np.argsort(ranked, axis=1, kind="stable")[:, protection.top :]
        known[rows, hidden] = 0.0
        left = np.maximum(1.0 - known.sum(axis=1, keepdims=True), 0.0)
        known[rows, hidden] = left / hidden.shape[1]
    return known


def _targets(asked: Asked, protection: Protection) -> dict[str, Doubles]:
    """Return what copies may be fitted to."""
    if asked.first is None:
        return {"numbers": asked.answers}
    known = told(asked.answers, asked.first, protection)
    least = _LEAST if protection.digits is None else 0.5 * 10.0**-protection.digits
    logs = np.log(np.maximum(known, least))
    labels = (asked.first[:, None] == np.arange(known.shape[1])).astype(np.float64)
    return {"probabilities": logs - logs.mean(axis=1, keepdims=True), "labels": labels}


def _copied(asked: Asked, targets: dict[str, Doubles], queries: int) -> Agreement:
    """Return the agreement of the copy that an attacker would choose after some questions."""
    own, tested = np.arange(queries), np.arange(asked.queries, len(asked.answers))
    folds = [own[at::_FOLDS] for at in range(_FOLDS if queries <= _FEW_QUERIES else 1)]
    learners = ("linear",) if "words" in asked.views else ("linear", "kernel")
    tried = list(product(asked.views, learners, targets))

    def hits(way: tuple[str, str, str], questions: Ints, rows: Ints) -> Bools:
        view, learner, form = way
        outputs = _fitted(asked.views[view], learner, targets[form], questions, rows)
        return asked.agrees(outputs, rows)

    def checked(way: tuple[str, str, str]) -> int:
        return sum(int(hits(way, np.setdiff1d(own, fold), fold).sum()) for fold in folds)

    best = max(tried, key=checked)
    found = hits(best, own, tested)
    low, high = share(int(found.sum()), len(found))
    copy = "{1} model of {0}, fitted to {2}".format(*best)
    return Agreement(queries, float(found.mean()), low, high, len(found), copy)


def _fitted(features: Any, learner: str, targets: Doubles, questions: Ints, rows: Ints) -> Doubles:
    """Fit a copy to some questions, and return its outputs for some rows."""
    train, test, aims = features[questions], features[rows], targets[questions]
    if not isinstance(features, np.ndarray):
        return sparse_least_squares(train, aims, test)
    if learner == "kernel":
        landmarks = train[:_LANDMARKS]
        scale = max(float(np.median(_squares(landmarks, landmarks))), _LEAST)
        train, test = (np.exp(-_squares(each, landmarks) / scale) for each in (train, test))
    return least_squares(train, aims, test)


def _squares(one: Features, other: Features) -> Features:
    """Return the squared distances `[N, M]` of rows."""
    lengths = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)
    return np.asarray(np.maximum(lengths - 2.0 * (one @ other.T), 0.0), dtype=np.float32)
