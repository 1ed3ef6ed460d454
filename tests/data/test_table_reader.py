"""The files of tables: whatever cells hold comes back as it was written."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.data.table_reader import (
    columns_of,
    flat_object,
    is_table,
    is_table_folder,
    open_table,
    table_files,
)
from modelwright.errors import DataError

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=8)
NAMES = st.lists(
    st.from_regex("[a-z][a-z ]{0,6}[a-z]", fullmatch=True), min_size=2, max_size=4, unique=True
)


@st.composite
def tables(draw, cells=TEXT):
    names = draw(NAMES)
    row = st.lists(cells, min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, min_size=1, max_size=6))


def columns(path):
    table = open_table(path)
    return {name: list(read()) for name, read in table.columns.items()}


def turned(names, rows):
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from([",", ";", "|", "\t"]), st.booleans())
def test_delimited_cells_come_back(place, table, delimiter, packed):
    names, rows = table
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([names, *rows])
    data = stream.getvalue().encode()
    path = place / ("t.tsv" if delimiter == "\t" else "t.csv")
    if packed:
        path, data = path.with_name(f"{path.name}.gz"), gzip.compress(data)
    path.write_bytes(data)
    assert columns(path) == turned(names, rows)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(tables(JSON), st.integers(0, 2))
def test_json_lines_come_back_with_their_lines(place, table, blank):
    names, rows = table
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    lines = [json.dumps(item) for item in objects]
    (place / "t.jsonl").write_text(("\n" * (blank + 1)).join(lines) + "\n", encoding="utf-8")
    flat = [flat_object(item) for item in objects]
    keys = dict.fromkeys(key for item in flat for key in item)
    assert columns(place / "t.jsonl") == {key: [item.get(key) for item in flat] for key in keys}
    found = open_table(place / "t.jsonl")
    assert found.lines == [1 + at * (blank + 1) for at in range(len(rows))]
    assert found.place(0) == "t.jsonl:1"


@settings(max_examples=50, deadline=None)
@given(tables(st.none() | TEXT))
def test_parquet_comes_back(place, table):
    names, rows = table
    held = {name: pa.array(column, pa.string()) for name, column in turned(names, rows).items()}
    pq.write_table(pa.table(held), place / "t.parquet")
    assert columns(place / "t.parquet") == turned(names, rows)
    assert open_table(place / "t.parquet").place(1) == "t.parquet row 2"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["t.csv", "t.tsv", "t.jsonl", "t.csv.gz"]))
def test_whatever_a_file_holds_is_read_or_refused(place, data, name):
    (place / name).write_bytes(data)
    try:
        found = open_table(place / name)
    except DataError:
        return
    cells = [len(read()) for read in found.columns.values()]
    assert len(set(cells)) <= 1
    if found.lines is not None and cells:
        assert len(found.lines) == cells[0]
        assert list(found.lines) == sorted(found.lines)


PLAIN = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(tables(PLAIN), st.sampled_from([",", ";", "\t", "|"]))
def test_names_may_be_given_and_columns_left_out(place, table, delimiter):
    names, rows = table
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    (place / "u.txt").write_text(text, encoding="utf-8")
    found = open_table(place / "u.txt", ["-", *names[1:]])
    assert found.has_text_cells
    assert {name: list(read()) for name, read in found.columns.items()} == {
        name: column for name, column in turned(names, rows).items() if name != names[0]
    }


def test_a_table_is_one_file_or_one_a_split(tmp_path):
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\na,b\nc,d\n")
    assert is_table_folder(tmp_path)
    assert not is_table(tmp_path)
    assert [split for _, split in table_files(tmp_path)] == ["train", "validation", "test"]
    assert columns_of(tmp_path) == ["text", "label"]
    assert open_table(table_files(tmp_path)[0][0]).sample("label", 1) == ["b"]
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "empty", tmp_path / "nothing"):
        with pytest.raises(DataError):
            table_files(wrong)


def test_quotation_marks_that_are_parts_of_cells_are_said(tmp_path):
    (tmp_path / "t.tsv").write_text('a\tb\n"x\t1\ny" z\t2\n')
    assert "quotation marks are taken as they stand" in open_table(tmp_path / "t.tsv").notes[0]
    (tmp_path / "t.tsv").write_text('a\tb\n"x"\t1\n')
    assert open_table(tmp_path / "t.tsv").notes == ()


def test_the_separator_that_a_first_line_names_is_taken(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("sep=;\ntext;label\na, b;x\nc, d;y\n")
    table = open_table(file)
    assert {name: list(column()) for name, column in table.columns.items()} == {
        "text": ["a, b", "c, d"],
        "label": ["x", "y"],
    }
    assert list(table.lines) == [3, 4]


def test_columns_without_a_name_are_numbered(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(",text,\n0,a,\n1,b,\n")
    assert list(open_table(file).columns) == ["Unnamed: 0", "text", "Unnamed: 2"]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_no_cell_is_lost_when_objects_are_made_flat(item):
    def leaves(value):
        if isinstance(value, dict) and value and not {"bytes", "path"} & value.keys():
            return sum(map(leaves, value.values()))
        return 1

    flat = flat_object(item)
    assert sum(map(leaves, flat.values())) == sum(map(leaves, item.values()))


def test_places_are_written_when_they_are_asked_for(place):
    (place / "p.csv").write_text('a,b\n1,"x\ny"\r\n2,z\r3,w\n', "utf-8", newline="")
    table = open_table(place / "p.csv")
    assert columns(place / "p.csv") == {"a": ["1", "2", "3"], "b": ["x\ny", "z", "w"]}
    assert list(table.places) == ["p.csv:2", "p.csv:4", "p.csv:5"]
    assert table.places[1:] == ["p.csv:4", "p.csv:5"]
    assert len(table.places) == 3


def test_short_cells_that_repeat_are_held_once(place):
    rows = "".join(f"a text that is longer than labels {at % 2},label{at % 3}\n" for at in range(9))
    (place / "r.csv").write_text("text,label\n" + rows, "utf-8")
    label = open_table(place / "r.csv").columns["label"]()
    assert len({id(cell) for cell in label}) == 3


def test_a_header_in_the_middle_is_no_row(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\na,1\ntext,label\nb,2\ntext,label\n")
    table = open_table(tmp_path / "t.csv")
    assert table.columns["text"]() == ["a", "b"]
    assert list(table.lines) == [2, 4]
    assert "t.csv:3: the header stands here again" in table.notes[0]
    (tmp_path / "one.csv").write_text("text\na\ntext\n")  # A word may well be the column's name.
    assert open_table(tmp_path / "one.csv").columns["text"]() == ["a", "text"]


def test_a_quotation_mark_alone_ends_a_quoted_cell(tmp_path):
    (tmp_path / "t.csv").write_text('"aa","ab"\n",\n",\n')
    table = open_table(tmp_path / "t.csv")
    assert (table.columns["aa"](), table.columns["ab"]()) == ([",\n"], [""])
