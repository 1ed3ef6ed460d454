"""The page: that nothing gets out of its text, how it looks, and how it is written."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import numpy as np
import pytest

from modelwright.data import Finding
from modelwright.errors import ResourceError
from modelwright.report import write_report
from modelwright.report.page import page
from tests.report.reading import TAGS, plain, read, section
from tests.report.sample_data import (
    ATTACKS,
    data,
    multi_label_data,
)


@pytest.fixture(scope="module")
def attacked() -> str:
    """Return a page with an attack in every text that comes from outside."""
    bad = ATTACKS[1]
    return page(
        data(
            ATTACKS,
            count=240,
            sure=1.0,
            targets={"accuracy": ">= 0.99"},
            name=bad,
            source=bad,
            findings=[Finding(kind=bad, severity=bad, message=f"`{bad}`", fix=bad)],
            notes=[bad],
            environment={bad: bad},
            lineage=[{"step": bad, bad: bad}],
            decisions={bad: [bad]},
            predict_command=bad,
            model_name=bad,
            model_digest=bad,
            augmented=np.zeros((1, 3, 4, 4, 3), dtype=np.uint8),
        )
    )


def test_it_needs_nothing_from_outside(attacked: str) -> None:
    found = read(attacked)
    addresses = [(key, value) for _, attrs in found.tags for key, value in attrs.items()]
    sources = [value for key, value in addresses if key in ("src", "srcset", "data", "poster")]
    assert sources
    assert all(str(value).startswith("data:image/png;base64,") for value in sources)
    links = [str(value) for key, value in addresses if key in ("href", "xlink:href", "action")]
    assert links
    assert all(link.startswith("#") for link in links)
    style = attacked[attacked.index("<style>") : attacked.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_no_text_becomes_a_tag_or_runs(attacked: str) -> None:
    found = read(attacked)
    assert {tag for tag, _ in found.tags} <= set(TAGS.split())
    assert not [key for _, attrs in found.tags for key in attrs if key.startswith("on")]
    assert "<script" not in attacked
    policy = next(
        meta["content"]
        for meta in found.of("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_labels_stand_as_they_are(attacked: str) -> None:
    shown = plain(attacked)
    for label in ("猫 😀 кот", "../../etc/passwd", "<img src=x onerror=alert(1)>", "a" * 200):
        assert label in shown
    assert "{{ 7 * 7 }}{% raw %}" in shown
    assert "(blank)" in shown
    assert not set(attacked) & set("\x00\x1b\u202e")


def test_a_script_in_the_recipe_is_only_read() -> None:
    assert "# </script><script>alert(1)</script>" in section(page(data()), "made")


def test_every_link_leads_to_a_section() -> None:
    found = read(page(data()))
    targets = {attrs["id"] for attrs in found.of("h2")}
    assert {str(attrs["href"])[1:] for attrs in found.of("a")} <= targets


def test_light_and_dark_define_the_same_colours_and_all_that_are_used() -> None:
    text = page(data(augmented=np.zeros((1, 2, 4, 4, 3), dtype=np.uint8)))
    light, _, dark = text.partition("prefers-color-scheme: dark")
    dark = dark[: dark.index("} }")]
    names = [set(re.findall(r"(--[a-z0-9-]+):", part)) for part in (light, dark)]
    assert names[0] == names[1]
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", text)) <= names[0]
    assert "color-scheme: light dark" in text
    assert 'name="viewport"' in text


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_can_be_read_on_its_ground_in_both() -> None:
    """Contrast of at least 4.5, as WCAG 2 asks for text."""
    style = page(data()).partition("</style>")[0]
    for part in style.partition("@media")[::2]:
        colours = dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", part.partition("*")[0]))
        for ground in ("--ground", "--card"):
            for ink in ("--ink", "--soft", "--accent", "--good", "--bad", "--warn"):
                light, dark = sorted(_luminance(colours[name]) for name in (ground, ink))[::-1]
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (ground, ink)


def test_the_file_is_written_aside_and_is_the_page(tmp_path) -> None:
    report = data()
    target = tmp_path / "report.html"
    target.write_text("before")
    write_report(target, report)
    assert target.read_text("utf-8") == page(report)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_told_leaves_the_one_before(tmp_path) -> None:
    target = tmp_path / "report.html"
    target.write_text("before")
    report = data()
    with pytest.raises(ValueError, match="zip"):
        write_report(target, replace(report, mistakes=report.mistakes[:1]))
    assert target.read_text() == "before"


def test_bytes_that_are_no_text_can_be_written(tmp_path) -> None:
    write_report(tmp_path / "report.html", data(name="pets \udcff", notes=["\udcff"]))
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_that_is_read_only_is_a_clear_error(tmp_path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ResourceError):
            write_report(tmp_path / "report.html", data())
    finally:
        tmp_path.chmod(0o700)


def test_the_same_story_is_the_same_page() -> None:
    assert page(data()) == page(data())


def test_of_several_labels_each_is_shown_and_none_becomes_a_tag() -> None:
    report = multi_label_data(ATTACKS)
    text = page(report)
    assert {tag for tag, _ in read(text).tags} <= {*TAGS.split(), "blockquote"}
    found = report.ledger.find("recall", slice=f"label={ATTACKS[4]}")
    assert found is not None
    assert f"{100 * found.value:.1f} %" in section(text, "classes")
    assert "The largest errors" in section(text, "mistakes")
    assert "The first texts" not in section(text, "mistakes")
    assert "all labels are right: none is missing, none is extra" in plain(text)
    assert 'id="confusion"' not in text
