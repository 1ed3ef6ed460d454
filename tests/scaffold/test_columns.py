"""Which columns of a table are likely meant."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelwright.kinds import InputKind
from modelwright.scaffold.columns import (
    guess_boxes,
    guess_columns,
    guess_generated_column,
    guess_label_sets,
    guess_table,
)
from tests.data.making import picture

VOC = "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>"
LISTED = [{"label": "cat", "x1": 1, "y1": 2, "x2": 5.0, "y2": 7.0}]


@pytest.mark.parametrize(
    ("header", "row", "kind", "settings"),
    [
        ("text,label", "a,b", "text", {}),
        ("review,category", "a,b", "text", {"text": "review", "label": "category"}),
        ("file,species", "a.png,b", "image", {"image": "file", "label": "species"}),
        # The cells count more than the column's name.
        ("file,label", "a.wav,b", "audio", {}),
        ("clip,sentence", "a.wav,some words", "audio", {"audio": "clip", "label": "sentence"}),
        ("text,price", "a,3.5", "text", {"target_columns": ["price"], "input_kind": "text"}),
        ("text,score", "a,high", "text", {"label": "score"}),
        ("text,label,Set", "a,b,train", "text", {"split_column": "Set"}),
    ],
)
def test_columns_are_inferred_from_names_and_first_cells(tmp_path, header, row, kind, settings):
    (tmp_path / "t.csv").write_text(f"{header}\n{row}\n")
    assert guess_table(tmp_path / "t.csv") == (kind, settings)


def test_a_known_kind_is_looked_for(tmp_path):
    (tmp_path / "t.csv").write_text("text,picture,class\na,b.png,c\n")
    images = {"image": "picture", "label": "class"}
    assert guess_columns(tmp_path / "t.csv", InputKind.IMAGE) == images


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["text", "Summary"], ("Summary", "summarization")),
        (["en", "target"], ("target", "translation")),
        (["text", "label", "summary"], None),
        (["summary", "text"], None),
    ],
)
def test_columns_of_texts_to_generate(columns, found):
    assert guess_generated_column(columns, columns[0]) == found


def table(path, cells, column):
    pq.write_table(
        pa.table({"image": [picture(at) for at, _ in enumerate(cells)], column: cells}), path
    )


def test_columns_of_boxes(tmp_path):
    for cells in ([VOC, None], [LISTED, []], [json.dumps(LISTED), ""]):
        table(tmp_path / "t.parquet", cells, "voc_xml")
        assert guess_boxes(tmp_path / "t.parquet") == {"boxes": "voc_xml"}
    row = {"file": "a.png", "boxes": LISTED}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    assert guess_boxes(tmp_path / "t.jsonl") == {"image": "file"}


def test_a_table_of_something_else_has_no_boxes(tmp_path):
    table(tmp_path / "t.parquet", ["a box of eggs"], "box")
    assert guess_boxes(tmp_path / "t.parquet") is None


def test_lists_of_labels_are_told_from_lists_of_tokens(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"text": "a", "tags": ["b"], "tokens": ["c"]}) + "\n")
    assert guess_label_sets(path, {}) == {"label": "tags", "multi_label": True}
    path.write_text(json.dumps({"text": "a", "tokens": ["c"]}) + "\n")
    assert guess_label_sets(path, {}) is None
