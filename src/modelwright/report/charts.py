"""Charts as inline SVG, coloured by the page's own variables so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from modelwright.metrics import Reliability

_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 14.0, 14.0, 34.0
_WIDTH, _HEIGHT = 560.0, 250.0


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
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - 0.5 * (abs(low) or 1.0), low + 0.5 * (abs(low) or 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def line_chart(lines: Sequence[Line], *, title: str, across: str, mark: float | None) -> str:
    """Return curves over a common axis, each named; `mark` is a vertical line at that abscissa."""
    points = [point for line in lines for point in line.points if math.isfinite(point[1])]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    across_ticks, up_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    if len(set(xs)) == 1:
        across_ticks = [xs[0] - 0.5, xs[0], xs[0] + 0.5]

    def place(x: float, y: float) -> tuple[float, float]:
        wide = (x - across_ticks[0]) / (across_ticks[-1] - across_ticks[0])
        high = (y - up_ticks[0]) / (up_ticks[-1] - up_ticks[0])
        return (
            _LEFT + wide * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - high * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [_open(_WIDTH, _HEIGHT, title)]
    for y in up_ticks:
        _, at = place(across_ticks[0], y)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" y1="{at:.1f}" x2="{_WIDTH - _RIGHT}" y2="{at:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{short(y)}</text>'
        )
    for x in across_ticks:
        at, _ = place(x, up_ticks[0])
        parts.append(
            f'<text x="{at:.1f}" y="{_HEIGHT - 16}" text-anchor="middle">{short(x)}</text>'
        )
    parts.append(
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 2}" text-anchor="end">{escape(across)}</text>'
    )
    if mark is not None:
        at, _ = place(mark, up_ticks[0])
        parts.append(
            f'<line class="mark" x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{_HEIGHT - _BOTTOM}"/>'
        )
    for line in lines:
        path = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in line.points if math.isfinite(p[1]))
        )
        parts.append(
            f'<polyline fill="none" stroke="var({line.colour})" stroke-width="2" points="{path}"/>'
        )
        if len(line.points) < 40:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="var({line.colour})"/>'
                for x, y in (place(*p) for p in line.points if math.isfinite(p[1]))
            ]
    parts.append("</svg>")
    names = "".join(
        f'<span><i style="background:var({line.colour})"></i>{escape(line.name)}</span>'
        for line in lines
    )
    return f'<figure class="chart">{"".join(parts)}<figcaption>{names}</figcaption></figure>'


def learning_curves(
    history: Sequence[Mapping[str, float]], *, select_by: str, chosen: int | None
) -> list[str]:
    """Return the loss, and the score that chose the epoch, over the epochs."""
    epochs = [record["epoch"] for record in history]
    mark = history[chosen]["epoch"] if chosen is not None else None

    def curve(key: str) -> list[tuple[float, float]]:
        return [
            (epoch, record[key])
            for epoch, record in zip(epochs, history, strict=True)
            if key in record
        ]

    losses = [
        Line(name, points, colour)
        for name, key, colour in (
            ("training loss", "train_loss", "--series-1"),
            ("validation loss", "val_log_loss", "--series-2"),
        )
        if (points := curve(key))
    ]
    charts = [line_chart(losses, title="Loss by epoch", across="epoch", mark=mark)]
    scores = curve(f"val_{select_by}")
    if scores:
        name = f"validation {select_by.replace('_', ' ')}"
        line = Line(name, scores, "--series-2")
        charts.append(line_chart([line], title=f"{name} by epoch", across="epoch", mark=mark))
    return [chart for chart in charts if chart]


def confusion_chart(cells: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Return a table of what was taken for what, `[K, K]`, as coloured squares with counts."""
    size = len(labels)
    side = 44.0 if size <= 12 else max(14.0, 528.0 / size)
    longest = max((min(len(label), 18) for label in labels), default=1)
    left, top = 16.0 + 7.0 * longest, 16.0 + 7.0 * longest
    width, height = left + side * size + 10, top + side * size + 22
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    parts = [_open(width, height, "Confusion: rows are the true class, columns the answer")]
    for row, label in enumerate(labels):
        middle = top + side * (row + 0.5)
        name = escape(_clip(label))
        parts.append(f'<text x="{left - 6}" y="{middle + 4:.1f}" text-anchor="end">{name}</text>')
        across = left + side * (row + 0.5)
        parts.append(
            f'<text transform="translate({across + 4:.1f} {top - 6}) rotate(-90)">{name}</text>'
        )
        for column in range(size):
            share, count = float(shares[row, column]), int(cells[row, column])
            x, y = left + side * column, top + side * row
            colour = "--good" if row == column else "--bad"
            said = f"{label} taken for {labels[column]}: {count}"
            # Rare mistakes are what one looks for: the root keeps them visible.
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{side - 1:.1f}" height="{side - 1:.1f}" '
                f'fill="var({colour})" fill-opacity="{0.04 + 0.86 * math.sqrt(share):.3f}">'
                f"<title>{escape(said)}</title></rect>"
            )
            if count and side >= 26:
                tone = ' class="on"' if share > 0.4 else ""
                parts.append(
                    f'<text{tone} x="{x + side / 2:.1f}" y="{y + side / 2 + 4:.1f}" '
                    f'text-anchor="middle">{count}</text>'
                )
    parts.append(
        f'<text x="{left}" y="{height - 4}">columns: the answer, rows: the truth</text></svg>'
    )
    return f'<figure class="chart square">{"".join(parts)}</figure>'


