from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelwright.data.sources import list_source
from modelwright.errors import DataError
from modelwright.run import silent
from tests.data.making import folder, picture, prepared, recipe


def listed(base, data):
    return list_source(recipe(data).data, base=base, observe=silent)


def test_the_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    theirs, found = load_digits(), listed(Path(), "source: digits")
    assert [int(label) for label in found.labels] == theirs.target.tolist()
    image = np.load(__import__("io").BytesIO(found.read(17)))
    assert np.array_equal(image, np.rint(theirs.images[17] * 255 / 16).astype(np.uint8))


def test_a_folder_of_class_folders(tmp_path):
    folder(tmp_path / "pets", each=3)
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "pets" / ".hidden").mkdir()
    (tmp_path / "pets" / "dog" / "UPPER.PNG").write_bytes(picture(99))
    found = listed(tmp_path, "source: folder, path: pets")
    assert found.labels == ["cat"] * 3 + ["dog"] * 4
    assert set(found.splits) == {""}
    assert found.origins[0] == "cat/000.png"
    assert "1 .txt" in found.notes[0]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "validation", "Test")])
def test_nested_splits_are_recognised(tmp_path, names):
    for number, name in enumerate(names):
        folder(tmp_path / "data" / name, each=2, first=100 * number)
    found = listed(tmp_path, "source: folder, path: data")
    assert sorted(set(found.splits)) == ["test", "train", "validation"]
    assert set(found.labels) == {"cat", "dog"}


LABELS = ["", "a b", "😀", "猫", "../up", "<b>x</b>", "con.", "x" * 200]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_keep_labels_as_they_stand(tmp_path, kind):
    rows = []
    for number, label in enumerate(LABELS):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
        rows.append({"file": f"{number}.png", "kind": label})
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    else:
        sign = "," if kind == "csv" else "\t"
        lines = [sign.join(("file", "kind")), *(sign.join(row.values()) for row in rows)]
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    found = listed(tmp_path, f"source: table, path: table.{kind}, image: file, label: kind")
    assert found.labels == LABELS
    assert found.read(3) == picture(3)


def test_tables_hold_bytes_splits_and_named_classes(tmp_path):
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
        ],
        metadata={
            "huggingface": json.dumps({"info": {"features": {"label": {"names": ["no", "yes"]}}}})
        },
    )
    for split, first in (("train", 0), ("test", 50)):
        rows = [
            {"image": {"bytes": picture(first + at), "path": None}, "label": at % 2}
            for at in range(4)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / f"{split}.parquet")
    found = listed(tmp_path, "source: table, path: .")
    assert found.labels == ["no", "yes"] * 4
    assert found.splits == ["train"] * 4 + ["test"] * 4
    assert found.read(5) == picture(51)


def test_relative_paths_are_looked_for_under_the_data_folder_too(tmp_path, monkeypatch):
    folder(tmp_path / "elsewhere" / "pets", each=1)
    monkeypatch.setenv("MODELWRIGHT_DATA", str(tmp_path / "elsewhere"))
    assert len(listed(tmp_path, "source: folder, path: pets")) == 2


WRONG = [
    ("source: folder, path: potos", "Did you mean `photos`"),
    ("source: folder, path: photos/empty", "no images in this folder"),
    ("source: folder, path: photos/flat", "stand directly in the folder"),
    ("source: folder, path: table.csv", "source: table"),
    ("source: table, path: table.csv, image: fil", "Did you mean `file`"),
    ("source: table, path: torn.csv, image: file", "torn.csv:3"),
    ("source: table, path: latin.csv, image: file", "UTF-8"),
    ("source: table, path: broken.jsonl", "broken.jsonl:2"),
    ("source: table, path: broken.parquet", "Parquet"),
    ("source: table, path: splits.csv, image: file, split_column: split", "isn't the name"),
    ("source: table, path: table.xlsx", "xlsx"),
    ("source: table, path: nothing.csv", "the table is empty"),
    ("source: cifar10, path: photos", "isn't CIFAR-10"),
    ("source: cifar10, path: broken.parquet", "MD5"),
]


@pytest.mark.parametrize(("data", "words"), WRONG)
def test_what_is_wrong_is_said_with_its_place(tmp_path, data, words):
    (tmp_path / "photos" / "empty").mkdir(parents=True)
    (tmp_path / "photos" / "flat").mkdir()
    (tmp_path / "photos" / "flat" / "a.png").write_bytes(picture(0))
    (tmp_path / "table.csv").write_text("file,label\na.png,x\n")
    (tmp_path / "torn.csv").write_text("file,label\na.png,x\nb.png\n")
    (tmp_path / "latin.csv").write_bytes("file,label\na.png,caf\xe9\n".encode("latin-1"))
    (tmp_path / "broken.jsonl").write_text('{"image": "a"}\n{"image": \n')
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    (tmp_path / "nothing.csv").touch()
    (tmp_path / "splits.csv").write_text("file,label,split\na.png,x,tset\n")
    with pytest.raises(DataError) as raised:
        listed(tmp_path, data)
    assert words in str(raised.value)


SHIFTED = {
    "csv": 'file,label,split\n"a.png","two\nlines",train\n\nb.png,x,tset\n',
    "tsv": '"file"\t"la\n\nbel"\tsplit\na.png\tx\ttrain\nb.png\tx\ttset\n',
    "jsonl": '{"file": "a.png", "label": "x", "split": "train"}\n\n\n'
    '{"file": "b.png", "label": "x", "split": ""}\n'
    '{"file": "b.png", "label": "x", "split": "tset"}\n',
}


