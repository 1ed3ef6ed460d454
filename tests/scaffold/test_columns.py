"""Which columns of a table are the input and the target."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelwright.data.boxed import list_boxes
from modelwright.errors import DataError
from modelwright.kinds import InputKind
from modelwright.recipe.data import BoxesData
from modelwright.scaffold.columns import separator_of
from modelwright.scaffold.infer import guess_columns, infer_task
from modelwright.scaffold.inferred import DataOptions
from tests.data.making import picture

VOC = "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>"
LISTED = [{"label": "cat", "x1": 1, "y1": 2, "x2": 5.0, "y2": 7.0}]
ROWS = 40


def words(at):
    return f"some words of number {at} in a row"


def write(path, columns, *, separator=","):
    """Write a CSV of `ROWS` rows; a column is a function of the row, or cells that repeat."""
    cells = {
        name: column if callable(column) else lambda at, column=column: column[at % len(column)]
        for name, column in columns.items()
    }
    lines = [separator.join(cells)]
    lines += [separator.join(str(cell(at)) for cell in cells.values()) for at in range(ROWS)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def inferred(tmp_path, columns, hints=None, **options):
    found = infer_task(write(tmp_path / "t.csv", columns, **options), "t.csv", hints)
    return found, {key: value for key, value in found.data.items() if key not in ("source", "path")}


TEXT = "text-classification"
IMAGE = "image-classification"


@pytest.mark.parametrize(
    ("columns", "task", "settings"),
    [
        ({"text": words, "label": "ab"}, TEXT, {}),
        ({"review": words, "sentiment": "ab"}, TEXT, {"text": "review", "label": "sentiment"}),
        ({"v2": words, "v1": "ab"}, TEXT, {"text": "v2", "label": "v1"}),
        (
            {"内容": lambda at: f"味道很好吃的第{at}次外卖", "标签": "好差"},
            TEXT,
            {"text": "内容", "label": "标签"},
        ),
        ({"text": words, "label": ["True", "False"]}, TEXT, {}),
        ({"text": words, "language": ["de", "en"]}, TEXT, {"label": "language"}),
        # A number beside the label is no label, and neither are an id and a date.
        (
            {
                "id": lambda at: at,
                "date": lambda at: f"2024-01-{1 + at % 28:02d}",
                "length": lambda at: 3 * at + 0.5,
                "text": words,
                "topic": "abc",
            },
            TEXT,
            {"label": "topic"},
        ),
        # What differs more is text, whatever it is called.
        ({"label": words, "text": "ab"}, TEXT, {"text": "label", "label": "text"}),
        (
            {"file": lambda at: f"{at}.png", "species": "ab"},
            IMAGE,
            {"image": "file", "label": "species"},
        ),
        ({"image": lambda at: f"{at}.png", "diagnosis": "ab"}, IMAGE, {"label": "diagnosis"}),
        # The cells count more than the column's name.
        (
            {"file": lambda at: f"{at}.wav", "label": "ab"},
            "audio-classification",
            {"audio": "file"},
        ),
        (
            {"clip": lambda at: f"{at}.wav", "sentence": words},
            "speech-recognition",
            {"audio": "clip", "label": "sentence"},
        ),
        (
            {"text": words, "price": lambda at: at + 0.5},
            "regression",
            {"target_columns": ["price"], "input_kind": "text"},
        ),
        (
            {"image": lambda at: f"{at}.png", "age": lambda at: at},
            "regression",
            {"target_columns": ["age"]},
        ),
        ({"text": words, "score": ["high", "low"]}, TEXT, {"label": "score"}),
        ({"text": words, "target": "01"}, TEXT, {"label": "target"}),
        ({"text": words, "label": "ab", "Set": ["train", "test"]}, TEXT, {"split_column": "Set"}),
        (
            {"text": words, "toxic": "01", "rude": "0001"},
            TEXT,
            {"multi_label": True, "target_columns": ["toxic", "rude"]},
        ),
        ({"text": words, "tags": ["a|b", "b", "a"]}, TEXT, {"label": "tags", "multi_label": True}),
        (
            {"text": words, "tags": ["a; b", "b", "a"]},
            TEXT,
            {"label": "tags", "multi_label": True, "separator": ";"},
        ),
        (
            {
                "text": lambda at: f"a long text of many words, number {at}",
                "summary": lambda at: f"text {at}",
            },
            "summarization",
            {"label": "summary"},
        ),
        (
            {"en": words, "target": lambda at: f"viele andere deutsche Worte {at}"},
            "translation",
            {"text": "en", "label": "target"},
        ),
    ],
)
def test_columns_are_told_by_content_and_names(tmp_path, columns, task, settings):
    found, chosen = inferred(tmp_path, columns, separator="\t" if task == "summarization" else ",")
    assert (found.task, chosen) == (task, settings)
    assert found.notes


@pytest.mark.parametrize("written", ["{}", "{},5", "${}", '"{},500.0"', "{} %"])
@pytest.mark.parametrize("first", ["", "nan"])
def test_numbers_stay_numbers_however_they_are_written(tmp_path, written, first):
    found, settings = inferred(
        tmp_path,
        {"text": words, "target": lambda at: written.format(at % 5) if at else first},
        separator=";",
    )
    assert (found.task, settings) == ("regression", {"input_kind": "text"})


def test_lists_in_cells_are_several_labels(tmp_path):
    for lists in (["\"['a', 'b']\"", "\"['b']\""], ['"[""a""]"', '"[""a"", ""b""]"']):
        found, settings = inferred(tmp_path, {"text": words, "label": lists})
        assert (found.task, settings) == (TEXT, {"multi_label": True})
    path = tmp_path / "t.jsonl"
    rows = [{"text": words(at), "tags": ["b", "c"][: 1 + at % 2], "n": at} for at in range(9)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert infer_task(path, "t").data["multi_label"]


def test_two_readings_are_said_and_the_user_decides(tmp_path):
    columns = {"text": words, "topic": "abc", "mood": "xy"}
    found, settings = inferred(tmp_path, columns)
    assert settings == {"label": "topic"}
    assert found.choices == (
        "`mood` (2 different values) could be the target as well: --target mood",
    )
    assert inferred(tmp_path, columns, DataOptions(target=("mood",)))[1] == {"label": "mood"}
    texts = {
        "title": lambda at: f"a short title {at}",
        "body": lambda at: 3 * words(at),
        "label": "ab",
    }
    found, settings = inferred(tmp_path, texts)
    assert settings == {"text": "body"}
    assert "--input title" in found.choices[0]
    assert inferred(tmp_path, texts, DataOptions(input="title"))[1] == {"text": "title"}
    found, settings = inferred(tmp_path, texts, DataOptions(input="body", target=("title",)))
    assert (found.task, settings) == ("summarization", {"text": "body", "label": "title"})


def test_the_task_decides_between_labels_and_numbers(tmp_path):
    columns = {"text": words, "rating": "12345"}
    assert inferred(tmp_path, columns)[0].task == "regression"
    found, settings = inferred(tmp_path, columns, DataOptions(task=TEXT))
    assert (found.task, settings) == (TEXT, {"label": "rating"})
    assert inferred(tmp_path, {"text": words}, DataOptions(task="language-modeling"))[1] == {}


@pytest.mark.parametrize(
    ("columns", "hints", "message"),
    [
        ({"a": "xyz", "b": lambda at: at}, None, "no column holds .* categories in columns aren't"),
        ({"text": words}, None, "no column holds the targets"),
        ({"text": words, "label": "ab"}, DataOptions(input="txt"), "`text`"),
        ({"text": words, "label": "ab"}, DataOptions(target=("lable",)), "`label`"),
        ({"text": words, "label": "ab"}, DataOptions(task="regression"), "not numbers"),
        ({"image": lambda at: f"https://x.org/{at}.png", "label": "ab"}, None, "holds addresses"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path, columns, hints, message):
    with pytest.raises(DataError, match=message):
        inferred(tmp_path, columns, hints)


def test_a_table_without_a_header_gets_names(tmp_path):
    path = write(tmp_path / "t.csv", {"text": words, "label": "ab"})
    path.write_text(path.read_text().partition("\n")[2])
    found = infer_task(path, "t.csv")
    assert found.data["columns"] == ["text", "label"]
    assert any("looks like data" in note for note in found.notes)


def test_a_folder_beside_the_table_is_searched_for_names_without_endings(tmp_path):
    (tmp_path / "all" / "train").mkdir(parents=True)
    for at in range(ROWS):
        (tmp_path / "all" / "train" / f"d{at}.png").write_bytes(picture(at))
    columns = {"id": lambda at: f"d{at}", "breed": "ab"}
    path = write(tmp_path / "all" / "labels.csv", columns)
    expected = {"image": "id", "files": "train/{}.png", "label": "breed"}
    for source, shown in ((path, "labels.csv"), (tmp_path / "all", ".")):
        found = infer_task(source, shown)
        assert found.task == IMAGE
        assert found.data == {"source": "table", "path": "labels.csv", **expected}


def test_a_known_kind_is_looked_for(tmp_path):
    columns = {"text": words, "picture": lambda at: f"{at}.png", "class": "ab"}
    path = write(tmp_path / "t.csv", columns)
    assert guess_columns(path, InputKind.IMAGE) == {"image": "picture", "label": "class"}
    assert guess_columns(path, InputKind.TEXT) == {"label": "class"}


def test_columns_of_boxes(tmp_path):
    path = tmp_path / "t.parquet"
    for cells in ([VOC, None], [LISTED, []], [json.dumps(LISTED), ""]):
        images = [picture(at) for at, _ in enumerate(cells)]
        pq.write_table(pa.table({"image": images, "voc_xml": cells}), path)
        found = infer_task(path, "t")
        assert found.data == {"source": "boxes", "path": "t", "boxes": "voc_xml"}


def test_a_table_of_boxes_in_another_encoding(tmp_path):
    boxes = json.dumps(LISTED).replace('"', '""')
    cells = "".join(f'{at}.png,"{boxes}",é\n' for at in range(3))
    (tmp_path / "t.csv").write_bytes(f"image,boxes,note\n{cells}".encode("cp1252"))
    found = infer_task(tmp_path / "t.csv", "t.csv")
    assert found.data == {"source": "boxes", "path": "t.csv", "encoding": "cp1252"}
    listing = list_boxes(BoxesData(**{**found.data, "path": "t.csv"}), base=tmp_path)
    assert len(listing) == 3


def test_separators():
    assert separator_of(["a|b", "b", "a", "b|a"]) == "|"
    assert separator_of(["a, b", "b", "a", "b, a"]) == ","
    assert separator_of(["a/b", "c/d", "e"]) is None
    assert separator_of(["New York, NY", "Paris", "Rome"]) is None


@pytest.mark.parametrize(
    ("name", "ending", "is_refused"),
    [
        ("image", "", True),
        ("link", ".jpg?w=3", True),
        ("photo_url", "?id=2", True),
        ("u", "", False),
    ],
)
def test_addresses_are_not_fetched_but_may_be_texts(tmp_path, name, ending, is_refused):
    columns = {name: lambda at: f"https://example.org/{at}{ending}", "label": ("a", "b")}
    path = write(tmp_path / "t.csv", columns)
    if is_refused:
        with pytest.raises(DataError, match="addresses, and files aren't fetched") as raised:
            infer_task(path, "t.csv")
        assert f"--input {name}" in raised.value.fix
    found = infer_task(path, "t.csv", DataOptions(input=name))
    assert found.task == "text-classification"


def test_very_many_classes_are_told_from_all_rows(tmp_path):
    lines = [f"some words of number {at},class_{at // 2}" for at in range(4000)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *lines]))
    found = infer_task(tmp_path / "t.csv", "t.csv")
    assert found.task == "text-classification"
    assert "`text` is taken as the text and `label` as the label" in found.notes
