"""Charts as inline SVG, coloured by the page's own variables so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from modelwright.metrics import Reliability
from modelwright.recipe.targets import METRICS
from modelwright.report.words import clipped, is_share, name_of, percent, plain, short, wide

_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 16.0, 12.0, 44.0
_WIDTH, _HEIGHT = 440.0, 260.0
_SMALLEST, _LARGEST = 1e-12, 1e30
"""Smaller values are drawn as 0; larger ones, of a loss that diverged, aren't drawn."""
_CHARACTER = 8.0
"""The approximate width of a character in the charts."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    """A variable of the page: `--series-1`."""


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return round numbers that cover a range: steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not math.isfinite(low) or not math.isfinite(high):
        return [0.0, 1.0]
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * size or size < _SMALLEST:
        around = size if size >= _SMALLEST else 1.0
        low, high = low - 0.5 * around, high + 0.5 * around
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def whole_ticks(low: float, high: float) -> list[float]:
    """Return whole numbers within a range, its ends among them: for epochs.

    >>> whole_ticks(1.0, 20.0)
    [1.0, 5.0, 10.0, 15.0, 20.0]
    """
    inside = [tick for tick in ticks(low, high) if low < tick < high and tick == round(tick)]
    near = (high - low) / 12
    kept = [tick for tick in inside if tick - low > near and high - tick > near]
    return list(dict.fromkeys((low, *kept, high)))


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    mark: float | None = None,
    write: Callable[[float], str] = short,
) -> str:
    """Return a chart of curves over epochs with a legend; empty where no curve has a point.

    Args:
        lines: the curves; points that aren't finite are left out.
        title: what is shown, and which direction is better.
        mark: the epoch at which a vertical line is drawn.
        write: formats a number of the vertical axis.
    """
    drawn = [(line, [point for point in line.points if _can_be_drawn(point)]) for line in lines]
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    if not xs:
        return ""
    first, last = min(xs), max(xs)
    up = ticks(min(ys), max(ys))
    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def along(x: float) -> float:
        share = (x - first) / (last - first) if last > first else 0.5
        return _LEFT + 8 + share * (right - _LEFT - 16)

    def upright(y: float) -> float:
        return floor - (y - up[0]) / (up[-1] - up[0]) * (floor - _TOP)

    parts = [_open(_WIDTH, _HEIGHT, title)]
    for y in up:
        at = upright(y)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{write(y)}</text>'
        )
    for x in whole_ticks(first, last):
        parts.append(
            f'<text x="{along(x):.1f}" y="{floor + 18}" text-anchor="middle">{short(x)}</text>'
        )
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">epoch</text>'
    )
    if mark is not None and first <= mark <= last:
        at = along(mark)
        parts.append(f'<line class="mark" x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{floor}"/>')
    parts += [_curve([(along(x), upright(y)) for x, y in at], line.colour) for line, at in drawn]
    parts.append("</svg>")
    names = "".join(
        f'<span><i style="background:var({line.colour})"></i>{escape(line.name)}</span>'
        for line in lines
    )
    shown = f'<p class="title">{escape(title)}</p>{"".join(parts)}<figcaption>{names}</figcaption>'
    return f'<figure class="chart">{shown}</figure>'


def _curve(points: Sequence[tuple[float, float]], colour: str) -> str:
    """Return a curve through points in pixels, each marked where they are few."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    line = f'<polyline fill="none" stroke="var({colour})" stroke-width="2" points="{path}"/>'
    marked = points if len(points) < 40 else []
    return line + "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.8" fill="var({colour})"/>' for x, y in marked
    )


GENERATED = ("bleu", "rouge_l")
"""Metrics of the texts that are generated on the validation split during training."""


