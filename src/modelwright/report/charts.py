"""Charts as inline SVG, coloured by the page's own variables so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from modelwright.arrays import Doubles, Ints
from modelwright.metrics import Reliability
from modelwright.recipe.targets import METRICS
from modelwright.report.words import clipped, figure, is_share, name_of, percent, plain, short, wide

_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 16.0, 12.0, 44.0
_WIDTH, _HEIGHT = 440.0, 260.0
_SQUARE, _SQUARE_LEFT = 270.0, 62.0
"""The side of a square plot, and the space left of it."""
_DIAGONAL = f'x1="{_SQUARE_LEFT}" y1="{_TOP + _SQUARE}" x2="{_SQUARE_LEFT + _SQUARE}" y2="{_TOP}"'
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

    Points that aren't finite are left out. A vertical line is drawn at the epoch `mark`; `write`
    formats the numbers of the vertical axis.
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
    parts += [_grid_line(_LEFT, right, upright(y), write(y)) for y in up]
    parts += [_text(along(x), floor + 18, short(x)) for x in whole_ticks(first, last)]
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 6, "epoch"))
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
    return line + "".join(_dot(x, y, colour) for x, y in marked)


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

    `history` has one record an epoch; the one with the index `chosen` is marked. `samples` is the
    word for several samples: `images`.
    """
    mark = history[chosen]["epoch"] if chosen is not None else None

    def line(split: str, key: str, colour: str) -> Line:
        points = [(record["epoch"], record[key]) for record in history if key in record]
        return Line(f"{split} {samples}", points, colour)

    losses = [
        line("training", "train_loss", "--series-1"),
        line("validation", "val_log_loss", "--series-2"),
    ]
    losses = [curve for curve in losses if any(_can_be_drawn(point) for point in curve.points)]
    charts = [line_chart(losses, title="Loss: lower is better", mark=mark)]
    titles = {} if select_by == "log_loss" else {select_by: name_of(select_by)}
    titles |= {name: f"{name_of(name)} of some generated texts" for name in GENERATED}
    for name, title in titles.items():
        better = "higher" if METRICS[name].higher_is_better else "lower"
        charts.append(
            line_chart(
                [line("validation", f"val_{name}", "--series-2")],
                title=f"{title[:1].upper()}{title[1:]}: {better} is better",
                mark=mark,
                write=_coarse_percent if is_share(name) else short,
            )
        )
    return [chart for chart in charts if chart]


def confusion_chart(cells: Ints, labels: Sequence[str]) -> str:
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
        _text(left + middle, 14, "predicted", kind="axis"),
        _text(14, top + middle, "true", kind="axis", is_turned=True),
    ]
    for row, label in enumerate(labels):
        at, name = side * (row + 0.5) + 4, clipped(label)
        parts.append(_text(left - 6, top + at, name, anchor="end"))
        parts.append(_text(left + at, top - 6, name, anchor="start", is_turned=True))
        for column, predicted in enumerate(labels):
            count = int(cells[row, column])
            parts.append(
                _square(
                    left + side * column,
                    top + side * row,
                    side,
                    count=count,
                    share=float(shares[row, column]),
                    is_right=row == column,
                    title=f"{plain(label)} predicted as {plain(predicted)}: {count:,}",
                )
            )
    return _figure(parts, width, least=0.75 * width if size > 12 else 0.0)


def _square(
    x: float, y: float, side: float, *, count: int, share: float, is_right: bool, title: str
) -> str:
    # The square root keeps rare mistakes visible.
    strength = math.sqrt(share)
    colour = f"var({'--good' if is_right else '--bad'})" if count else "var(--ground)"
    opacity = 0.08 + 0.86 * strength if count else 1.0
    drawn = _bar(x, y, side - 1, side - 1, f'"{colour}" fill-opacity="{opacity:.3f}"', title)
    number = short(count)
    if count and len(number) * _CHARACTER < side:
        tone = "on" if strength > 0.6 else "cell"
        drawn += _text(x + side / 2, y + side / 2 + 4, number, kind=tone)
    return drawn


def reliability_chart(table: Reliability) -> str:
    """Return a reliability diagram: accuracy by confidence, beside the diagonal."""
    bars = []
    width = _SQUARE / len(table.samples)
    for number in np.flatnonzero(table.samples).tolist():
        count = int(table.samples[number])
        share = float(table.hits[number]) / count
        opacity = 0.2 + 0.8 * math.sqrt(count / int(table.samples.max()))
        predictions = "1 prediction" if count == 1 else f"{count:,} predictions"
        bars.append(
            _bar(
                _SQUARE_LEFT + number * width + 1,
                _TOP + _SQUARE * (1 - share),
                width - 2,
                share * _SQUARE,
                f'"var(--series-1)" fill-opacity="{opacity:.3f}"',
                f"{predictions}, {percent(share)} right",
            )
        )
    return _square_chart(
        [*bars, f'<line class="halo" {_DIAGONAL}/>'],
        title="Reliability: accuracy by confidence",
        axes=("confidence", "accuracy"),
        marks={share: f"{share:.0%}" for share in (0.0, 0.25, 0.5, 0.75, 1.0)},
    )


MOST_POINTS = 2000


