"""What `new` says of data that it can write no recipe for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from modelwright.errors import DataError
from modelwright.scaffold import new


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "a,b\nfoo,x\n",
            "which column holds images, texts or recordings. Its columns are `a`, `b`.",
        ),
        ("review,b\nfoo,x\n", "which column holds the targets: labels or numbers."),
        ("wav,b\na.wav,x\n", "path: t.csv, audio: …, label: …}"),
    ],
)
def test_columns_that_cannot_be_told_are_asked_for(text, words, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError) as raised:
        new(tmp_path / "t.csv", out=tmp_path / "recipe.yaml")
    assert words in str(raised.value)
    assert "data." not in raised.value.where
    assert not (tmp_path / "recipe.yaml").exists()


@pytest.mark.parametrize("stem", ["t", "a $(touch made) 'b"])
def test_a_json_list_is_turned_into_json_lines(tmp_path, stem):
    rows = [{"text": f"text {at} ä", "label": "ab"[at % 2]} for at in range(40)]
    given, lines = tmp_path / f"{stem}.json", tmp_path / f"{stem}.jsonl"
    given.write_text(json.dumps(rows, indent=1, ensure_ascii=False), "utf-8")
    with pytest.raises(DataError, match="one JSON list") as raised:
        new(given, out=tmp_path / "recipe.yaml")
    command = raised.value.fix.partition("(")[2].rpartition("), and use")[0]
    command = command.replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == rows
    assert not (tmp_path / "made").exists()
    new(lines, out=tmp_path / "recipe.yaml")
    assert "text-classification" in (tmp_path / "recipe.yaml").read_text()


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