def learning_curves(
    history: Sequence[Mapping[str, float]],
    *,
    select_by: str,
    chosen: int | None,
    samples: str = "samples",
) -> list[str]:
    """Return charts of the loss and of the metric that chose the epoch, over the epochs.

    Args:
        history: one record an epoch.
        select_by: the metric that chose the epoch.
        chosen: the index of the epoch that was chosen, which is marked.
        samples: the word for several samples: `images`.
    """
    mark = history[chosen]["epoch"] if chosen is not None else None

    def line(name: str, key: str, colour: str) -> Line:
        points = [(record["epoch"], record[key]) for record in history if key in record]
        return Line(name, points, colour)

    losses = [
        line(f"training {samples}", "train_loss", "--series-1"),
        line(f"validation {samples}", "val_log_loss", "--series-2"),
    ]
    losses = [curve for curve in losses if any(_can_be_drawn(point) for point in curve.points)]
    charts = [line_chart(losses, title="Loss: lower is better", mark=mark)]
    key = f"val_{select_by}"
    if key != "val_log_loss":
        name = name_of(select_by)
        better = "higher" if METRICS[select_by].higher_is_better else "lower"
        charts.append(
            line_chart(
                [line(f"validation {samples}", key, "--series-2")],
                title=f"{name[:1].upper()}{name[1:]}: {better} is better",
                mark=mark,
                write=_coarse_percent if is_share(select_by) else short,
            )
        )
    charts += [
        line_chart(
            [line(f"validation {samples}", f"val_{name}", "--series-2")],
            title=f"{name_of(name)} of some generated texts: higher is better",
            mark=mark,
            write=short,
        )
        for name in GENERATED
        if any(f"val_{name}" in record for record in history)
    ]
    return [chart for chart in charts if chart]


