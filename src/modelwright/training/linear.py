"""Fitting a linear model: features of each sample, and a convex problem on them, by scikit-learn.

Nothing is learnt step by step here, so there is no epoch, no learning rate and no checkpoint; what
is chosen, by validation, is the strength of regularization. Labels that exclude each other are
fitted by logistic regression (Hastie, Tibshirani and Friedman 2009, section 4.4), labels that don't
by one for each, numbers by ridge regression (section 3.4.1).
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from modelwright.data import Dataset, Split
from modelwright.data.ragged import Joined
from modelwright.errors import RequestError, TrainingError, require
from modelwright.files import append_line
from modelwright.models.building import output_layer
from modelwright.models.candidate import Candidate
from modelwright.models.linear import FeaturesOnly, HogLinear, NgramLinear
from modelwright.models.network import ImageNetwork
from modelwright.recipe.model import LinearModel
from modelwright.recipe.spec import seconds
from modelwright.recipe.targets import METRICS
from modelwright.recipe.train import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    LossSpec,
    MseLoss,
    TrainSpec,
)
from modelwright.run import Progress, Run, is_main_process, resident_bytes, silent
from modelwright.tasks import Task
from modelwright.training.objectives import resolve_loss
from modelwright.training.precision import Precision
from modelwright.training.stopping import stopped_at_once
from modelwright.training.validation import outputs_of

Doubles = NDArray[np.float64]
ImageFeatures = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Returns features `[N, D]` of pixels `[N, H, W, C]`."""
SPARSE_C, DENSE_C = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0), (1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0)
"""The values of `C` that `auto` chooses from: for TF-IDF weights, and for standardised features."""
_SPARSE_START, _DENSE_START = SPARSE_C.index(10.0), DENSE_C.index(0.01)
"""Where the search begins."""
MOST_VALUES = 250_000_000
"""The most features of all samples: 1 GB."""
MOST_SCORES = 100_000_000
"""The most scores of exclusive classes of all samples: three copies of 800 MB while fitting."""
MOST_WEIGHTS = 40_000_000
"""The most weights of a linear model."""
_LEAST_DEVIATION = 0.1
"""Features that vary less than this share of the typical deviation aren't magnified further."""
_ITERATIONS = 1000
_SAMPLES_PROVED, _TOLERANCE = 64, 1e-3
"""On how many samples the network must answer as scikit-learn's model, and how closely (logits)."""


@dataclass(frozen=True, slots=True)
class LinearReport:
    """What happened in fitting."""

    C: float
    num_features: int
    samples: int
    """How many training samples it was fitted to."""
    seconds: float
    tried: tuple[Mapping[str, float], ...]
    """The validation scores of each `C`."""


def fit_linear(
    candidate: Candidate,
    spec: LinearModel,
    train: TrainSpec,
    data: Dataset,
    run: Run,
    *,
    task: Task,
    image_features: ImageFeatures | None = None,
) -> tuple[Candidate, LinearReport]:
    """Fit the last layer of a candidate's network to the features below it.

    Args:
        candidate: a linear network; it isn't changed.
        spec: the recipe's section `model`.
        train: the recipe's section `train`, of which `loss` and `budget` count.
        data: the training and validation splits.
        run: the context of this stage.
        task: gives the scores that choose `C`.
        image_features: computes the features of pixels in place of the network.

    Returns:
        The fitted candidate, and what happened.

    Raises:
        StoppedError: a stop was requested.
        RequestError: there are too many features and labels.
        TrainingError: the network doesn't answer as the model that was fitted.
    """
    begun = time.monotonic()
    _, head = output_layer(candidate.network)
    if head.weight.numel() > MOST_WEIGHTS:
        raise RequestError(
            f"{head.in_features:,} features and {head.out_features:,} outputs are too many for a "
            "linear model",
            fix="Choose another `model`",
        )
    loss = resolve_loss(train.loss, task.output_kind)
    num_scores = head.out_features if isinstance(loss, CrossEntropyLoss) else 1
    with stopped_at_once():
        part = _fitted_part(data.train, head.in_features, num_scores, run)
        known = _features(candidate.network, part, run, image_features)
        scaler = _Scaler.of(known.values, is_common=_has_common_unit(candidate.network))
        fitting = _Fitting(
            scaler.scaled(known.values),
            known.targets,
            head.out_features,
            loss,
            run.seed,
        )
        held_out = None
        if data.validation is not None and len(data.validation):
            held_out = _features(candidate.network, data.validation, run, image_features)
            held_out = replace(held_out, values=scaler.scaled(held_out.values))
        names = (*data.labels, *(data.validation.unknown if data.validation else ()))
        search = _Search(fitting, spec, train.budget, task, run, begun, names, held_out)
        chosen = run.decisions.decide("C", search.choose)
        weights = search.found.get(chosen["C"]) or fitting.fit(chosen["C"])
    unscaled = scaler.unscaled(weights)
    fitted = _with_weights(candidate, unscaled)
    _prove(fitted.network, known.split, run, weights.outputs(fitting.features[:_SAMPLES_PROVED]))
    if fitted.architecture["name"] == "linear":
        fitted = replace(fitted, architecture={**fitted.architecture, "C": chosen["C"]})
    return fitted, LinearReport(
        C=chosen["C"],
        num_features=head.in_features,
        samples=len(known.split),
        seconds=time.monotonic() - begun,
        tried=tuple(chosen["tried"]),
    )


