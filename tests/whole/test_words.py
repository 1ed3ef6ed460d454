"""Vectors that start from texts without labels: what is read, what is left out, and the cache."""

from __future__ import annotations

import csv
import json

import pytest

from modelwright.errors import DataError
from modelwright.files import cache_folder
from modelwright.pipeline import layers, run

HEAD = "version: 1\nmodel: {name: text-cnn, width: 4, filters: 4, kernels: [1]}\n"
PLAIN = "task: text-classification\ndata: {source: table, path: data}\n"
TEXTS = [f"the {a} {b} is {c}" for a in ("soup", "rice", "cake") for b in "xyz" for c in "stuv"]


def table(path, texts):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [("text", "label"), *((text, "ab"[at % 2]) for at, text in enumerate(texts))]
        )


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for name, texts in (("train", TEXTS[:20]), ("val", TEXTS[20:28]), ("test", TEXTS[28:])):
        table(tmp_path / "data" / f"{name}.csv", texts)
    (tmp_path / "recipe.yaml").write_text(HEAD + PLAIN)
    return tmp_path


def said(here, *names, recipe="recipe.yaml"):
    """Return what is said of the texts that words start from."""
    notes = []
    layers(
        here / recipe,
        overrides=[f"text.unlabelled={{path: {json.dumps(list(names))}}}"],
        observe=lambda progress: notes.append(progress.note),
    )
    (note,) = [note for note in notes if "tokens start from" in note]
    return note.partition("start from ")[2]


def lines(path, texts):
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")


def test_what_is_measured_on_is_left_out(here):
    more = [f"more {text}" for text in TEXTS[:20]]
    lines(here / "more.txt", [*more, *TEXTS[20:24], TEXTS[30].upper().replace(" ", "  ")])
    assert said(here, "more.txt").startswith("20 texts; 5 that are held out")
    # Also behind a label, and where a character ends a line for Python alone.
    lines(here / "labels.txt", [*more, *(f"LABEL:x {text}" for text in TEXTS[28:])])
    assert said(here, "labels.txt").startswith("20 texts; 8 that")
    lines(here / "odd.txt", [*more, f"one{chr(0x85)}two"])
    assert said(here, "odd.txt") == "21 texts"
    with pytest.raises(DataError, match="all 8 texts are among those that the model is measured"):
        said(here, "data/test.csv")
    (here / "blank.txt").write_text("\n \n")
    with pytest.raises(DataError, match="there is no text here") as caught:
        said(here, "blank.txt")
    assert "blank.txt" in str(caught.value)


def test_what_is_to_be_written_is_left_out_too(here):
    for split in ("train", "val", "test"):
        texts = [text for text in TEXTS if len(text) % 3 == ("train", "val", "test").index(split)]
        texts = texts or TEXTS[:4]
        lines(here / f"{split}.a", [f"{split} {text}" for text in texts])
        lines(here / f"{split}.b", [f"{split} wrote {text}" for text in texts])
    (here / "pairs.yaml").write_text(
        "version: 1\ntask: translation\n"
        "data: {source: parallel_text, path: train.a, target: train.b, val: [val.a, val.b], "
        "test: [test.a, test.b], allow_leaks: true}\n"
        "model: {name: seq2seq, kind: gru, width: 8, layers: 1}\n"
        "text: {tokenizer: word}\n"
    )
    lines(here / "more.txt", [*(f"more {text}" for text in TEXTS[:9])])
    count = len((here / "test.b").read_text().splitlines())
    found = said(here, "more.txt", "test.b", recipe="pairs.yaml")
    assert found.startswith(f"9 texts; {count} that")


def test_documents_are_left_out_line_by_line(here):
    for split, part in (("train", TEXTS[:20]), ("val", TEXTS[20:28]), ("test", TEXTS[28:])):
        lines(here / f"{split}.txt", part)
    (here / "documents.yaml").write_text(
        "version: 1\ntask: language-modeling\n"
        "data: {source: documents, path: train.txt, val: val.txt, test: test.txt}\n"
        "model: {name: decoder, width: 16, layers: 1, heads: 2}\n"
        "text: {tokenizer: character, max_length: 16}\n"
    )
    lines(here / "more.txt", [f"more {text}" for text in TEXTS[:9]])
    found = said(here, "more.txt", "test.txt", recipe="documents.yaml")
    assert found.startswith("9 texts; 8 that")


def test_the_cache_knows_how_a_file_is_read_and_is_mended(here):
    table(here / "k.csv", [f"more {text}" for text in TEXTS[:20]])
    (here / "k.txt").write_bytes((here / "k.csv").read_bytes())
    assert said(here, "k.txt") == "21 texts"
    assert said(here, "k.csv") == "20 texts"
    held = sorted((cache_folder() / "vectors").glob("*.npz"))
    assert len(held) == 2
    for damage in (b"", b"hello", held[0].read_bytes()[:-200], b"PK\3\4" + bytes(99)):
        for path in held:
            path.write_bytes(damage)
        assert said(here, "k.txt") == "21 texts"
        assert said(here, "k.csv") == "20 texts"


def test_a_run_does_not_go_on_with_other_texts(here):
    (here / "more.txt").write_bytes(b"\xff")
    settings = [
        "text.unlabelled={path: [more.txt]}",
        "train.epochs=1",
        "evaluate={baselines: false, latency: false}",
    ]
    with pytest.raises(DataError, match="isn't UTF-8"):
        run(here / "recipe.yaml", out=here, name="one", overrides=settings)
    # What was refused is no start.
    lines(here / "more.txt", [f"more {text}" for text in TEXTS[:20]])
    result = run(here / "recipe.yaml", out=here, name="one", overrides=settings)
    (result.folder / "result.json").unlink()
    lines(here / "more.txt", [f"less {text}" for text in TEXTS[:20]])
    with pytest.raises(DataError, match="have changed since this run began"):
        run(here / "recipe.yaml", out=here, name="one", overrides=settings)
