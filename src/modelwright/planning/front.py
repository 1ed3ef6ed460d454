"""What a search has measured: who meets the targets, who is nearest, and what would help.

All figures are of the validation split. A time is judged by the bound of its interval that is worse
for it, so that one quiet moment doesn't decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import ge, gt, le, lt

from modelwright.files import Json, JsonObject
from modelwright.recipe.targets import METRICS, parse_target

_MEETS = {">=": ge, ">": gt, "<=": le, "<": lt}
COSTS = ("size_bytes", "latency_p50_ms")
"""What a model costs, beside the metric that models are compared by."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Point:
    """A model that was packed and measured."""

    name: str
    """What was done to it, in a few words: `prune 0.5 → int8`."""
    figures: Mapping[str, Figure]
    """By metric."""
    seconds: float = 0.0
    """What making it took."""
    settings: JsonObject = field(default_factory=dict)
    """The settings of the recipe that make it again: `model`, `compress`."""

    def value(self, metric: str) -> float | None:
        """Return a figure as it is judged; `None` where it wasn't measured."""
        found = self.figures.get(metric)
        if found is None:
            return None
        known = METRICS[metric]
        if not known.is_timed:
            return found.value
        return found.low if known.higher_is_better else found.high

    def to_json(self) -> JsonObject:
        """Return the point as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Json]) -> Point:
        """Read what `to_json` returned."""
        figures = {name: Figure(**item) for name, item in value["figures"].items()}
        return Point(value["name"], figures, value["seconds"], value["settings"])


def least_after(metric: str, value: float, lost: float) -> str:
    """Return the target of a metric that may get worse by so much than a value.

    Of shares `lost` is the difference, of others a share of the value or of the whole range, as
    steps of `compress` measure what they cost.

    >>> least_after("accuracy", 0.93, 0.005), least_after("rmse", 2.0, 0.005)
    ('>= 0.925', '<= 2.01')
    """
    known = METRICS[metric]
    lost *= known.unit(value)
    sign, bound = (">=", value - lost) if known.higher_is_better else ("<=", value + lost)
    return f"{sign} {max(bound, 0.0):.9g}"


def distance(metric: str, target: str, point: Point) -> float | None:
    """Return by how much a point misses a target, as a share of the larger of both; met: 0 or less.

    It is `None` where the point has no such figure.

    >>> half = Point("", {"size_bytes": Figure(200.0, 200.0, 200.0)})
    >>> distance("size_bytes", "<= 100", half), distance("size_bytes", "<= 400", half)
    (0.5, -0.5)
    """
    value, (sign, bound) = point.value(metric), parse_target(target)
    if value is None:
        return None
    missing = value - bound if sign.startswith("<") else bound - value
    share = missing / max(abs(value), abs(bound), 1e-12)
    # `<` isn't met by what is equal.
    return max(share, 1e-12) if not _MEETS[sign](value, bound) else min(share, 0.0)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a search is for: the targets, and what is best among points that meet them.

    Where a target limits a cost, that is the best main metric; otherwise the least costs: size and
    time together, each as its logarithm.
    """

    targets: Mapping[str, str]
    metric: str
    """The main metric."""

    @property
    def is_cheapest(self) -> bool:
        """Whether the least costs are looked for."""
        return not any(name in LIMITED for name in self.targets)

    @property
    def higher_is_better(self) -> bool:
        """Of `value`."""
        return not self.is_cheapest and METRICS[self.metric].higher_is_better

    def value(self, point: Point) -> float:
        """Return what points are compared by."""
        if self.is_cheapest:
            return sum(math.log(max(point.value(name) or 1.0, 1e-9)) for name in COSTS)
        value = point.value(self.metric)
        return math.nan if value is None else value

    def distances(self, point: Point) -> dict[str, float]:
        """Return by how much each target is missed, 0 or less where it is met."""
        found = {name: distance(name, target, point) for name, target in self.targets.items()}
        return {name: share for name, share in found.items() if share is not None}

    def missed(self, point: Point) -> dict[str, float]:
        """Return the targets that a point misses, by how much."""
        return {name: share for name, share in self.distances(point).items() if share > 0}

    def rank(self, point: Point) -> tuple[float, float, float]:
        """Return the key that sorts points, the best first.

        First those that meet every target, the best first; then the others, by what is missing in
        all. Of equals the smaller.
        """
        value, missing = self.value(point), sum(self.missed(point).values())
        signed = -value if self.higher_is_better else value
        is_known = math.isfinite(signed)
        return missing, signed if is_known else math.inf, point.value("size_bytes") or 0.0

    def best(self, points: Iterable[Point]) -> Point:
        """Return the best point that meets every target, else the nearest one."""
        return min(points, key=self.rank)

    @property
    def compared(self) -> tuple[str, ...]:
        """The metrics that count: the main one, size, time, and what else targets limit."""
        limited = (name for name in self.targets if name in LIMITED)
        return tuple(dict.fromkeys((self.metric, *COSTS, *limited)))

    def front(self, points: Sequence[Point]) -> list[Point]:
        """Return the points that no other one beats: as good in all, and better in something.

        What counts are the metrics of `compared`.
        """

        def figures(point: Point) -> tuple[float, ...]:
            values = ((name, point.value(name)) for name in self.compared)
            return tuple(
                math.inf if value is None else -value if METRICS[name].higher_is_better else value
                for name, value in values
            )

        rows = [figures(point) for point in points]
        return [
            point
            for point, own in zip(points, rows, strict=True)
            if not any(
                other != own and all(x <= y for x, y in zip(other, own, strict=True))
                for other in rows
            )
        ]

    def what_would_help(self, points: Sequence[Point], start: Point) -> list[str]:
        """Return sentences on what would meet targets that every point misses.

        Args:
            points: all that was measured.
            start: the network before compression.
        """
        sentences = []
        rows = [(point, self.missed(point)) for point in points]
        for name, target in self.targets.items():
            alone = [(shares[name], point) for point, shares in rows if set(shares) == {name}]
            if not alone:
                continue
            _, point = min(alone, key=lambda pair: (pair[0], self.rank(pair[1])))
            sign, value = target.strip()[0], point.value(name)
            assert value is not None  # It has a distance.
            if METRICS[name].is_timed:  # It is measured anew, and times differ.
                value *= 1 + _TIME_SPREAD if sign == "<" else 1 - _TIME_SPREAD
            sentences.append(
                f'With `{name}: "{sign}= {_rounded(value, up=sign == "<")}"` `{point.name}` would '
                "meet every target"
            )
        if self.metric in self.missed(start):
            sentences.append(
                f"The network before compression misses `{self.metric}` itself: more data, a "
                "longer training (`train.epochs`, `train.budget`) or a larger network would help"
            )
        elif self.metric in self.targets:
            sentences.append(
                "More time (`train.budget`) lets networks that were cut train for longer, and more "
                "data teaches a small one more, `data.unlabelled` too"
            )
        return sentences


_TIME_SPREAD = 0.1
"""By how much a time may differ from one measurement to the next, as a share."""

LIMITED = {
    name
    for name, metric in METRICS.items()
    if name in ("size_bytes", "file_bytes", "parameters", "multiply_adds", "size_ratio")
    or metric.is_timed
}
"""The metrics that a target limits a cost by."""


def _rounded(value: float, *, up: bool) -> str:
    """Write a bound that a value meets, with three digits."""
    if value == 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    digits = (math.ceil if up else math.floor)(value / step) * step
    return f"{digits:_.0f}" if abs(digits) >= 1000 else f"{digits:.6g}"
