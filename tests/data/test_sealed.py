"""Sealed data: the same samples as unsealed, in memory alone; what is kept of it is sealed too."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelwright.data import unlabelled_split
from modelwright.data.overlap import run_splits
from modelwright.data.sealed import sealing
from modelwright.errors import DataError, RecipeError, SealError
from modelwright.kinds import OutputKind
from modelwright.recipe import check_composition, load_recipe, parse_recipe
from modelwright.run import silent
from modelwright.security.age import is_sealed
from modelwright.security.sealing import (
    ENVIRONMENT,
    create_identity_file,
    read_recipients,
    seal_path,
)
from modelwright.transforms.ngrams import fit_ngrams
from tests.data import making
from tests.data.test_boxed import SMALL, coco, voc, write
from tests.data.test_transcripts import speak, words

pytest.importorskip("pyrage")
PLANTED = "the planted sentence of nobody else"
TEXTS = "task: text-classification\ntext: {max_length: 16}"


@pytest.fixture
def seal(tmp_path, monkeypatch):
    """Return a function that seals something, and takes away what it was."""
    public = create_identity_file(tmp_path / "own.key")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "own.key"))

    def sealed(path: Path) -> Path:
        out = seal_path(path, read_recipients([public]))
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return out

    return sealed


def rows(count=40):
    yield "text", "label"
    for number in range(count):
        yield f"{PLANTED} number {number} of {'good' if number % 2 else 'bad'}", str(number % 2)


def write_csv(path: Path) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows())
    return path


def write_parquet(path: Path) -> Path:
    _, *cells = rows()
    texts, labels = zip(*cells, strict=True)
    pq.write_table(pa.table({"text": texts, "label": labels}), path)
    return path


def write_lines(path: Path) -> Path:
    _, *cells = rows()
    path.write_text("".join(f"{label} {text}\n" for text, label in cells))
    return path


def write_arrays(path: Path) -> Path:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (40, 8, 8), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(40) % 2)
    return path


def write_folder(path: Path) -> Path:
    making.folder(path)
    return path


def write_documents(path: Path) -> Path:
    path.mkdir()
    for number in range(20):
        (path / f"{number}.txt").write_text(f"{PLANTED} {number} " * 9)
    return path


def write_paths(path: Path) -> Path:
    """Write a folder with a table that names images."""
    making.folder(path)
    files = sorted(path.rglob("*.png"))
    table = [
        ("image", "label"),
        *((str(file.relative_to(path)), file.parent.name) for file in files),
    ]
    with (path / "train.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(table)
    return path


def write_sets(path: Path) -> Path:
    """Write images with a table of their labels."""
    making.folder(path, classes=("all",), each=20)
    rows = [(f"all/{at:03d}.png", "a|b" if at % 2 else "b") for at in range(20)]
    with (path / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("image", "labels"), *rows])
    return path


NAMES = [f"{at:02d}" for at in range(24)]


def write_voc(path: Path) -> Path:
    return write(path, {f"{name}.png": [SMALL] for name in NAMES})


def write_voc_apart(path: Path) -> Path:
    files = {f"{split}/Images/{name}.png": [SMALL] for split in ("train", "val") for name in NAMES}
    return write(path, files, xml="Annotations")


def write_coco_splits(path: Path) -> Path:
    for split, first in (("train", 0), ("val", 30)):
        making.folder(path, classes=(split,), each=24, first=first)
        names = [f"{at:03d}.png" for at in range(24)]
        (path / f"instances_{split}.json").write_text(coco(names))
    return path


def write_yolo(path: Path) -> Path:
    making.folder(path / "images", classes=("train", "val"), each=24)
    for split in ("train", "val"):
        (path / "labels" / split).mkdir(parents=True)
        for at in range(24):
            (path / "labels" / split / f"{at:03d}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (path / "data.yaml").write_text("names: [cat]\ntrain: images/train\nval: images/val\n")
    return path


def write_labelme(path: Path) -> Path:
    making.folder(path, classes=("all",), each=24)
    for at in range(24):
        shape = {"label": "cat", "points": [[1, 2], [6, 8]], "shape_type": "rectangle"}
        document = {"shapes": [shape], "imagePath": f"{at:03d}.png"}
        document |= {"imageWidth": 12, "imageHeight": 12}
        (path / "all" / f"{at:03d}.json").write_text(json.dumps(document))
    return path


def write_box_table(path: Path) -> Path:
    making.folder(path, classes=("all",), each=24)
    rows = [{"image": f"all/{at:03d}.png", "boxes": voc(SMALL)} for at in range(24)]
    (path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_speech(path: Path) -> Path:
    speak(path, [f"{word} abcd" for word in words(24)])
    return path


def write_librispeech(path: Path) -> Path:
    for split, first in (("train-clean", 0), ("dev-clean", 40)):
        speak(path / split / "7", words(24), first=first)
        for file in (path / split / "7").glob("*.txt"):
            file.unlink()
        lines = [f"{name} {word}\n" for name, word in zip(NAMES, words(24), strict=True)]
        (path / split / "7" / "7.trans.txt").write_text("".join(lines))
    return path


BOXES = "task: object-detection\ntransforms: {size: 12}"
SPEECH = "task: speech-recognition"
SOURCES = {
    "voc": (write_voc, "boxed", "source: boxes", BOXES),
    "voc apart": (write_voc_apart, "boxed", "source: boxes", BOXES),
    "coco": (write_coco_splits, "boxed", "source: boxes", BOXES),
    "yolo": (write_yolo, "boxed", "source: boxes", BOXES),
    "labelme": (write_labelme, "boxed", "source: boxes", BOXES),
    "table of boxes": (write_box_table, "boxed", "source: boxes, image: image", BOXES),
    "transcripts": (write_speech, "speech", "source: folder", SPEECH),
    "librispeech": (write_librispeech, "speech", "source: folder", SPEECH),
    "sets": (write_sets, "photos", "source: folder, labels: labels.csv", ""),
    "folder": (write_folder, "photos", "source: folder", ""),
    "table": (write_csv, "table.csv", "source: table, text: text", TEXTS),
    "parquet": (write_parquet, "table.parquet", "source: table, text: text", TEXTS),
    "paths": (write_paths, "photos", "source: table, image: image", ""),
    "lines": (write_lines, "lines.txt", "source: labelled_lines", TEXTS),
    "arrays": (write_arrays, "arrays.npz", "source: arrays", ""),
    "documents": (write_documents, "texts", "source: documents", "task: language-modeling"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_sealed_samples_are_those_of_the_plain_source(kind, seal, tmp_path):
    write, name, source, more = SOURCES[kind]
    path = write(tmp_path / name)
    plain = making.prepared(tmp_path, f"{source}, path: {path.name}", more)
    cache = tmp_path / "cache"
    shutil.rmtree(cache)
    data = f"{source}, path: {seal(path).name}, sealed: true"
    sealed = making.prepared(tmp_path, data, more, run_folder=tmp_path / "run")
    assert sealed.store.digest == plain.store.digest
    assert sealed.labels == plain.labels
    assert np.array_equal(sealed.rows["train"], plain.rows["train"])
    batch = np.arange(4)
    first, second = (each.dataset().train.gather(batch) for each in (sealed, plain))
    assert (
        np.array_equal(first, second)
        if isinstance(first, np.ndarray)
        else str(first) == str(second)
    )
    # Neither the cache nor the run's folder holds anything of it unsealed.
    pieces = [item for item in cache.rglob("*") if item.suffix in (".arrow", ".npy", ".bin")]
    pieces.append(tmp_path / "run" / "splits.parquet")
    assert len(pieces) > 2
    assert all(is_sealed(item.read_bytes()) for item in pieces)
    for item in (*cache.rglob("*"), *(tmp_path / "run").rglob("*")):
        assert not item.is_file() or PLANTED.encode() not in item.read_bytes()
    again = making.prepared(tmp_path, data, more)
    assert again.store.digest == plain.store.digest


@pytest.mark.parametrize("kind", SOURCES)
def test_without_the_setting_sealed_data_is_not_opened(kind, seal, tmp_path):
    write, name, source, more = SOURCES[kind]
    path = seal(write(tmp_path / name))
    with pytest.raises(DataError, match="sealed: true"):
        making.prepared(tmp_path, f"{source}, path: {path.name}", more)


def test_without_or_with_a_wrong_identity_it_says_so(seal, tmp_path, monkeypatch):
    path = seal(write_csv(tmp_path / "table.csv"))
    data = f"source: table, text: text, path: {path.name}, sealed: true"
    monkeypatch.delenv(ENVIRONMENT)
    with pytest.raises(SealError, match="no identity"):
        making.prepared(tmp_path, data, TEXTS)
    create_identity_file(tmp_path / "other.key")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "other.key"))
    with pytest.raises(SealError, match="none of the identities"):
        making.prepared(tmp_path, data, TEXTS)


def test_a_damaged_sample_stops_and_is_named(seal, tmp_path):
    path = seal(write_folder(tmp_path / "photos"))
    victim = min(path.rglob("*.age"))
    victim.write_bytes(victim.read_bytes()[:-5])
    with pytest.raises(SealError, match=victim.name):
        making.prepared(tmp_path, "source: folder, path: photos.age, sealed: true")


def test_plain_data_is_not_called_sealed(seal, tmp_path):
    write_folder(tmp_path / "photos")
    with pytest.raises(DataError, match="nothing here is sealed"):
        making.prepared(tmp_path, "source: folder, path: photos, sealed: true")


def test_another_identity_builds_its_own_store(seal, tmp_path, monkeypatch):
    path = write_csv(tmp_path / "table.csv")
    other = create_identity_file(tmp_path / "other.key")
    out = seal_path(path, read_recipients([other]), out=tmp_path / "theirs.age")
    out.rename(tmp_path / "theirs.csv.age")
    source = "source: table, text: text, sealed: true, path:"
    one = making.prepared(tmp_path, f"{source} {seal(path).name}", TEXTS)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "other.key"))
    two = making.prepared(tmp_path, f"{source} theirs.csv.age", TEXTS)
    assert one.store.digest == two.store.digest
    assert one.store.folder != two.store.folder


def test_the_splits_of_a_sealed_run_are_known_with_the_identity(seal, tmp_path, monkeypatch):
    path = seal(write_csv(tmp_path / "table.csv"))
    data = f"source: table, text: text, path: {path.name}, sealed: true"
    made = making.prepared(tmp_path, data, TEXTS, run_folder=tmp_path / "run")
    card = {"splits": made.record["splits"]}
    assert run_splits(tmp_path / "run" / "model.mw", card).digests is not None
    monkeypatch.delenv(ENVIRONMENT)
    assert run_splits(tmp_path / "run" / "model.mw", card).digests is None


@pytest.mark.parametrize(
    ("data", "more"),
    [
        ("source: digits", ""),
        ("source: cifar10", ""),
    ],
)
def test_what_can_not_be_sealed_is_refused_by_a_rule(data, more):
    text = f"version: 1\ndata: {{{data}, sealed: true}}\n{more}\n"
    with pytest.raises(RecipeError, match="sealed"):
        check_composition(parse_recipe(text, where="recipe.yaml"))


def test_an_identity_stands_in_a_site_file_and_never_in_a_recipe(tmp_path):
    recipe, site = tmp_path / "recipe.yaml", tmp_path / "site.yaml"
    recipe.write_text("version: 1\ndata: {source: digits}\n")
    site.write_text("resources: {identity: [env:KEY]}\n")
    read = load_recipe(recipe, site=site)
    assert read.resources.identity == ("env:KEY",)
    assert read.result_digest() == load_recipe(recipe).result_digest()
    recipe.write_text("version: 1\ndata: {source: digits}\nresources: {identity: [env:KEY]}\n")
    with pytest.raises(RecipeError, match="site file"):
        load_recipe(recipe)


def test_making_sealed_data_says_what_the_report_leaves_out():
    text = "version: 1\ndata: {source: folder, path: x, sealed: true}\n"
    (said,) = check_composition(parse_recipe(text, where="recipe.yaml"))
    assert "none of its samples" in said


def test_the_cache_needs_somebody_to_seal_for(seal, tmp_path, monkeypatch):
    own = sealing()
    (tmp_path / "made.age").write_bytes(own.seal(b"made"))
    assert own.open(tmp_path / "made.age") == b"made"
    assert "SECRET" not in repr(own)
    monkeypatch.setenv("WORD", "word")
    monkeypatch.setenv(ENVIRONMENT, "passphrase:env:WORD")
    with pytest.raises(SealError, match="public key"):
        sealing()


def test_sealed_data_is_recognised_as_a_model_s_own(seal, tmp_path):
    from modelwright.data import labelled_split

    made = making.prepared(tmp_path, f"source: arrays, path: {write_arrays(tmp_path / 'a.npz')}")
    path = seal(tmp_path / "a.npz")
    measured = labelled_split(path, input=made.input, labels=made.labels, observe=silent)
    assert len(measured.split) == 40


@pytest.mark.parametrize("write", [write_csv, write_documents])
def test_a_model_is_asked_about_sealed_samples_of_which_nothing_is_kept_open(
    write, seal, tmp_path, monkeypatch
):
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "texts.csv")
    texts = [row[0] for row in rows()]

    def asked(path):
        return unlabelled_split(
            path,
            input=fit_ngrams(texts),
            like=None,
            output_kind=OutputKind.SINGLE_LABEL,
            observe=silent,
        )

    plain = asked(path)
    expected = sorted(plain.texts(plain.split.rows))
    shutil.rmtree(tmp_path / "cache")
    found = asked(seal(path))
    assert sorted(found.texts(found.split.rows)) == expected
    assert found.split.gather().size
    kept = [item for item in (tmp_path / "cache").rglob("*") if item.is_file()]
    assert kept
    assert not any(PLANTED.encode() in item.read_bytes() for item in kept)


def test_sealed_pairs_of_texts_find_each_other(seal, tmp_path):
    texts = "".join(f"{number} {PLANTED}\n" for number in range(40))
    for name in ("train.en", "train.de"):
        (tmp_path / name).write_text(texts)
        seal(tmp_path / name)
    data = "source: parallel_text, path: train.en.age, target: train.de.age, sealed: true"
    made = making.prepared(tmp_path, data, "task: translation")
    assert len(made.store) == 40
    from modelwright.data import labelled_split
    from modelwright.kinds import OutputKind

    measured = labelled_split(
        tmp_path / "train.en.age",
        input=made.input,
        labels=made.labels,
        like=making.recipe(data, "task: translation").data,
        output_kind=OutputKind.SEQ2SEQ,
        observe=silent,
    )
    assert len(measured.split) == 40
