"""Tables that are read row by row."""

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

from modelwright.data.table_reader import open_table
from modelwright.data.table_stream import stream_table
from modelwright.errors import DataError


def read(file, size=2, **options):
    """Return a table's rows: where each stands, and its cells or why it has none."""
    stream = stream_table(file, **options)
    found = []
    for chunk in stream.chunks(size):
        assert len(chunk.rows) <= size
        for at, row in enumerate(chunk.rows):
            found.append((row.place, row.fault or chunk.records([at])[0]))
    assert len(found) == stream.num_rows
    return found


def test_rows_that_cannot_be_read_say_why_and_the_others_are_there(tmp_path):
    (tmp_path / "t.csv").write_bytes(b'a,b\n1,"x\ny"\n\n2\n3,\xff\n4,z\n')
    found = dict(read(tmp_path / "t.csv", encoding="utf-8"))
    assert found["t.csv:2"] == {"a": "1", "b": "x\ny"}
    assert found["t.csv:5"] == "this row has 1 cells, and there are 2 columns"
    assert found["t.csv:6"] == "the byte 0xff can't be decoded"
    assert found["t.csv:7"] == {"a": "4", "b": "z"}
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n\n{"a": \n[1]\n{"b": "x"}\n')
    found = dict(read(tmp_path / "t.jsonl"))
    assert found["t.jsonl:1"] == {"a": 1}
    assert "isn't JSON" in found["t.jsonl:3"]
    assert found["t.jsonl:4"] == "this line isn't a JSON object"
    assert found["t.jsonl:5"] == {"b": "x"}


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\ufeff"), max_size=6)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS).filter(any), min_size=1, max_size=8), packed=...)
def test_rows_are_those_of_the_whole_table(
    rows: list[tuple[str, str]], packed: bool, tmp_path_factory
):

    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    data = text.getvalue().encode()
    file = tmp_path_factory.mktemp("t") / ("t.csv.gz" if packed else "t.csv")
    file.write_bytes(gzip.compress(data) if packed else data)
    whole = open_table(file)
    stream = stream_table(file)
    records = [item for chunk in stream.chunks(3) for item in chunk.records(range(len(chunk.rows)))]
    names = list(whole.columns)
    assert stream.names == names
    columns = [whole.columns[name]() for name in names]
    assert [tuple(item[name] for name in names) for item in records] == list(
        zip(*columns, strict=True)
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_the_encoding_is_found(encoding, tmp_path):
    text = "编号,内容\n" + "".join(f"{at},这部电影很好看我非常喜欢\n" for at in range(20))
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    stream = stream_table(tmp_path / "t.csv")
    assert stream.names == ["编号", "内容"]
    assert stream.is_marked
    assert bool(stream.notes) == (encoding == "gb18030")
    assert stream.num_rows == 20


def test_a_single_odd_line_leaves_a_file_what_it_is(tmp_path):
    lines = [f"{at},很好看".encode() for at in range(30)]
    lines[7] = b"7,\xff\xfe"
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + b"\n".join(lines))
    found = read(tmp_path / "t.csv")
    assert found[0][1] == {"a": "0", "b": "很好看"}
    assert "can't be decoded" in found[7][1]


@pytest.mark.parametrize("broken", [b"\x00", b"\x00\xd8a\x00\n\x00"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_wide_table_that_is_broken_is_refused(broken, suffix, tmp_path):
    text = {".csv": "a,b\n1,2\n", ".jsonl": '{"a": 1}\n'}[suffix]
    path = tmp_path / f"t{suffix}"
    path.write_bytes(text.encode("utf-16") + broken)
    with pytest.raises(DataError, match="isn't utf-16"):
        stream_table(path)


def test_a_column_whose_name_cannot_be_decoded_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,b\xff\n1,2\n")
    with pytest.raises(DataError, match=r"names of the columns.*0xff"):
        stream_table(tmp_path / "t.csv", encoding="utf-8")


def test_a_parquet_column_whose_name_cannot_be_decoded_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"name": [1]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"name", b"n\xffme"))
    for read_table in (stream_table, open_table):
        with pytest.raises(DataError, match="isn't a Parquet file"):
            read_table(path)


def test_quotation_marks_may_be_parts_of_cells(tmp_path):
    (tmp_path / "t.tsv").write_text('a\tb\n"x\t1\ny" z\t2\n')
    stream = stream_table(tmp_path / "t.tsv")
    assert [at["a"] for chunk in stream.chunks(9) for at in chunk.records(range(2))] == [
        '"x',
        'y" z',
    ]
    assert "quotation marks are taken as they stand" in stream.notes[0]


def test_a_table_without_a_header_has_the_names_given(tmp_path):
    (tmp_path / "t.csv").write_text("1,x\n2,y\n")
    assert read(tmp_path / "t.csv", columns=("n", "s"))[0][1] == {"n": "1", "s": "x"}
    (tmp_path / "t.csv").write_text("n,s\n2,y\n")
    assert read(tmp_path / "t.csv", columns=("n", "s"))[0][1] == {"n": "2", "s": "y"}


def test_parquet_keeps_its_types_and_plain_values_hold_no_bytes(tmp_path):
    table = pa.table({"at": pa.array([1, None], pa.timestamp("ns")), "b": [b"x", None]})
    pq.write_table(table, tmp_path / "t.parquet")
    stream = stream_table(tmp_path / "t.parquet")
    (chunk,) = stream.chunks(9)
    assert chunk.records([0, 1]) == [
        {"at": "1970-01-01 00:00:00.000000001", "b": None},
        {"at": None, "b": None},
    ]
    assert chunk.column("b")[0] == b"x"
    assert chunk.arrow([0]).schema.field("at").type == pa.timestamp("ns")


def test_columns_of_objects_have_a_type_that_holds_all(tmp_path):
    lines = [{"n": 1, "m": 1, "s": "x", "l": [1]}, {"n": 2.5, "m": 2, "s": 1, "t": True}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    stream = stream_table(tmp_path / "t.jsonl")
    kinds = {item.name: str(item.type) for item in stream.schema}
    assert kinds == {"n": "double", "m": "int64", "s": "string", "l": "string", "t": "bool"}
    (chunk,) = stream.chunks(9)
    assert chunk.arrow([0, 1]).to_pylist()[0] == {"n": 1, "m": 1, "s": "x", "l": "[1]", "t": None}


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("t.csv", b"", "empty"),
        ("t.csv", b"a,a\n1,2\n", "one name"),
        ("t.jsonl", b"\n", "no rows"),
        ("t.parquet", b"PAR1", "isn't a Parquet file"),
        ("t.csv.gz", b"\x1f\x8b\x08cut", "damaged"),
        ("t.csv", b"PK\x03\x04" + bytes(60), "ZIP"),
        ("t.xlsx", b"PK\x03\x04", "Excel"),
    ],
)
def test_what_is_no_table_is_refused(name, data, word, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=word):
        stream_table(tmp_path / name)


def test_the_first_line_may_name_the_separator(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("sep=;\ntext;label\na, b;x\nc, d;y\n")
    (chunk,) = stream_table(file).chunks(10)
    assert chunk.column("text") == ["a, b", "c, d"]
    assert [row.place for row in chunk.rows] == ["t.csv:3", "t.csv:4"]


def test_nested_objects_are_flat(tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text('{"data": {"text": "a"}}\n{"data": {"text": "b"}}\n')
    stream = stream_table(file)
    assert stream.names == ["data.text"]
    (chunk,) = stream.chunks(10)
    assert chunk.column("data.text") == ["a", "b"]


def test_a_header_in_the_middle_is_no_row(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\na,1\ntext,label\nb,2\n")
    rows = [row for chunk in stream_table(tmp_path / "t.csv").chunks(10) for row in chunk.rows]
    assert [(row.number, row.place) for row in rows] == [(1, "t.csv:2"), (2, "t.csv:4")]
