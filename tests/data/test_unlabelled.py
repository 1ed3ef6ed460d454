from __future__ import annotations

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelwright.data import unlabelled_files, unlabelled_texts
from modelwright.errors import DataError
from modelwright.recipe.data import UnlabelledSpec


def texts_of(folder, *names, column="text"):
    spec = UnlabelledSpec(path=names, text=column)
    files = unlabelled_files(spec, base=folder)
    return [text for file in files for text in unlabelled_texts(file, column=column)]


def test_tables_texts_and_folders(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n  \ntwo\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text('text,label\n"three, four",x\n,y\n', encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"text": ["five.", "six."]}\n{"text": null}\n')
    pq.write_table(pa.table({"text": ["seven", ""]}), tmp_path / "d.parquet")
    with gzip.open(tmp_path / "train.en.gz", "wt") as stream:
        stream.write("eight\n")
    found = texts_of(tmp_path, "a.txt", "b.csv", "c.jsonl", "d.parquet", "train.en.gz")
    assert found == ["one", "two", "three, four", "five. six.", "seven", "eight"]
    # Of a folder, what is known by its name; what is named twice is read once.
    assert texts_of(tmp_path, ".", "a.txt") == found[:-1]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.txt", None, "absent.txt"),
        ("bytes.txt", b"\xff\xfeA", "isn't UTF-8"),
        ("other.csv", b"review,label\ngood,1\n", "no column `text`"),
        ("numbers.jsonl", b'{"text": 5}\n', "holds a number, and texts are read"),
        ("empty.csv", b"", "the table is empty"),
        ("list.json", b'["a text"]', "this is one JSON list"),
        ("damaged.parquet", b"PAR1 and more", "isn't a Parquet file"),
        ("damaged.txt.gz", b"\x1f\x8b\x08 no", "gzip file is damaged"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        texts_of(tmp_path, name)
    assert words in str(caught.value)


def test_a_folder_of_other_things(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(DataError, match="neither tables nor texts"):
        texts_of(tmp_path, ".")