def scatter_chart(predicted: Doubles, targets: Doubles, name: str) -> str:
    """Return a scatter plot of predictions `[N]` against targets `[N]`, with the diagonal.

    At most `MOST_POINTS` evenly spaced samples are drawn.
    """
    both = np.concatenate([predicted, targets])
    marks = ticks(float(both.min()), float(both.max()))
    extent = marks[-1] - marks[0]
    dots = []
    for at in np.linspace(0, len(targets) - 1, min(len(targets), MOST_POINTS)).astype(int):
        x, y = (float(values[at] - marks[0]) / extent for values in (targets, predicted))
        dots.append(_dot(_SQUARE_LEFT + x * _SQUARE, _TOP + (1 - y) * _SQUARE, "--series-1", 0.45))
    return _square_chart(
        dots,
        title=f"{name}: predicted against true",
        axes=(f"true {plain(name)}", "predicted"),
        marks={(mark - marks[0]) / extent: short(mark) for mark in marks},
    )


def _square_chart(
    drawn: Sequence[str], *, title: str, axes: tuple[str, str], marks: Mapping[float, str]
) -> str:
    """Return a square chart with a grid and the diagonal.

    `marks` are the labels of both axes, by their places from 0 to 1.
    """
    right, floor = _SQUARE_LEFT + _SQUARE, _TOP + _SQUARE
    parts = [_open(right + 26, floor + 46, title)]
    for place, label in marks.items():
        parts.append(_grid_line(_SQUARE_LEFT, right, floor - place * _SQUARE, label))
        parts.append(_text(_SQUARE_LEFT + place * _SQUARE, floor + 18, label))
    middle = _SQUARE / 2
    parts += [
        *drawn,
        f'<line class="mark" {_DIAGONAL}/>',
        _text(_SQUARE_LEFT + middle, floor + 40, axes[0], kind="axis"),
        _text(14, _TOP + middle, axes[1], kind="axis", is_turned=True),
    ]
    return _figure(parts, right + 26)


@dataclass(frozen=True, slots=True)
class Mark:
    """One model of a chart of what was measured in a search."""

    name: str
    cost: float
    value: float
    colour: str
    """A variable of the page: `--series-1`."""
    is_chosen: bool = False


def cost_chart(marks: Sequence[Mark], *, metric: str, cost: str) -> str:
    """Return a chart of models by their cost, on a logarithmic axis, and by their main metric.

    The one that was chosen has a ring. Models without a cost above 0 are left out.
    """
    drawn = [mark for mark in marks if mark.cost > 0 and _can_be_drawn((mark.cost, mark.value))]
    if not drawn:
        return ""
    logs = [math.log10(mark.cost) for mark in drawn]
    first, last = min(logs), max(logs)
    if last - first < 0.05:
        first, last = first - 0.2, last + 0.2
    values = [mark.value for mark in drawn]
    up = ticks(min(values), max(values))
    left, right, floor = _LEFT + 14, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    title = f"{name_of(metric)} by {name_of(cost)}"

    def along(log: float) -> float:
        return left + 8 + (log - first) / (last - first) * (right - left - 28)

    def upright(value: float) -> float:
        return floor - (value - up[0]) / (up[-1] - up[0]) * (floor - _TOP)

    parts = [_open(_WIDTH, _HEIGHT, title)]
    parts += [_grid_line(left, right, upright(tick), plain(figure(metric, tick))) for tick in up]
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        log = first + share * (last - first)
        label = plain(figure(cost, 10**log))
        parts.append(_text(along(log), floor + 18, label, anchor=anchor))
    parts.append(_text((left + right) / 2, _HEIGHT - 6, name_of(cost), kind="axis"))
    for mark, log in zip(drawn, logs, strict=True):
        x, y = along(log), upright(mark.value)
        if mark.is_chosen:
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke="var(--ink)" '
                'stroke-width="1.5"/>'
            )
        said = f"{mark.name}: {figure(metric, mark.value)}, {figure(cost, mark.cost)}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="var({mark.colour})">'
            f"<title>{escape(said)}</title></circle>"
        )
    shown = f'<p class="title">{escape(title[:1].upper() + title[1:])}</p>{"".join(parts)}</svg>'
    return f'<figure class="chart">{shown}</figure>'


def _can_be_drawn(point: tuple[float, float]) -> bool:
    return abs(point[0]) < _LARGEST and abs(point[1]) < _LARGEST  # False for NaN too.


def _coarse_percent(share: float) -> str:
    return f"{share * 100:.4g} %"


# -- parts of an SVG -----------------------------------------------------------------------------


def _open(width: float, height: float, title: str) -> str:
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img"><title>{escape(title)}</title>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "middle",
    kind: str = "",
    is_turned: bool = False,
) -> str:
    """Return a text at a point; a turned one reads upwards. `kind` is a class of the page."""
    place = f'x="{x:.1f}" y="{y:.1f}"'
    if is_turned:
        place = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)"'
    return f'<text class="{kind}" {place} text-anchor="{anchor}">{escape(text)}</text>'


def _grid_line(left: float, right: float, y: float, label: str) -> str:
    line = f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
    return line + _text(left - 6, y + 4, label, anchor="end")


def _dot(x: float, y: float, colour: str, opacity: float = 1.0) -> str:
    fill = f'fill="var({colour})" fill-opacity="{opacity}"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.7" {fill}/>'


def _bar(x: float, y: float, width: float, height: float, fill: str, title: str) -> str:
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f"<rect {size} fill={fill}><title>{escape(title)}</title></rect>"


def _figure(parts: Sequence[str], width: float, *, least: float = 0.0) -> str:
    """Return a chart of a maximal width, which scrolls where the page is narrower than `least`."""
    return (
        f'<figure class="chart" style="max-width:{width + 40:.0f}px">'
        f'<div style="min-width:{least:.0f}px">{"".join(parts)}</svg></div></figure>'
    )
