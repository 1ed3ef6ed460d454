"""Figures and names as text, for readers who don't know the field.

Names and explanations of metrics come from `recipe.targets.METRICS`; here figures are only rounded.
"""

from __future__ import annotations

import re
import unicodedata
from html import escape

from markupsafe import Markup

from modelwright.recipe.targets import METRICS, parse_target

BLANK = "\u00a0"
"""A no-break space, which keeps a number and its unit on one line."""

_RATES = ("precision", "recall", "f1")
"""Metrics of one class, which aren't in `METRICS`."""

BASELINES = {
    "majority": "always predicting the most frequent class",
    "centroid": "predicting the class with the nearest mean image",
    "hog": "hand-crafted features (HOG) with a linear model",
    "frequent": "always predicting the most frequent labels",
    "mean": "always predicting the mean of the training samples",
    "words": "word counts (TF-IDF) with a linear model",
    "spectrum": "statistics of the spectrum with a linear model",
    "box": "always predicting the mean box of each class",
    "copy": "copying the source text",
    "lead": "taking the first sentence",
    "unigram": "predicting each token by its frequency alone",
}
"""Descriptions of the baselines, by name."""


def subject_name(subject: str) -> str:
    """Return what a record of the ledger is about, in words: this model, or a baseline.

    >>> subject_name("model"), subject_name("baseline:copy")
    ('this model', 'copying the source text')
    """
    name = subject.removeprefix("baseline:")
    return "this model" if subject == "model" else BASELINES.get(name, name)


_SIGNS = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}
_CODE = re.compile(r"`([^`\n]+)`")


def name_of(metric: str) -> str:
    """Return a metric's name in words."""
    return METRICS[metric].title if metric in METRICS else metric.replace("_", " ")


def meaning_of(metric: str) -> str:
    """Return the explanation of a metric; empty where it has none."""
    return METRICS[metric].explanation if metric in METRICS else ""


def is_share(metric: str) -> bool:
    """Whether a metric is a share of samples, which reads best as a percentage."""
    return METRICS[metric].is_share if metric in METRICS else metric in _RATES


def percent(share: float) -> str:
    r"""Format a share as a percentage, with more digits near 0 and 1.

    >>> percent(0.9412), percent(0.99987), percent(0.999999), percent(1.0)
    ('94.1\xa0%', '99.99\xa0%', '>\xa099.99\xa0%', '100\xa0%')
    """
    if share in (0.0, 1.0):
        return f"{share * 100:.0f}{BLANK}%"
    if 0.99995 <= share < 1:  # Rounding up would say that none was wrong.
        return f">{BLANK}99.99{BLANK}%"
    if 0 < share < 0.00005:
        return f"<{BLANK}0.01{BLANK}%"
    digits = 2 if share > 0.995 or share < 0.005 else 1
    return f"{share * 100:.{digits}f}{BLANK}%"


def figure(metric: str, value: float) -> str:
    r"""Format a metric's value with its unit: a percentage, milliseconds, bytes.

    >>> figure("accuracy", 0.5), figure("latency_p95_ms", 1.2345), figure("size_bytes", 2500000)
    ('50.0\xa0%', '1.23\xa0ms', '2.5\xa0MB')
    """
    if is_share(metric):
        return percent(value)
    if metric.endswith("_ms"):
        return f"{_digits(value, 3)}{BLANK}ms"
    if metric.endswith("_bytes"):
        return _bytes(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{_digits(value, 4)}"


def interval(metric: str, low: float | None, high: float | None) -> str:
    r"""Format an interval; empty where the figure isn't sampled or isn't known.

    >>> interval("accuracy", 0.91, 0.952), interval("latency_p95_ms", 1.25, 2.5)
    ('91.0–95.2\xa0%', '1.25–2.5\xa0ms')
    """
    if low is None or high is None or low == high:
        return ""
    first, last = figure(metric, low), figure(metric, high)
    number, _, unit = first.partition(BLANK)
    has_sign = any(sign in first + last for sign in "<>") or low < 0
    if has_sign or unit != last.partition(BLANK)[2]:
        return f"{first} to {last}"
    return f"{number}–{last}"


def limit(metric: str, target: str) -> str:
    r"""Format a target in words.

    >>> limit("size_bytes", "<= 2_000_000")
    'at most 2\xa0MB'
    """
    sign, bound = parse_target(target)
    if is_share(metric):  # A bound isn't rounded.
        return f"{_SIGNS[sign]} {bound * 100:.6g}{BLANK}%"
    return f"{_SIGNS[sign]} {figure(metric, bound)}"


def count(number: float) -> str:
    """Format a whole number with thousands separators."""
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    r"""Format a time in seconds, minutes or hours.

    >>> duration(0.4), duration(94.2), duration(7384)
    ('0.4\xa0s', '1\xa0min\xa034\xa0s', '2\xa0h\xa03\xa0min')
    """
    if seconds < 10:
        return f"{seconds:.1f}{BLANK}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest}{BLANK}s"
    hours, left = divmod(minutes, 60)
    text = f"{minutes} min {rest} s" if hours < 1 else f"{hours} h {left} min"
    return text.replace(" ", BLANK)


def short(number: float) -> str:
    """Format a number in few characters.

    >>> short(0.30000000000000004), short(2500000.0), short(12.0), short(0.0002)
    ('0.3', '2.5M', '12', '0.0002')
    """
    size = abs(number)
    if size >= 1e6:
        return f"{number / 1e6:.4g}M"
    if size >= 1e4:
        return f"{number / 1e3:.4g}k"
    if size and size < 1e-4:
        return f"{number:.1e}"
    return f"{number:.4g}"


def plain(label: str) -> str:
    r"""Return a label with its invisible characters replaced.

    Control characters and those that change the direction of writing would affect the text around
    them; surrogates can't be encoded.

    >>> plain("cat"), plain(" "), plain("a\x00b\u202e")
    ('cat', '(blank)', 'a�b�')
    """
    seen = "".join("�" if _is_invisible(character) else character for character in label)
    return seen if seen.strip() else "(blank)"


def clipped(label: str, width: int = 18) -> str:
    """Return a label cut to a width in characters; wide (East Asian) ones count as two."""
    label = plain(label)
    if wide(label) <= width:
        return label
    label = label[: width - 1]
    while wide(label) >= width:
        label = label[:-1]
    return label + "…"


def wide(text: str) -> int:
    """Return the width of a text in characters; wide (East Asian) ones count as two.

    >>> wide("cat"), wide("猫")
    (3, 2)
    """
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def prose(text: str) -> Markup:
    """Return a message as HTML: escaped, with text in backticks as code.

    >>> prose("Set `a: <b>` & go")
    Markup('Set <code>a: &lt;b&gt;</code> &amp; go')
    """
    return Markup(_CODE.sub(r"<code>\1</code>", escape(text)))


def _is_invisible(character: str) -> bool:
    joins = character in "\u200c\u200d"  # Emoji and several scripts are made with them.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and not joins


def _digits(value: float, digits: int) -> str:
    """Format a number to so many significant digits, without an exponent where it is large."""
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if "e+" in text else text


def _bytes(value: float) -> str:
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= scale:
            return f"{_digits(value / scale, 3)}{BLANK}{unit}"
    return f"{value:.0f}{BLANK}bytes"
