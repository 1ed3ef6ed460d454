"""What `new` says of data, of simple methods and of its plan, and what it writes."""

from __future__ import annotations

import json
import wave

import numpy as np
import pytest
from PIL import Image

from modelwright import pipeline
from modelwright.errors import DataError
from modelwright.recipe import load_recipe
from modelwright.scaffold import Probes, new

ROWS = range(40)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["a,b", *(f"foo {at % 2},x" for at in ROWS)],
            r"no column holds images, texts or recordings\. Its columns are `a` .*--input COLUMN",
        ),
        (["review,b", *(f"a text of number {at},x" for at in ROWS)], "no column holds the targets"),
    ],
)
def test_columns_that_cannot_be_told_are_asked_for(rows, message, tmp_path):
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=message):
        new(tmp_path / "t.csv", out=tmp_path / "recipe.yaml")
    assert not (tmp_path / "recipe.yaml").exists()


def test_a_json_list_is_a_table(tmp_path):
    rows = [{"text": f"text {at} ä", "label": "ab"[at % 2]} for at in ROWS]
    (tmp_path / "t.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), "utf-8")
    result = new(tmp_path / "t.json", out=tmp_path / "recipe.yaml")
    assert "text-classification" in result.text
    assert result.command.startswith("modelwright run")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"text": "a", "label": "b"}\n{"text": "c", "label": "d"}\n', "Rename it to t.jsonl"),
        ('{"images": [{"a": 1}]}', "neither a table nor boxes"),
        ("{", "neither a table nor boxes"),
    ],
)
def test_other_json_is_said_to_be_none(text, words, tmp_path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=words):
        new(tmp_path / "t.json", out=tmp_path / "recipe.yaml")


@pytest.fixture
def reviews(tmp_path):
    """A table of texts whose words tell the label; too terse to be taken for English."""
    rows = ["text,label"]
    rows += [f"{'good' if at % 2 else 'bad'} film number {at},{'ny'[at % 2]}" for at in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    return tmp_path / "t.csv"


def test_the_simple_method_is_shown_and_is_the_target(reviews, tmp_path):
    result = pipeline.new(reviews, out=tmp_path / "recipe.yaml")
    shown = next(note for note in result.notes if "best simple method" in note)
    assert shown.startswith(
        "Word counts (TF-IDF) with a linear model is right in 100 % of 10 valid"
    )
    assert any("by a few measured steps" in note for note in result.notes)
    assert dict(load_recipe(result.path).targets) == {"gain_over_simple": ">= 0"}
    # What is measured changes nothing here: the largest proposal fits.
    untimed = new(reviews, out=tmp_path / "untimed.yaml").text
    assert result.text.replace("recipe.yaml", "untimed.yaml") == untimed


def test_what_cannot_be_measured_stops_nothing(reviews, tmp_path):
    def simple(recipe, prepared):
        return ("Simple methods could not be measured: no room",)

    probes = Probes(lambda recipe, prepared: None, simple)
    result = new(reviews, out=tmp_path / "recipe.yaml", probes=probes)
    assert "Simple methods could not be measured: no room" in result.notes
    assert (
        result.text.replace("recipe.yaml", "b.yaml") == new(reviews, out=tmp_path / "b.yaml").text
    )


@pytest.mark.parametrize(("epoch_s", "size"), [(0.1, 96), (1000.0, 32)])
def test_a_slow_machine_gets_smaller_images(epoch_s, size, tmp_path):
    for label, shade in (("dark", 20), ("light", 220)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            image = Image.new("L", (100, 100), shade)
            image.putpixel((number, number), 255 - shade)
            image.save(tmp_path / "photos" / label / f"{number}.png")

    def timed(recipe, prepared):
        return epoch_s if recipe.model.name == "speednet" else 1e6  # No published one fits.

    probes = Probes(timed, lambda recipe, prepared: ())
    result = new(tmp_path / "photos", out=tmp_path / "recipe.yaml", probes=probes)
    assert load_recipe(result.path).transforms.size == size
    assert ("Ten epochs" in " ".join(result.notes)) == (size == 32)


def write_tone(path, number):
    """Write a quarter of a second of a tone."""
    times = np.arange(4000) / 16_000
    samples = 8000 * np.sin(2 * np.pi * (200 + 40 * number) * times)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(samples.astype("<i2").tobytes())


def write_for(model, folder):
    """Write data for which `model: auto` takes this family."""
    if model == "audio-cnn":
        for number in range(24):
            write_tone(folder / "ab"[number % 2] / f"{number}.wav", number)
    elif model == "conv-ctc":
        rows = ["file,transcript"]
        for number in range(24):
            write_tone(folder / f"{number}.wav", number)
            rows.append(f"{number}.wav,a word or two of number {number}")
        (folder / "metadata.csv").write_text("\n".join(rows))
    elif model == "seq2seq":
        folder.mkdir()
        words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
        rows = [f"I have {a} and {b}\tich habe {a} und {b}" for a in words for b in words]
        (folder / "pairs.tsv").write_text("source\ttarget\n" + "\n".join(rows))
    else:
        folder.mkdir()
        lines = [f"And so it was on day {number}, and the next was another.\n" for number in ROWS]
        (folder / "book.txt").write_text("".join(lines) * 20)


@pytest.mark.parametrize("model", ["audio-cnn", "conv-ctc", "seq2seq", "decoder"])
def test_a_slow_machine_gets_a_smaller_network(model, tmp_path):
    write_for(model, tmp_path / "data")

    def timed(recipe, prepared):
        return 1e4 if recipe.model == "auto" else 1.0

    probes = Probes(timed, lambda recipe, prepared: ())
    result = new(tmp_path / "data", out=tmp_path / "recipe.yaml", probes=probes)
    chosen = load_recipe(result.path).model
    assert chosen.name == model
    assert any(f"a smaller `{model}`" in note for note in result.notes)
    assert chosen != type(chosen)(name=model)


@pytest.mark.parametrize(("copies", "leaks"), [(0, None), (2, "drop_from_train"), (30, None)])
def test_few_samples_of_two_given_splits_are_left_out_of_training(copies, leaks, tmp_path):
    for split, texts in (("train", range(60)), ("test", range(100, 140))):
        rows = [f"a review of number {at},{'ny'[at % 2]}" for at in texts]
        if split == "test":
            rows += [f"a review of number {at},{'ny'[at % 2]}" for at in range(copies)]
        (tmp_path / "reviews").mkdir(exist_ok=True)
        (tmp_path / "reviews" / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
    result = new(tmp_path / "reviews", out=tmp_path / "recipe.yaml")
    assert load_recipe(result.path).data.leaks == (leaks or "refuse")
    said = [note for note in result.notes if f"{copies} texts stand in two of the given" in note]
    assert bool(said) == (leaks is not None)
    is_stopped = copies > 0 and leaks is None
    assert ("check" in result.command) == is_stopped
    assert any(item.severity == "error" for item in result.findings) == is_stopped