@pytest.mark.parametrize(("kind", "line"), [("csv", 5), ("tsv", 5), ("jsonl", 5)])
def test_lines_are_those_of_the_file(tmp_path, kind, line):
    (tmp_path / f"table.{kind}").write_text(SHIFTED[kind])
    label = '"la\\n\\nbel"' if kind == "tsv" else "label"
    data = f"source: table, path: table.{kind}, image: file, label: {label}, split_column: split"
    with pytest.raises(DataError, match=f"table.{kind}:{line}: .*isn't the name of a split"):
        listed(tmp_path, data)


def test_a_torn_row_is_where_it_begins(tmp_path):
    (tmp_path / "table.csv").write_text('file,label\na.png,"two\nlines"\nb.png,"x\ny",z\n')
    with pytest.raises(DataError, match=r"table\.csv:4: this row has 3 cells"):
        listed(tmp_path, "source: table, path: table.csv, image: file")


def test_a_link_back_up_is_followed_once(tmp_path):
    folder(tmp_path / "pets", each=2)
    (tmp_path / "pets" / "cat" / "loop").symlink_to(tmp_path / "pets" / "cat")
    (tmp_path / "pets" / "all").symlink_to(tmp_path / "pets")
    found = listed(tmp_path, "source: folder, path: pets")
    assert len(found) == 4
    assert "all" not in found.labels


def cifar10():
    found = os.environ.get("MODELWRIGHT_DATA")
    if not found or not (Path(found) / "cifar10").exists():
        pytest.skip("MODELWRIGHT_DATA holds no cifar10")
    return Path(found) / "cifar10"


@pytest.mark.parametrize(
    ("image", "label", "words"),
    [
        ({"bytes": picture(0), "path": None}, 3, ""),
        ({"bytes": None, "path": "a.png"}, 3, "doesn't hold the bytes of an image"),
        ("a.png", 3, "doesn't hold the bytes of an image"),
        (picture(0), 10, "a label isn't one of 0 to 9"),
        (picture(0), None, "a label isn't one of 0 to 9"),
        (picture(0), "cat", "a label isn't one of 0 to 9"),
    ],
)
def test_cells_of_cifar10_are_bytes_and_numbers(tmp_path, image, label, words):
    for split in ("train", "test"):
        rows = [{"image": image, "label": label}] * 2
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    if words:
        with pytest.raises(DataError, match=words):
            listed(tmp_path, "source: cifar10, path: .")
    else:
        assert listed(tmp_path, "source: cifar10, path: .").read(0) == picture(0)


@pytest.mark.slow
def test_both_forms_of_cifar10_hold_the_same_pixels(tmp_path):
    import subprocess
    import sys

    from modelwright.transforms import ImageInput, decode_image

    held = cifar10()
    subprocess.run([sys.executable, held / "write_binary.py", tmp_path], check=True)
    binary = listed(tmp_path, "source: cifar10, path: cifar-10-batches-bin")
    parquet = listed(held.parent, "source: cifar10, path: cifar10")
    assert list(binary.labels) == list(parquet.labels)
    assert list(binary.origins) == list(parquet.origins)
    spec = ImageInput(height=32, width=32, channels=3)
    for row in (0, 9_999, 10_000, 49_999, 50_000, 59_999):
        one, other = (decode_image(listing.read(row), spec) for listing in (binary, parquet))
        assert np.array_equal(one, other)


def test_what_a_zip_leaves_beside_the_splits_is_nothing(tmp_path):
    root = tmp_path / "pets"
    folder(root / "train", each=6)
    folder(root / "test", each=3, first=50)
    folder(root / "__MACOSX", each=1, first=90)
    found = prepared(tmp_path, "source: folder, path: pets")
    assert found.labels == ("cat", "dog")
    assert sum(found.counts["test"]) == 6


def test_a_folder_of_samples_beside_the_splits_is_refused(tmp_path):
    root = tmp_path / "pets"
    folder(root / "train", each=6)
    folder(root / "test", each=3, first=50)
    folder(root, classes=("spare",), each=2, first=90)
    with pytest.raises(DataError, match="`spare` stands beside those of the splits"):
        prepared(tmp_path, "source: folder, path: pets")


def test_a_class_may_be_called_as_a_split(tmp_path):
    folder(tmp_path / "things", classes=("train", "car"), each=10)
    assert prepared(tmp_path, "source: folder, path: things").labels == ("car", "train")


def test_loose_samples_in_a_split_are_told(tmp_path):
    for split in ("train", "test"):
        folder(tmp_path / "pets", classes=(split,), each=3, first=9 * len(split))
    with pytest.raises(DataError, match="stand directly in the folder"):
        prepared(tmp_path, "source: folder, path: pets")


def test_samples_in_hidden_folders_are_counted(tmp_path):
    folder(tmp_path / "pets", each=10)
    folder(tmp_path / "pets", classes=("..x",), each=4, first=60)
    said = []
    prepared(
        tmp_path,
        "source: folder, path: pets",
        observe=lambda progress: said.append(progress.note),
    )
    assert any("4 in folders whose names begin with a dot" in note for note in said)
