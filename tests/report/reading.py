"""Reading a page as the tests of the report do."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

from modelwright.ledger import Ledger

TAGS = """
    html head meta title style body main h1 h2 p div nav a table tr th td span bdi b i br code
    pre figure figcaption img svg line text rect polyline circle ul li dl dt dd details
    summary
"""
"""All that a page is made of."""


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, kind: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == kind]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def plain(text: str) -> str:
    """Return what a reader sees."""
    body = text[text.index("<body>") :]
    shown = unescape(re.sub(r"<[^>]*>", " ", body)).replace("\xa0", " ")
    return re.sub(r" ([,.;])", r"\1", re.sub(r"\s+", " ", shown))


def section(text: str, name: str) -> str:
    found = re.search(rf'<h2 id="{name}">.*?(?=<h2|</main>)', text, re.DOTALL)
    assert found is not None, name
    return plain("<body>" + found[0])


def changed(report, metric: str, *, subject: str = "model", slice: str = "", **values):
    """Return the data of a report whose ledger has another value of one figure."""
    record = report.ledger.find(metric, subject=subject, slice=slice)
    assert record is not None, metric
    return replace(report, ledger=Ledger([*report.ledger, replace(record, **values)]))
