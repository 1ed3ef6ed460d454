"""DataFrames: what their cells hold comes back from the file, and what can't be is said."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.data.frames import is_frame, keep_frame, to_table, write_frame
from modelwright.data.table_reader import open_table
from modelwright.errors import DataError, RequestError

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)


@pytest.fixture
def pd():
    return pytest.importorskip("pandas")


def cells(frame):
    return to_table(frame)[0].to_pydict()


def test_a_table_of_arrows_is_written_once_under_a_name_of_its_content(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "cache"))
    frame = pa.table({"text": ["a", None], "label": [1, 2]})
    kept = keep_frame(frame)
    assert keep_frame(frame).path == kept.path
    assert keep_frame(frame.slice(0, 1)).path.name != kept.path.name
    table = open_table(kept.path)
    assert {name: list(read()) for name, read in table.columns.items()} == frame.to_pydict()
    assert table.folder == Path.cwd()
    assert table.place(1) == "row 2"


def test_a_damaged_frame_of_the_cache_is_written_anew(tmp_path, monkeypatch):
    """A cell that changed on the disk would train another model in silence."""
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path))
    path = keep_frame(pa.table({"text": ["soup", "bread"]})).path
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"soup", b"soap"))
    assert keep_frame(pa.table({"text": ["soup", "bread"]})).path.read_bytes() == whole


def test_a_file_where_the_frame_was_made_says_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    frame = pa.table({"image": ["a.png"]})
    write_frame(frame, tmp_path / "here.parquet")
    write_frame(frame, tmp_path / "other" / "there.parquet")
    assert open_table(tmp_path / "here.parquet").frame_folder is None
    assert open_table(tmp_path / "other" / "there.parquet").folder == tmp_path


@pytest.mark.parametrize("value", [[1], {"a": [1]}, "train.csv", np.zeros((2, 2)), None])
def test_what_is_no_frame_is_refused(value):
    assert not is_frame(value)
    with pytest.raises(RequestError, match=f"a {type(value).__name__} isn't a DataFrame"):
        to_table(value)


def test_a_series_is_no_frame(pd):
    assert not is_frame(pd.Series(["a"]))


def test_two_columns_of_one_name_are_refused(pd):
    frame = pd.DataFrame([["a", "b"]], columns=["text", "text"])
    with pytest.raises(DataError, match="two columns have one name: `text`"):
        to_table(frame)


@pytest.mark.parametrize("name", [0, ("a", "b"), None, 1.5])
def test_names_of_columns_are_text(pd, name):
    frame = pd.DataFrame({"x": ["a"]})
    frame.columns = pd.Index([name], dtype=object)
    with pytest.raises(DataError, match="the name of a column isn't text") as caught:
        to_table(frame)
    assert "frame.columns.map(str)" in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.none(), TEXTS), max_size=5), st.lists(st.integers(-9, 9), max_size=5))
def test_texts_and_numbers_of_pandas_come_back(texts, numbers):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": pd.Series(texts, dtype=object)})
    assert cells(frame) == {"text": texts}
    assert cells(pd.DataFrame({"n": numbers}).astype("int64")) == {"n": numbers}


def test_missing_values_of_every_kind_are_empty(pd):
    frame = pd.DataFrame(
        {
            "object": pd.Series(["a", None, float("nan"), pd.NA, pd.NaT], dtype=object),
            "string": pd.Series(["a", None, None, pd.NA, "b"], dtype="string"),
            "float": [1.0, np.nan, 2.0, 3.0, 4.0],
            "integer": pd.Series([1, None, 2, 3, 4], dtype="Int64"),
            "category": pd.Categorical(["a", None, "b", "a", "b"]),
        }
    )
    assert cells(frame) == {
        "object": ["a", None, None, None, None],
        "string": ["a", None, None, None, "b"],
        "float": [1.0, None, 2.0, 3.0, 4.0],
        "integer": [1, None, 2, 3, 4],
        "category": ["a", None, "b", "a", "b"],
    }


def test_lists_arrays_bytes_and_times_stay(pd):
    day = datetime.datetime(2024, 1, 2)
    frame = pd.DataFrame(
        {
            "list": [["a", "b"], []],
            "array": [np.array(["a"]), np.array([], dtype=object)],
            "bytes": [b"\x89PNG", b""],
            "time": [day, day],
            "truth": [True, False],
        }
    )
    found = cells(frame)
    assert found["list"] == [["a", "b"], []]
    assert found["array"] == [["a"], []]
    assert found["bytes"] == [b"\x89PNG", b""]
    assert found["time"] == [day, day]
    assert found["truth"] == [True, False]


def test_texts_beside_numbers_become_text_and_are_noted(pd):
    frame = pd.DataFrame({"label": pd.Series(["a", 1, 2.0, np.int64(3), None], dtype=object)})
    table, notes = to_table(frame)
    assert table.to_pydict() == {"label": ["a", "1", "2", "3", None]}
    (note,) = notes
    assert note.startswith("The column `label` holds values of several types (2 × int, ")


def test_paths_become_text_without_a_note(pd):
    frame = pd.DataFrame({"image": [Path("a") / "b.png", None]})
    table, notes = to_table(frame)
    assert table.to_pydict() == {"image": [str(Path("a") / "b.png"), None]}
    assert notes == ()


@pytest.mark.parametrize(
    ("odd", "kind"),
    [(object(), "object"), ({1, 2}, "set"), (np.zeros((2, 2, 3)), "ndarray"), (["a"], "list")],
)
def test_a_cell_that_has_no_place_in_a_table_is_named_by_its_row(pd, odd, kind):
    frame = pd.DataFrame({"image": pd.Series(["a", odd], dtype=object)})
    with pytest.raises(DataError) as caught:
        to_table(frame)
    text = str(caught.value)
    assert f"the column `image` holds a {kind} in row 2" in text
    assert "above it are 1 × str" in text


def test_text_that_is_no_unicode_is_refused(pd):
    frame = pd.DataFrame({"text": pd.Series(["a\ud800", 1], dtype=object)})
    with pytest.raises(DataError, match="the column `text` holds text that isn't Unicode"):
        to_table(frame)


def test_the_index_is_left_out_and_the_order_of_rows_kept(pd):
    frame = pd.DataFrame({"text": ["a", "b", "c"]}, index=[5, 1, 5])
    assert cells(frame.iloc[::-1]) == {"text": ["c", "b", "a"]}


def test_polars_goes_through_arrow():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"text": ["a", None], "tags": [["x"], []], "kind": ["p", "q"]})
    frame = frame.with_columns(pl.col("kind").cast(pl.Categorical))
    assert cells(frame) == {"text": ["a", None], "tags": [["x"], []], "kind": ["p", "q"]}


def test_categories_are_written_as_their_values(pd, tmp_path):
    frame = pd.DataFrame({"label": pd.Categorical(["p", "q"]), "stars": pd.Categorical([1, 2])})
    write_frame(frame, tmp_path / "a.parquet")
    columns = open_table(tmp_path / "a.parquet").columns
    assert list(columns["label"]()) == ["p", "q"]
    assert list(columns["stars"]([1])) == [2]
