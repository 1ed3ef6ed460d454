"""What `new` says of data that it can write no recipe for."""

from __future__ import annotations

import json

import pytest

from modelwright.errors import DataError
from modelwright.scaffold import new

ROWS = range(40)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["a,b", *(f"foo {at % 2},x" for at in ROWS)],
            r"no column holds images, texts or recordings\. Its columns are `a` .*--input COLUMN",
        ),
        (["review,b", *(f"a text of number {at},x" for at in ROWS)], "no column holds the targets"),
    ],
)
def test_columns_that_cannot_be_told_are_asked_for(rows, message, tmp_path):
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=message):
        new(tmp_path / "t.csv", out=tmp_path / "recipe.yaml")
    assert not (tmp_path / "recipe.yaml").exists()


def test_a_json_list_is_a_table(tmp_path):
    rows = [{"text": f"text {at} ä", "label": "ab"[at % 2]} for at in ROWS]
    (tmp_path / "t.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), "utf-8")
    result = new(tmp_path / "t.json", out=tmp_path / "recipe.yaml")
    assert "text-classification" in result.text
    assert result.command.startswith("modelwright run")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"text": "a", "label": "b"}\n{"text": "c", "label": "d"}\n', "Rename it to t.jsonl"),
        ('{"images": [{"a": 1}]}', "neither a table nor boxes"),
        ("{", "neither a table nor boxes"),
    ],
)
def test_other_json_is_said_to_be_none(text, words, tmp_path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=words):
        new(tmp_path / "t.json", out=tmp_path / "recipe.yaml")