def reliability_chart(table: Reliability) -> str:
    """Return how often answers of each confidence were right, against the diagonal."""
    size, low = 300.0, 40.0
    span = size - low - 14.0
    parts = [_open(size, size, "How often answers of each confidence were right")]
    for tick in (0.0, 0.5, 1.0):
        at = size - low - tick * span
        along = low + tick * span
        parts.append(
            f'<line class="grid" x1="{low}" y1="{at:.1f}" x2="{low + span}" y2="{at:.1f}"/>'
            f'<text x="{low - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:.0%}</text>'
            f'<text x="{along:.1f}" y="{size - low + 16}" text-anchor="middle">{tick:.0%}</text>'
        )
    bins = len(table.samples)
    most = max(int(table.samples.max()), 1)
    for number in range(bins):
        count = int(table.samples[number])
        if not count:
            continue
        right = float(table.hits[number]) / count
        x = low + number / bins * span
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{size - low - right * span:.1f}" '
            f'width="{span / bins - 2:.1f}" height="{right * span:.1f}" fill="var(--series-1)" '
            f'fill-opacity="{0.25 + 0.75 * math.sqrt(count / most):.3f}">'
            f"<title>{count} answers, {right:.1%} right</title></rect>"
        )
    parts.append(
        f'<line class="mark" x1="{low}" y1="{size - low}" x2="{low + span}" '
        f'y2="{size - low - span}"/>'
        f'<text x="{low + span}" y="{size - 6}" text-anchor="end">confidence of the answer</text>'
        "</svg>"
    )
    return f'<figure class="chart square">{"".join(parts)}</figure>'


def short(number: float) -> str:
    """Write a number in few signs.

    >>> short(0.30000000000000004), short(2500000.0), short(12.0)
    ('0.3', '2.5M', '12')
    """
    size = abs(number)
    if size >= 1e6:
        return f"{number / 1e6:.4g}M"
    if size >= 1e4:
        return f"{number / 1e3:.4g}k"
    if size and size < 1e-3:
        return f"{number:.1e}"
    return f"{number:.4g}"


def _open(width: float, height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px" role="img">'
        f"<title>{escape(title)}</title>"
    )


def _clip(label: str) -> str:
    return label if len(label) <= 18 else label[:17] + "…"