def confusion_chart(cells: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Return the confusion matrix `[K, K]` as coloured squares with counts."""
    size = len(labels)
    side = 42.0 if size <= 12 else 22.0
    widest = max((wide(clipped(label)) for label in labels), default=1)
    left = top = 36.0 + _CHARACTER * widest
    width, height = left + side * size + 6, top + side * size + 6
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    middle = side * size / 2
    parts = [
        _open(width, height, "Confusion matrix: a row is a true class, a column a predicted one"),
        f'<text class="axis" x="{left + middle:.1f}" y="14" text-anchor="middle">predicted</text>',
        f'<text class="axis" transform="translate(14 {top + middle:.1f}) rotate(-90)" '
        'text-anchor="middle">true</text>',
    ]
    for row, label in enumerate(labels):
        at = side * (row + 0.5)
        name = escape(clipped(label))
        parts.append(
            f'<text x="{left - 6:.1f}" y="{top + at + 4:.1f}" text-anchor="end">{name}</text>'
            f'<text transform="translate({left + at + 4:.1f} {top - 6:.1f}) rotate(-90)">'
            f"{name}</text>"
        )
        for column in range(size):
            title = (
                f"{plain(label)} predicted as {plain(labels[column])}: {int(cells[row, column]):,}"
            )
            parts.append(
                _square(
                    left + side * column,
                    top + side * row,
                    side,
                    count=int(cells[row, column]),
                    share=float(shares[row, column]),
                    is_right=row == column,
                    title=title,
                )
            )
    parts.append("</svg>")
    least = 0.75 * width if size > 12 else 0.0
    return _figure(parts, width, least=least)


def _square(
    x: float, y: float, side: float, *, count: int, share: float, is_right: bool, title: str
) -> str:
    # The square root keeps rare mistakes visible.
    strength = math.sqrt(share)
    colour = f"var({'--good' if is_right else '--bad'})" if count else "var(--ground)"
    opacity = 0.08 + 0.86 * strength if count else 1.0
    drawn = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{side - 1:.1f}" height="{side - 1:.1f}" '
        f'fill="{colour}" fill-opacity="{opacity:.3f}"><title>{escape(title)}</title></rect>'
    )
    number = short(count)
    if count and len(number) * _CHARACTER < side:
        tone = "on" if strength > 0.6 else "cell"
        drawn += (
            f'<text class="{tone}" x="{x + side / 2:.1f}" y="{y + side / 2 + 4:.1f}" '
            f'text-anchor="middle">{number}</text>'
        )
    return drawn


def reliability_chart(table: Reliability) -> str:
    """Return a reliability diagram: accuracy by confidence, beside the diagonal."""
    size, low, top = 340.0, 62.0, 12.0
    span = size - low - 26.0
    floor = top + span
    parts = [_open(size, floor + 46, "Reliability: accuracy by confidence")]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        at, along = floor - tick * span, low + tick * span
        parts.append(
            f'<line class="grid" x1="{low}" y1="{at:.1f}" x2="{low + span}" y2="{at:.1f}"/>'
            f'<text x="{low - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:.0%}</text>'
            f'<text x="{along:.1f}" y="{floor + 18:.1f}" text-anchor="middle">{tick:.0%}</text>'
        )
    bins = len(table.samples)
    most = max(int(table.samples.max()), 1)
    for number in range(bins):
        count = int(table.samples[number])
        if not count:
            continue
        right = float(table.hits[number]) / count
        x = low + number / bins * span
        predictions = "1 prediction" if count == 1 else f"{count:,} predictions"
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{floor - right * span:.1f}" '
            f'width="{span / bins - 2:.1f}" height="{right * span:.1f}" fill="var(--series-1)" '
            f'fill-opacity="{0.2 + 0.8 * math.sqrt(count / most):.3f}">'
            f"<title>{predictions}, {percent(right)} right</title></rect>"
        )
    ends = f'x1="{low}" y1="{floor}" x2="{low + span}" y2="{top}"'
    parts.append(
        f'<line class="halo" {ends}/><line class="mark" {ends}/>'
        f'<text class="axis" x="{low + span / 2}" y="{floor + 40}" text-anchor="middle">'
        "confidence</text>"
        f'<text class="axis" transform="translate(14 {top + span / 2}) rotate(-90)" '
        'text-anchor="middle">accuracy</text></svg>'
    )
    return _figure(parts, size)


MOST_POINTS = 2000


def scatter_chart(predicted: NDArray[np.float64], targets: NDArray[np.float64], name: str) -> str:
    """Return a scatter plot of predictions against the truth, with the diagonal.

    Args:
        predicted: `[N]`; at most `MOST_POINTS` evenly spaced ones are drawn.
        targets: `[N]`.
        name: what is predicted.
    """
    size, low, top = 360.0, 62.0, 12.0
    span = size - low - 26.0
    floor = top + span
    both = np.concatenate([predicted, targets])
    marks = ticks(float(both.min()), float(both.max()))
    first, last = marks[0], marks[-1]

    def place(value: float) -> float:
        return (value - first) / (last - first) * span

    parts = [_open(size, floor + 46, f"{name}: predicted against true")]
    for tick in marks:
        at, along = floor - place(tick), low + place(tick)
        parts.append(
            f'<line class="grid" x1="{low}" y1="{at:.1f}" x2="{low + span}" y2="{at:.1f}"/>'
            f'<text x="{low - 6}" y="{at + 4:.1f}" text-anchor="end">{short(tick)}</text>'
            f'<text x="{along:.1f}" y="{floor + 18:.1f}" text-anchor="middle">{short(tick)}</text>'
        )
    for at in np.linspace(0, len(targets) - 1, min(len(targets), MOST_POINTS)).astype(int):
        x, y = low + place(float(targets[at])), floor - place(float(predicted[at]))
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="var(--series-1)" fill-opacity=".45"/>'
        )
    parts.append(
        f'<line class="mark" x1="{low}" y1="{floor}" x2="{low + span}" y2="{top}"/>'
        f'<text class="axis" x="{low + span / 2}" y="{floor + 40}" text-anchor="middle">'
        f"true {escape(plain(name))}</text>"
        f'<text class="axis" transform="translate(14 {top + span / 2}) rotate(-90)" '
        f'text-anchor="middle">predicted</text></svg>'
    )
    return _figure(parts, size)


def _can_be_drawn(point: tuple[float, float]) -> bool:
    return abs(point[0]) < _LARGEST and abs(point[1]) < _LARGEST  # False for NaN too.


def _coarse_percent(share: float) -> str:
    return f"{share * 100:.4g} %"


def _open(width: float, height: float, title: str) -> str:
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img"><title>{escape(title)}</title>'


def _figure(parts: Sequence[str], width: float, *, least: float = 0.0) -> str:
    """Return a chart of a maximal width, which scrolls where the page is narrower than `least`."""
    return (
        f'<figure class="chart" style="max-width:{width + 40:.0f}px">'
        f'<div style="min-width:{least:.0f}px">{"".join(parts)}</div></figure>'
    )
