"""Figures and names in words."""

from __future__ import annotations

import doctest
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.recipe.targets import METRICS
from modelwright.report import charts, words

SHARES = st.floats(0, 1)


@pytest.mark.parametrize("module", [words, charts])
def test_the_examples_of_the_docstrings_hold(module) -> None:
    assert doctest.testmod(module).failed == 0


@given(SHARES)
def test_a_percentage_reads_as_what_it_is(share: float) -> None:
    text = words.percent(share)
    number = float(re.sub(r"[^0-9.]", "", text)) / 100
    assert abs(number - share) <= 0.0005001
    assert text.startswith("100") == (share == 1.0)
    assert (number == 0) == (share == 0.0)


def test_every_metric_of_the_recipe_has_a_name_of_its_own() -> None:
    names = [words.name_of(metric) for metric in METRICS]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "_" in name]


def test_a_metric_of_a_later_version_keeps_its_name() -> None:
    assert words.name_of("new_figure") == "new figure"
    assert words.meaning_of("new_figure") == ""


@pytest.mark.parametrize(
    ("metric", "low", "high", "said"),
    [
        ("accuracy", 0.5, 0.5, ""),
        ("accuracy", 0.985, 1.0, "98.5–100 %"),
        ("accuracy", 0.95, 0.99999, "95.0 % to > 99.99 %"),
        ("log_loss", 0.1, 0.25, "0.1–0.25"),
        ("size_bytes", 900_000.0, 1_200_000.0, "900 kB to 1.2 MB"),
        ("throughput_per_s", 900.0, 1200.0, "900–1,200"),
    ],
)
def test_an_interval_says_its_unit_once(metric: str, low: float, high: float, said: str) -> None:
    assert words.interval(metric, low, high).replace("\xa0", " ") == said


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("latency_p95_ms", 1234.0, "1,230 ms"),
        ("latency_p95_ms", 0.08912, "0.0891 ms"),
        ("size_bytes", 999.0, "999 bytes"),
        ("size_bytes", 2.5e9, "2.5 GB"),
        ("parameters", 99_370.0, "99,370"),
        ("log_loss", 0.0, "0"),
    ],
)
def test_figures_have_their_unit(metric: str, value: float, said: str) -> None:
    assert words.figure(metric, value).replace("\xa0", " ") == said


def test_a_limit_is_as_it_was_asked_to_the_digit() -> None:
    assert words.limit("accuracy", ">= 0.9375").replace("\xa0", " ") == "at least 93.75 %"
    assert words.limit("accuracy", ">= 1").replace("\xa0", " ") == "at least 100 %"
    assert words.limit("latency_p95_ms", "< 5").replace("\xa0", " ") == "below 5 ms"


@given(st.text(max_size=40))
def test_a_label_is_always_seen_and_never_steers_the_page(label: str) -> None:
    seen = words.plain(label)
    assert seen.strip()
    seen.encode()
    assert not set(seen) & set("\x00\x1b\n\u202e\u2066\u200f")
    assert words.wide(words.clipped(label)) <= 18


@given(st.text(alphabet="`<>&\"'ab ", max_size=30))
def test_prose_gives_no_tag_but_code(text: str) -> None:
    tags = []
    shown = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    reader.handle_data = shown.append  # type: ignore[method-assign]
    reader.feed(f"{words.prose(text)}")
    reader.close()
    assert set(tags) <= {"code"}
    assert "".join(shown).replace("`", "") == text.replace("`", "")