@dataclass(frozen=True, slots=True)
class FitTiming:
    """What fitting will take, by a part of the training split."""

    seconds: float
    feature_bytes: int
    """Bytes of the features of all samples, as they are held while a model is fitted."""
    held_bytes: int | None
    """What this process held after it; `None` where the system doesn't say."""


def time_fit(
    candidate: Candidate,
    spec: LinearModel,
    train: TrainSpec,
    data: Dataset,
    run: Run,
    *,
    task: Task,
    image_features: ImageFeatures | None = None,
    samples: int = 1000,
) -> FitTiming:
    """Fit a part of the training split once, `samples` of it, and say what the whole will take."""
    size = len(data.train)
    part = data.train.take(np.unique(np.linspace(0, size - 1, samples).astype(np.int64)))
    quiet = replace(run, observe=silent)
    # What is read and set up once is no part of a sample's time.
    require("sklearn.linear_model", extra="train", purpose="to fit a linear model")
    _features(candidate.network, part.take(np.arange(min(len(part), 8))), quiet, image_features)
    begun = time.monotonic()
    known = _features(candidate.network, part, quiet, image_features)
    features_s = time.monotonic() - begun
    _, head = output_layer(candidate.network)
    is_common = _has_common_unit(candidate.network)
    scaled = _Scaler.of(known.values, is_common=is_common).scaled(known.values)
    loss = resolve_loss(train.loss, task.output_kind)
    quarter = len(part) // 4
    grid, start = _grid(spec.C, is_sparse=not isinstance(scaled, np.ndarray))

    def fitted(rows: int) -> tuple[int, float]:
        fitting = _Fitting(scaled[:rows], known.targets[:rows], head.out_features, loss, run.seed)
        begun = time.monotonic()
        fitting.fit(grid[start] if spec.C == "auto" else grid[-1])
        return rows, (time.monotonic() - begun) * fitting.lacking_classes

    whole = fitted(len(part))
    is_told = quarter > 1 and len(np.unique(known.targets[:quarter], axis=0)) > 1
    fit_s = _forecast(size, whole, fitted(quarter) if is_told else None)
    fits = _USUAL_FITS if spec.C == "auto" else len(grid)
    held_out = 0 if data.validation is None else len(data.validation)
    all_s = features_s * (size + held_out) / len(part) + fit_s * fits
    budget = all_s if train.budget is None else seconds(train.budget)
    # In double precision, with the numbers of the columns beside where few aren't 0.
    values = scaled.size * 8 if isinstance(scaled, np.ndarray) else scaled.nnz * 12
    return FitTiming(min(all_s, budget), values * size // len(part), resident_bytes())


_USUAL_FITS = 4
"""How many values of `C` are usually tried."""


def _grid(
    given: float | tuple[float, ...] | Literal["auto"], *, is_sparse: bool
) -> tuple[tuple[float, ...], int]:
    """Return the values of `C` to choose from, and the place of the first one to be tried."""
    if given == "auto":
        return (SPARSE_C, _SPARSE_START) if is_sparse else (DENSE_C, _DENSE_START)
    grid = given if isinstance(given, tuple) else (given,)
    return grid, len(grid) // 2


def _forecast(size: int, part: tuple[int, float], fewer: tuple[int, float] | None) -> float:
    """Return the seconds for `size` samples by those for a part of them, and for fewer still.

    Of two parts the difference goes by the samples, and the rest by the weights, whatever the
    samples.
    """
    count, part_s = part
    if fewer is None:
        return part_s * size / count
    slope = max(part_s - fewer[1], 0.0) / (count - fewer[0])
    return part_s + slope * (size - count)


# -- features ----------------------------------------------------------------------------------


Matrix = Any
"""Features `[N, D]`: a float32 array, or of n-grams a sparse matrix."""


@dataclass(frozen=True, slots=True)
class _Features:
    """The features of some samples."""

    split: Split
    """These samples, in their order."""
    values: Matrix

    @property
    def targets(self) -> NDArray[Any]:
        """The samples' targets `[N, …]`."""
        targets: NDArray[Any] = self.split.targets
        return targets


def _fitted_part(train: Split, num_features: int, num_scores: int, run: Run) -> Split:
    """Return a training split, or as many samples of it as memory allows, drawn."""
    by_scores = max(MOST_SCORES // num_scores, 1)
    by_features = max(MOST_VALUES // num_features, 1)
    is_sparse = isinstance(train.inputs, Joined)
    most = by_scores if is_sparse else min(by_scores, by_features)
    if len(train) <= most:
        return train
    what = "scores of all classes" if most == by_scores else "features"
    run.say(
        f"The linear model is fitted to {most:,} of {len(train):,} training samples, drawn at "
        f"random: the {what} of all would take too much memory"
    )
    drawn = np.random.default_rng(run.seed).choice(len(train), size=most, replace=False)
    return train.take(np.sort(drawn))


def _features(
    network: nn.Module, split: Split, run: Run, image_features: ImageFeatures | None
) -> _Features:
    """Return the features of a split's samples."""
    if isinstance(network, NgramLinear):
        return _Features(split, _sparse(split, network.head.in_features))
    if image_features is not None:
        return _Features(split, _of_images(image_features, split, run))
    numbered = replace(split, targets=np.arange(len(split)))
    values, order, done = [], [], 0
    for part, positions in _passed(FeaturesOnly(network), numbered, run):
        values.append(part)
        order.append(positions)
        done += len(positions)
        run.observe(Progress("features", done, len(split)))
    return _Features(split.take(np.concatenate(order)), np.concatenate(values))


def _of_images(image_features: ImageFeatures, split: Split, run: Run) -> NDArray[np.float32]:
    values = []
    for start in range(0, len(split), _IMAGES_AT_ONCE):
        values.append(image_features(split.gather(slice(start, start + _IMAGES_AT_ONCE))))
        run.observe(Progress("features", min(start + _IMAGES_AT_ONCE, len(split)), len(split)))
    return np.concatenate(values)


_IMAGES_AT_ONCE = 64


def _sparse(split: Split, size: int) -> Matrix:
    """Return the n-grams of a split as a sparse matrix `[N, V]`."""
    sparse = require("scipy.sparse", extra="train", purpose="to fit a linear model")
    assert isinstance(split.inputs, Joined)
    numbers, weights = (part.take(split.rows) for part in split.inputs.parts)
    ends = np.cumsum(numbers.lengths)
    # A row's values stand together in the view, wherever the row before it stands.
    place = np.repeat(numbers.starts - (ends - numbers.lengths), numbers.lengths)
    place += np.arange(len(place))
    return sparse.csr_matrix(
        (weights.values[place], numbers.values[place], np.concatenate([[0], ends])),
        shape=(len(split), size),
    )


def _passed(
    network: nn.Module, split: Split, run: Run
) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
    """Yield a network's outputs over a split beside the targets."""
    yield from outputs_of(
        network, split, precision=Precision("fp32", run.device), batch_size=128, at_once=1 << 21
    )


def _has_common_unit(network: nn.Module) -> bool:
    """Say whether a network's features are weighed among each other as they are."""
    return isinstance(network, ImageNetwork) and isinstance(network.body, HogLinear)


@dataclass(frozen=True, slots=True)
class _Scaler:
    """Standardises features; the weights of n-grams stay as they are."""

    mean: Doubles | float
    scale: Doubles | float

    @staticmethod
    def of(values: Matrix, *, is_common: bool) -> _Scaler:
        """Return the mean and the deviation of each feature of the training split.

        With `is_common` all have the same one, so that what varies more counts more.
        """
        if not isinstance(values, np.ndarray):
            return _Scaler(0.0, 1.0)
        mean = values.mean(axis=0, dtype=np.float64)
        deviation = values.std(axis=0, dtype=np.float64)
        typical = float(np.sqrt(np.mean(deviation**2))) or 1.0
        if is_common:
            return _Scaler(mean, np.full_like(deviation, typical))
        return _Scaler(mean, np.maximum(deviation, _LEAST_DEVIATION * typical))

    def scaled(self, values: Matrix) -> Matrix:
        """Return features as they are fitted."""
        if not isinstance(values, np.ndarray):
            return values
        values -= self.mean  # In place: they may take a gigabyte.
        values /= self.scale
        return values

    def unscaled(self, weights: _Weights) -> _Weights:
        """Return weights of scaled features as those of the features themselves."""
        coefficients = weights.coefficients / self.scale
        shift = coefficients @ self.mean if isinstance(self.mean, np.ndarray) else 0.0
        return _Weights(coefficients, weights.intercepts - shift)


# -- fitting -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Weights:
    """What was fitted: outputs are `features @ coefficients.T + intercepts`."""

    coefficients: Doubles
    """`[K, D]`."""
    intercepts: Doubles
    """`[K]`."""

    def outputs(self, features: Any) -> Doubles:
        """Return the outputs `[N, K]` for features `[N, D]`."""
        product: Doubles = features @ self.coefficients.T
        return product + self.intercepts


@dataclass(frozen=True, slots=True)
class _Fitting:
    """The convex problem, but for `C`."""

    features: Matrix
    targets: NDArray[Any]
    num_outputs: int
    loss: LossSpec
    seed: int

    @property
    def is_sparse(self) -> bool:
        """Whether the features are n-grams."""
        return not isinstance(self.features, np.ndarray)

    @property
    def lacking_classes(self) -> float:
        """How many times as long a fit takes where samples lack none of the exclusive classes."""
        if not isinstance(self.loss, CrossEntropyLoss) or self.num_outputs <= 2:
            return 1.0
        return self.num_outputs / len(np.unique(self.targets))

    @property
    def _is_balanced(self) -> bool:
        return isinstance(self.loss, CrossEntropyLoss) and self.loss.class_weights == "balanced"

    def fit(self, c: float) -> _Weights:
        """Return the weights for one `C`."""
        with warnings.catch_warnings():
            # Of many iterations that ended before the tolerance: validation judges what came out.
            warnings.simplefilter("ignore")
            if isinstance(self.loss, MseLoss):
                return self._ridge(c)
            if isinstance(self.loss, BinaryCrossEntropyLoss):
                return self._each(c)
            return self._exclusive(c)

    def _logistic(self, c: float, *, is_binary: bool) -> Any:
        linear = require("sklearn.linear_model", extra="train", purpose="to fit a linear model")
        # Of two classes and many features, coordinate descent of the dual problem is ten times as
        # fast (Hsieh et al. 2008).
        dual = is_binary and self.is_sparse
        return linear.LogisticRegression(
            C=c,
            solver="liblinear" if dual else "lbfgs",
            dual=dual,
            tol=1e-4,
            max_iter=_ITERATIONS,
            class_weight="balanced" if self._is_balanced else None,
            random_state=self.seed % 2**32,
        )

    def _exclusive(self, c: float) -> _Weights:
        present = np.unique(self.targets)
        weights = np.zeros((self.num_outputs, self.features.shape[1]))
        # A label that none of the drawn samples has is never predicted.
        intercepts = np.full(self.num_outputs, _NEVER)
        intercepts[present] = 0.0
        if len(present) > 1:
            model = self._logistic(c, is_binary=len(present) == 2)
            model.fit(self.features, self.targets)
            coefficients, offsets = model.coef_, model.intercept_
            if len(present) == 2:  # As logits of two classes that exclude each other.
                coefficients = np.concatenate([-coefficients, coefficients]) / 2
                offsets = np.concatenate([-offsets, offsets]) / 2
            weights[present], intercepts[present] = coefficients, offsets
        return _Weights(weights, intercepts)

    def _each(self, c: float) -> _Weights:
        weights = np.zeros((self.num_outputs, self.features.shape[1]))
        intercepts = np.zeros(self.num_outputs)
        for label in range(self.num_outputs):
            there = self.targets[:, label].astype(np.int64)
            count = int(there.sum())
            if count in (0, len(there)):
                chance = (count + 0.5) / (len(there) + 1.0)
                intercepts[label] = np.log(chance / (1 - chance))
                continue
            model = self._logistic(c, is_binary=True).fit(self.features, there)
            weights[label], intercepts[label] = model.coef_[0], model.intercept_[0]
        return _Weights(weights, intercepts)

    def _ridge(self, c: float) -> _Weights:
        linear = require("sklearn.linear_model", extra="train", purpose="to fit a linear model")
        targets = self.targets.reshape(len(self.targets), -1).astype(np.float64)
        mean, deviation = targets.mean(axis=0), targets.std(axis=0)
        deviation = np.where(deviation > 0, deviation, 1.0)
        model = linear.Ridge(
            alpha=1.0 / c, solver="sparse_cg" if self.is_sparse else "cholesky", tol=1e-6
        )
        model.fit(self.features, (targets - mean) / deviation)
        coefficients = np.atleast_2d(model.coef_).astype(np.float64) * deviation[:, None]
        return _Weights(coefficients, np.atleast_1d(model.intercept_) * deviation + mean)


_NEVER = -50.0
"""The logit of a label that isn't predicted."""


@dataclass(slots=True)
class _Search:
    """Chooses `C` by validation."""

    fitting: _Fitting
    spec: LinearModel
    budget: str | None
    task: Task
    run: Run
    begun: float
    names: Sequence[str]
    """All labels of the validation split."""
    validation: _Features | None
    found: dict[float, _Weights] = field(default_factory=dict)
    tried: dict[float, dict[str, float]] = field(default_factory=dict)

    def choose(self) -> dict[str, Any]:
        """Return the chosen `C`, the validation scores of each that was tried, and why."""
        asked = self.spec.C
        if isinstance(asked, float):
            return {"C": asked, "why": "asked for", "tried": []}
        grid, start = _grid(asked, is_sparse=self.fitting.is_sparse)
        if self.validation is None:
            return {"C": grid[start], "why": "there is no validation split to choose by"} | {
                "tried": []
            }
        if asked == "auto":
            self._climb(grid, start)
        else:
            for c in grid:
                if not self._try(c, len(grid)):
                    break
        best = max(self.tried, key=self._rank)
        tried = [{"C": c, **scores} for c, scores in self.tried.items()]
        return {"C": best, "why": f"the best {self.task.select_by} on validation", "tried": tried}

    def _climb(self, grid: Sequence[float], start: int) -> None:
        """Try the values around the best one so far, until both of its neighbours are worse."""
        if not self._try(grid[start], len(grid)):
            return
        for way in (1, -1):
            at = start
            while 0 <= at + way < len(grid):
                if not self._try(grid[at + way], len(grid)):
                    return
                if self._rank(grid[at + way]) <= self._rank(grid[at]):
                    break
                at += way
            if at != start:
                return

    def _try(self, c: float, most: int) -> bool:
        """Fit and score one value; say whether there is time for another that takes as long."""
        assert self.validation is not None
        before = time.monotonic()
        weights = self.fitting.fit(c)
        outputs = weights.outputs(self.validation.values)
        scores = dict(self.task.scores(outputs, self.validation.targets, self.names))
        self.tried[c] = scores
        if max(self.tried, key=self._rank) == c:  # Weights of many labels take a gigabyte.
            self.found = {c: weights}
        now = time.monotonic()
        spent = now - self.begun
        record = {f"val_{name}": value for name, value in scores.items()}
        record |= {"C": c, "seconds": round(spent, 3)}
        if is_main_process():
            append_line(self.run.folder / "metrics.jsonl", record)
        self.run.observe(Progress("train", len(self.tried), most, values=record))
        return self.budget is None or spent + now - before < seconds(self.budget)

    def _rank(self, c: float) -> tuple[float, float, float]:
        """Return what is larger for a better value; of equal ones the smaller is better."""
        scores, name = self.tried[c], self.task.select_by
        value = scores[name] if METRICS[name].higher_is_better else -scores[name]
        tie = 0.0 if self.task.ties_by is None else -scores.get(self.task.ties_by, 0.0)
        return value, tie, -c


def _with_weights(candidate: Candidate, weights: _Weights) -> Candidate:
    """Return a candidate with a fitted last layer."""
    network = copy.deepcopy(candidate.network).eval()
    _, head = output_layer(network)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weights.coefficients))
        head.bias.copy_(torch.from_numpy(weights.intercepts))
    return replace(candidate, network=network)


def _prove(network: nn.Module, split: Split, run: Run, expected: Doubles) -> None:
    """Compare the network's outputs on a few samples with the fitted model's `[N, K]`.

    Raises:
        TrainingError: they differ.
    """
    some = replace(split.take(np.arange(len(expected))), targets=np.arange(len(expected)))
    parts = list(_passed(network, some, run))
    outputs = np.concatenate([values for values, _ in parts])
    order = np.concatenate([positions for _, positions in parts])
    largest = np.abs(outputs - expected[order]).max()
    unit = max(1.0, float(np.abs(expected).max()))
    if not largest <= _TOLERANCE * unit:
        raise TrainingError(
            f"the network answers otherwise than the fitted linear model: by {largest:.2g}",
            fix="Please report this with the recipe",
        )
