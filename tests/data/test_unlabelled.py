"""Samples without labels: only for training, and never those that are measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modelwright.data import (
    Prepared,
    Unlabelled,
    prepare,
    prepare_again,
    run_splits,
    unlabelled_split,
)
from modelwright.errors import DataError
from modelwright.kinds import OutputKind
from modelwright.recipe import Draft
from modelwright.run import Progress, silent
from modelwright.transforms import ImageInput
from modelwright.transforms.ngrams import fit_ngrams


def image(number: int) -> Image.Image:
    random = np.random.default_rng(number)
    return Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Twenty photos of two classes; beside them twelve without a label, some of them the same."""
    for number in range(20):
        split, label = ("test" if number >= 14 else "train"), "ab"[number % 2]
        place = tmp_path / "photos" / split / label
        place.mkdir(parents=True, exist_ok=True)
        image(number).save(place / f"{number:02d}.png")
    (tmp_path / "more" / "deep").mkdir(parents=True)
    for number in range(12, 24):
        image(number).save(tmp_path / "more" / "deep" / f"{number}.png")
    (tmp_path / "more" / "broken.png").write_bytes(b"no image")
    (tmp_path / "more" / "notes.txt").write_text("a file of another kind")
    return tmp_path


def prepared(here: Path, *, run_folder: Path | None = None, **data: Any) -> tuple[Prepared, str]:
    """Return what is prepared, and all that is said of it."""
    said: list[str] = []

    def observe(progress: Progress) -> None:
        said.append(progress.note)

    settings = {"source": "folder", "path": "photos", "split": {"val": 0.3}, **data}
    recipe = Draft.from_settings({"version": 1, "data": settings}).recipe()
    found = prepare(recipe, base=here, run_folder=run_folder, observe=observe)
    return found, "\n".join(said)


def test_they_stand_beside_the_splits_without_those_that_are_measured(here: Path) -> None:
    plain, _ = prepared(here)
    found, said = prepared(here, unlabelled="more")
    assert {name: len(rows) for name, rows in found.rows.items()} == {
        name: len(rows) for name, rows in plain.rows.items()
    }
    assert found.record == plain.record
    assert found.labels == ("a", "b")
    more = found.dataset().unlabelled
    assert more is not None
    measured = {item.tobytes() for name in ("test", "validation") for item in found.digests(name)}
    own = {item.tobytes() for item in found.store.fixed("content_digest")[found.unlabelled]}
    assert not measured & own
    # Of the 12 images the test split has 6; the first 2 may be of validation, or of training.
    assert 4 <= len(more) <= 6
    assert f"{len(more)} images without a label can teach" in said
    assert f"{12 - len(more)} more are left out" in said
    assert "broken.png" in said
    assert "without a label" not in "\n".join(item.message for item in found.report.findings)


def test_training_gets_them_behind_its_own_samples(here: Path) -> None:
    found, _ = prepared(here, unlabelled="more")
    data = found.dataset()
    joined = data.with_unlabelled()
    assert data.unlabelled is not None
    assert len(joined) == len(data.train) + len(data.unlabelled)
    assert np.array_equal(joined.targets[: len(data.train)], data.train.targets)
    assert np.array_equal(joined.gather(slice(len(data.train), None)), data.unlabelled.gather())
    assert data.origin is not None
    assert data.origin.test() is None
    without, _ = prepared(here)
    alone = without.dataset()
    assert alone.with_unlabelled() is alone.train


def test_another_network_takes_the_same_ones(here: Path) -> None:
    found, _ = prepared(here, unlabelled="more")
    recipe = Draft.from_settings(
        {"version": 1, "data": {"source": "folder", "path": "photos"}}
    ).recipe()
    like = ImageInput(4, 4, 3)
    again = prepare_again(found, recipe, like=like, observe=lambda _: None)
    first, other = found.dataset().with_unlabelled(), again.dataset().with_unlabelled()
    assert np.array_equal(first.rows, other.rows)
    assert other.pixels.shape[1:] == (4, 4, 3)


def test_a_limit_holds_for_them_too(here: Path) -> None:
    found, _ = prepared(here, unlabelled="more", limit=3)
    assert len(found.unlabelled) == 3


def test_the_run_remembers_them(here: Path) -> None:
    found, _ = prepared(here, unlabelled="more", run_folder=here)
    table = pq.read_table(here / "splits.parquet").to_pylist()
    rows = [row for row in table if row["split"] == "unlabelled"]
    assert len(rows) == len(found.unlabelled)
    assert {row["label"] for row in rows} == {""}
    seen = run_splits(here / "model.mw", {"splits": found.record["splits"]}).digests
    assert seen is not None
    assert len(seen["train"]) == len(found.rows["train"]) + len(found.unlabelled)


