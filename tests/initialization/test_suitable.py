"""Published networks' features as a part of what `model: auto` tries."""

import gzip
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from modelwright import modelfile
from modelwright.initialization import suitable
from modelwright.initialization.published import is_installed
from modelwright.initialization.suitable import is_english
from modelwright.kinds import InputKind, OutputKind
from modelwright.pipeline import run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How far is it from Denver to Aspen ? What is the capital of Peru", True),
        ("Wie weit ist es von hier nach Berlin, und was kostet die Fahrt", False),
        ("Où est la bibliothèque et comment puis-je y aller", False),
        ("房间很干净，服务也不错", False),
        ("", False),
    ],
)
def test_english_is_told_by_its_function_words(text, expected):
    assert is_english(text) is expected


@pytest.mark.parametrize(("samples", "installed"), [(500, False), (500, True), (50_000, False)])
def test_what_published_weights_would_bring_is_said_of_few_samples(monkeypatch, samples, installed):
    image = SimpleNamespace(height=224, width=224)
    prepared = SimpleNamespace(
        output_kind=OutputKind.SINGLE_LABEL,
        input_kind=InputKind.IMAGE,
        image=image,
        rows={"train": range(samples)},
    )
    monkeypatch.setattr(suitable, "is_installed", lambda name: installed)
    note = suitable.missing_note(prepared)
    assert bool(note) is (samples == 500 and not installed)
    if note:
        assert "efficientnet-lite0" in note
        assert "modelwright[pretrained]" in note


@pytest.mark.slow
@pytest.mark.skipif(
    not is_installed("efficientnet-lite0"), reason="the extra [pretrained] isn't installed"
)
def test_auto_tries_a_published_networks_features_of_images(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("dots", "lines"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for at in range(20):
            pixels = rng.integers(0, 80, (72, 72, 3), dtype=np.uint8)
            pixels[::9, :: 9 if name == "dots" else 1] = 220
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{at}.png")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "version: 1\ndata: {source: folder, path: data}\nmodel: auto\n"
        "transforms: {size: 64}\ntrain: {epochs: 1}\n"
        "evaluate: {latency: false, baselines: false}\nresources: {threads: 1}\n",
        "utf-8",
    )
    result = run(recipe, out=tmp_path)
    decisions = json.loads((result.folder / "decisions.json").read_text("utf-8"))
    assert set(decisions["linear_scores"]) == {"linear", "published"}
    assert (result.folder / "stages" / "published").is_dir()
    assert decisions["network"]["chosen"] == "efficientnet-lite0"
    assert decisions["network"]["side"] is None  # The recipe says it.
    modelfile.verify(result.model)


@pytest.mark.skipif("MODELWRIGHT_DATA" not in os.environ, reason="MODELWRIGHT_DATA isn't set")
@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("multi30k/train.en.gz", (0.3, 0.5)),
        ("sentence_cls/TREC.train.all.gz", (0.3, 0.5)),
        ("lm/ptb.valid.txt.gz", (0.3, 0.5)),
        ("multi30k/train.de.gz", (0.0, 0.1)),
        ("multi30k/train.fr.gz", (0.0, 0.1)),
        ("chnsenticorp_hotel/hotel.csv.gz", (0.0, 0.1)),
    ],
)
def test_the_shares_of_real_texts_are_far_from_the_least_of_english(name, share):
    path = Path(os.environ["MODELWRIGHT_DATA"]) / name
    lines = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").splitlines()[:500]
    assert share[0] <= suitable.english_share(" ".join(lines)) <= share[1]
    assert share[1] < suitable.ENGLISH_SHARE or share[0] > suitable.ENGLISH_SHARE


def test_languages_that_share_short_words_with_english_are_told_apart():
    hungarian = (
        "a fájl nem nyitható meg írásra, mert a rendszer nem találja a megadott helyen, "
        "ezért a program leáll; ellenőrizze az elérési utat"
    )
    polish = "nie można otworzyć pliku do odczytu i zapisu, bo to nie jest plik na tym dysku"
    assert not is_english(hungarian)
    assert not is_english(polish)