def test_a_table_gives_its_column_of_inputs(here: Path) -> None:
    rows = [f"more/deep/{number}.png" for number in range(18, 24)]
    (here / "more.csv").write_text("\n".join(["image,note", *(f"{row},x" for row in rows)]))
    found, _ = prepared(here, unlabelled="more.csv")
    assert len(found.unlabelled) == 4  # 18 and 19 are test images.


def test_texts_of_a_folder_and_of_several_labels(tmp_path: Path) -> None:
    lines = [f"text number {at},{'a|b' if at % 2 else 'b'}" for at in range(20)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *lines]))
    (tmp_path / "more").mkdir()
    for number in range(15, 25):
        (tmp_path / "more" / f"{number}.txt").write_text(f"text number {number}")
    recipe = Draft.from_settings(
        {
            "version": 1,
            "task": "text-classification",
            "data": {
                "source": "table",
                "path": "texts.csv",
                "multi_label": True,
                "unlabelled": "more",
            },
        }
    ).recipe()
    found = prepare(recipe, base=tmp_path, observe=lambda _: None)
    joined = found.dataset().with_unlabelled()
    assert joined.targets.shape == (len(joined), 2)
    assert not joined.targets[len(found.rows["train"]) :].any()
    assert 5 <= len(found.unlabelled) < 10


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("more/notes.txt", "neither"),
        ("empty", "no images in this folder"),
        ("nowhere", "there is no `nowhere`"),
        ("photos/test", "none of the 6 unlabelled images"),
    ],
)
def test_what_holds_none_is_named(here: Path, path: str, message: str) -> None:
    (here / "empty").mkdir()
    with pytest.raises(DataError, match=message) as caught:
        prepared(here, unlabelled=path)
    assert caught.value.fix


SIZE = ImageInput(8, 8, 3)


def asked(path: Path | None, like: Any = None, observe: Any = silent) -> Unlabelled:
    return unlabelled_split(
        path, input=SIZE, like=like, output_kind=OutputKind.SINGLE_LABEL, observe=observe
    )


def test_what_a_model_is_asked_about_needs_no_labels(here):
    assert len(asked(here / "more").split) == 12  # Without the one that is broken.
    assert len(asked(here / "photos").split) == 20  # Of both splits: their folders mean nothing.
    (here / "more" / "again.png").write_bytes((here / "more" / "deep" / "12.png").read_bytes())
    split = asked(here / "more").split
    assert len(split) == 12
    pixels = split.gather()
    assert len(np.unique(pixels, axis=0)) == 12


def test_a_models_own_data_gives_its_test_part(here):
    like = Draft.from_text(
        f"version: 1\ndata: {{source: folder, path: {here / 'photos'}}}\n", where="recipe"
    ).recipe()
    assert len(asked(None, like.data).split) == 6
    said: list[Progress] = []
    digits = Draft.from_text("version: 1\ndata: {source: digits}\n", where="recipe").recipe()
    assert len(asked(None, digits.data, said.append).split) == 1797
    assert any("trained on some of these images" in item.note for item in said)


def test_the_texts_of_a_table_are_asked_without_their_labels(tmp_path):
    (tmp_path / "texts.csv").write_text("text\n" + "".join(f"word {n}\n" for n in range(9)))
    found = unlabelled_split(
        tmp_path / "texts.csv",
        input=fit_ngrams([f"word {n}" for n in range(9)]),
        like=None,
        output_kind=OutputKind.SINGLE_LABEL,
        observe=silent,
    )
    assert sorted(found.texts(found.split.rows)) == [f"word {n}" for n in range(9)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "there is no"),
        ("empty", "no images"),
        ("texts.csv", ""),
        ("more/broken.png", "folder"),
        ("more/deep/12.png", "folder"),
    ],
)
def test_data_that_a_model_cannot_be_asked_about_is_named(here, name, words):
    (here / "empty").mkdir()
    (here / "texts.csv").write_text("text,label\na,b\nc,d\n")
    with pytest.raises(DataError) as caught:
        asked(here / name)
    assert words in caught.value.what
    with pytest.raises(DataError, match="which data"):
        asked(None)
    gone = Draft.from_text("version: 1\ndata: {source: folder, path: gone}\n", where="recipe")
    with pytest.raises(DataError) as caught:
        asked(None, gone.recipe().data)
    assert "--data" in caught.value.fix
