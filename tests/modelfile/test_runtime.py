"""Predicting: what goes in, what comes out, and what is never imported."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelwright import modelfile
from modelwright.data.waves import as_wav
from modelwright.errors import DataError, ModelFileError, RequestError
from modelwright.modelfile import inputs, outputs
from modelwright.modelfile.model import CHUNK_SAMPLES
from modelwright.transforms import decode_image, view_batches
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import train_tokenizer
from tests.modelfile.making import FROZEN, LABELS

FLOAT32 = 1e-5  # two orders of summation in float32, on values of about 1
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> modelfile.Model:
    return modelfile.load(FROZEN)


def by_hand(pixels: np.ndarray) -> np.ndarray:
    """Return the logits of the frozen file's network, written out in NumPy."""
    held = modelfile.read_weights(FROZEN)
    x = pixels.reshape(len(pixels), -1) / 255.0
    x = (x - held["steps.mean"][0]) / held["steps.std"][0]
    layers = sorted(name.removesuffix(".weight") for name in held if name.endswith(".weight"))
    head, hidden = layers[0], layers[1]
    x = np.maximum(x @ held[f"{hidden}.weight"].T + held[f"{hidden}.bias"], 0)
    return x @ held[f"{head}.weight"].T + held[f"{head}.bias"]


def test_outputs_are_those_of_the_network_averaged_over_the_views(model: modelfile.Model) -> None:
    views, weights = view_batches(PIXELS, "flip")
    expected = sum(w * by_hand(view) for w, view in zip(weights, views, strict=True))
    found = model.outputs(PIXELS)
    assert found.dtype == np.float32
    assert found.shape == (6, len(LABELS))
    np.testing.assert_allclose(found, expected, atol=FLOAT32)
    assert np.abs(by_hand(PIXELS) - found).max() > 0.01  # the views do something


def test_chunks_change_nothing(model: modelfile.Model) -> None:
    many = np.random.default_rng(1).integers(
        0, 256, (2 * CHUNK_SAMPLES + 3, 4, 4, 1), dtype=np.uint8
    )
    found = model.outputs(many)
    rows = [0, CHUNK_SAMPLES // 2 - 1, CHUNK_SAMPLES // 2, CHUNK_SAMPLES, len(many) - 1]
    single = np.concatenate([model.outputs(many[row : row + 1]) for row in rows])
    np.testing.assert_allclose(found[rows], single, atol=FLOAT32)
    assert model.predict(many)[-1][0]["label"] == model.predict(many[-1])[0]["label"]


def test_one_image_however_it_is_given(model: modelfile.Model, tmp_path: Path) -> None:
    picture = Image.fromarray(PIXELS[0, :, :, 0])
    path = tmp_path / "bild 狗.png"
    picture.save(path)
    expected = model.predict(PIXELS[0])
    assert [set(answer) for answer in expected] == [{"label", "probability"}] * 4
    probabilities = [answer["probability"] for answer in expected]
    assert probabilities == sorted(probabilities, reverse=True)
    data = path.read_bytes()
    for given in (
        str(path),
        path,
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        picture,
        PIXELS[0, :, :, 0],
    ):
        assert model.predict(given) == expected
    assert model.predict([path, picture]) == [expected, expected]
    assert model.predict((path,)) == [expected]
    assert model.predict(PIXELS[:1]) == [expected]
    assert model.predict(PIXELS[0], top=2) == expected[:2]
    assert model.predict(path, top=100) == expected


def test_nothing_gives_nothing(model: modelfile.Model) -> None:
    assert model.predict([]) == []
    assert model.predict(PIXELS[:0]) == []
    assert model.outputs(PIXELS[:0]).shape == (0, len(LABELS))


def test_another_size_is_brought_to_the_model_by_the_one_decoder(model: modelfile.Model) -> None:
    large = np.random.default_rng(2).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    pixels = decode_image(large, model.input)
    assert model.predict(large) == model.predict(pixels)
    assert model.predict(large[None]) == [model.predict(large)]


@pytest.mark.parametrize("given", [None, 7, {"a": 1}, object(), 1.5])
def test_what_is_no_image(model: modelfile.Model, given: Any) -> None:
    with pytest.raises(DataError) as caught:
        model.predict(given)
    assert caught.value.where
    with pytest.raises(DataError, match=r"isn't an image") as caught:
        model.predict([PIXELS[0], given])
    assert caught.value.where == "input 2"


def test_a_text_file_is_named(model: modelfile.Model, tmp_path: Path) -> None:
    text, empty = tmp_path / "notes.txt", tmp_path / "empty.png"
    text.write_text("no picture at all")
    empty.write_bytes(b"")
    for path in (text, empty, tmp_path / "missing.png", tmp_path):
        with pytest.raises(DataError) as caught:
            model.predict([PIXELS[0], path])
        assert str(path) in str(caught.value)
    with pytest.raises(DataError):
        model.predict("nul\0.png")


@pytest.mark.parametrize(
    "given",
    [
        PIXELS.astype(np.float32),
        PIXELS[:, :3],
        PIXELS[..., 0],
        np.zeros((2, 4, 4, 3), np.uint8),
        {"x": PIXELS},
        {"pixels": PIXELS, "more": PIXELS},
    ],
)
def test_outputs_take_what_the_graph_takes(model: modelfile.Model, given: Any) -> None:
    with pytest.raises(DataError, match=r"the model takes pixels: uint8 \[N, 4, 4, 1\]"):
        model.outputs(given)


def test_no_answer_is_no_answer(model: modelfile.Model) -> None:
    with pytest.raises(RequestError, match="at least 1"):
        model.predict(PIXELS, top=0)


def test_what_a_model_says_of_itself(model: modelfile.Model) -> None:
    described = modelfile.describe(FROZEN)
    for name in ("digest", "parameters", "multiply_adds", "size_bytes", "file_bytes", "task"):
        assert getattr(model, name) == described[name]
    assert model.labels == LABELS
    assert model.views == "flip"
    assert model.input.to_json() == described["input"]
    assert model.manifest.to_json()["members"] == described["members"]
    assert [record.metric for record in model.ledger] == ["accuracy"]
    assert modelfile.load(FROZEN, threads=1).threads == 1


def test_views_count_in_a_chunk(model: modelfile.Model) -> None:
    """Six views of an image of 224 pixels are about as much memory as one answer may take."""
    from dataclasses import replace

    from modelwright.modelfile.model import chunk_samples
    from modelwright.modelfile.spec import GraphSpec, TensorSpec

    pixels = TensorSpec("pixels", "uint8", ("N", 224, 224, 3))
    graph = GraphSpec((pixels,), model.spec.main.outputs)
    assert chunk_samples(replace(model.spec, graphs={"main": graph}, views="none")) == 6
    assert chunk_samples(replace(model.spec, graphs={"main": graph}, views=6)) == 1
    assert chunk_samples(replace(model.spec, views="flip")) == CHUNK_SAMPLES // 2


WITHOUT_TORCH = """
import sys
for name in ("torch", "onnx", "onnxscript", "sklearn"):
    sys.modules[name] = None  # importing it fails, as where it isn't installed
import modelwright, modelwright.modelfile
assert "numpy" not in sys.modules and "onnxruntime" not in sys.modules, "a heavy import"
import modelwright as mw
model = mw.load(sys.argv[1])
print(model.predict(sys.argv[2])[0]["label"])
mw_names = [name for name in sys.modules if name.startswith(("torch.", "onnxscript."))]
assert not mw_names, mw_names
from modelwright import modelfile
modelfile.verify(sys.argv[1]), modelfile.describe(sys.argv[1]), modelfile.read_weights(sys.argv[1])
from modelwright.errors import MissingExtraError
try:
    modelfile.rebuild(sys.argv[1])
except MissingExtraError as error:
    assert "modelwright[train]" in str(error)
else:
    raise AssertionError("rebuilt without torch")
"""


def test_without_torch(model: modelfile.Model, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.fromarray(PIXELS[0, :, :, 0]).save(picture)
    found = subprocess.run(
        [sys.executable, "-W", "error", "-X", "utf8", "-c", WITHOUT_TORCH, FROZEN, picture],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == model.predict(picture)[0]["label"]


TEXT = TextInput(
    train_tokenizer(["the cat sat on the mat", "a dog ran"], kind="word", size=50, lowercase=True),
    max_length=6,
)
ASSETS = TEXT.assets()
AUDIO = AudioInput(8000, 2.0)


def test_every_kind_of_input_keeps_its_promises() -> None:
    """The battery for each kind: synthetic samples fit what it declares and never change."""
    declared: dict[str, dict[str, Any]] = {
        "image": modelfile.read(FROZEN).spec.input,
        "arrays": {
            "kind": "arrays",
            "tensors": [
                {"name": "ids", "dtype": "int64", "shape": ["N", "T"]},
                {"name": "facts", "dtype": "float32", "shape": ["N", 3]},
            ],
        },
        "text": TEXT.to_json(),
        "prompt": replace(TEXT, kind="prompt").to_json(),
        "source": replace(TEXT, kind="source").to_json(),
        "audio": AUDIO.to_json(),
    }
    assert declared.keys() == inputs.READERS.keys()
    for value in declared.values():
        reader = inputs.open_input(value, ASSETS)
        made = reader.synthetic(5)
        assert inputs.check_batch(made, reader.tensors) == 5
        again = reader.synthetic(5)
        assert all((made[name] == again[name]).all() for name in made)
        for choice in reader.view_choices:
            views, weights = reader.views(made, choice)
            assert len(views) == len(weights)
            assert weights.sum() == pytest.approx(1.0)
            assert all(inputs.check_batch(view, reader.tensors) == 5 for view in views)
        if value["kind"] in ("image", "arrays"):
            given = reader.split_inputs(made if value["kind"] == "arrays" else made["pixels"])
            assert not given.is_one
            batch = inputs.read_batch(reader, given.items)
            assert all((batch[name] == made[name]).all() for name in made)


def test_texts_are_read_as_they_are_or_from_files(tmp_path: Path) -> None:
    reader = inputs.open_input(TEXT.to_json(), ASSETS)
    (tmp_path / "one.txt").write_text("the cat sat")
    held = ["the cat sat", tmp_path / "one.txt", b"the cat sat", io.BytesIO(b"the cat sat")]
    batch = inputs.read_batch(reader, held)
    assert batch["length"].tolist() == [3, 3, 3, 3]
    assert (batch["tokens"] == batch["tokens"][0]).all()
    assert reader.split_inputs("the cat").is_one
    assert inputs.read_batch(reader, ["the cat sat on the mat the cat"])["length"].tolist() == [
        TEXT.max_length
    ]
    assert inputs.read_batch(reader, ["\u4e00"])["tokens"].tolist() == [
        [1]
    ]  # unknown, and never nothing
    for wrong in ("", "  ", 3, b"\xff", tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError):
            inputs.read_batch(reader, [wrong])


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("text", "its end is cut off"),
        ("source", "its end is cut off"),
        ("prompt", "its beginning is left out"),
    ],
)
def test_texts_that_are_too_long_are_told(kind: Any, lost: str, tmp_path: Path) -> None:
    reader, said = inputs.open_input(replace(TEXT, kind=kind).to_json(), ASSETS), []
    words = ("the cat sat on the mat " * 9).split()[: TEXT.max_length + 1]
    (tmp_path / "long.txt").write_text(" ".join(words))
    held = [" ".join(words[:-1]), tmp_path / "long.txt", io.BytesIO(" ".join(words).encode())]
    inputs.read_batch(reader, held, first=7, observe=lambda progress: said.append(progress.note))
    note = f"the text has {len(words)} tokens, and the model reads {TEXT.max_length}: {lost}"
    assert said == [f"{tmp_path / 'long.txt'}: {note}", f"standard input: {note}"]
    with pytest.raises(DataError) as raised:
        inputs.read_batch(reader, [3], first=7)
    assert raised.value.where == "input 8"


def test_a_foreign_tokenizer_is_refused() -> None:
    declared = TEXT.to_json()
    for assets in (
        {},
        {"tokenizer.json": b"{}"},
        {"tokenizer.json": ASSETS["tokenizer.json"][:-2]},
    ):
        with pytest.raises(ModelFileError):
            inputs.open_input(declared, assets)
    with pytest.raises(ModelFileError):
        inputs.open_input({**declared, "vocabulary": 99}, ASSETS)


def test_sounds_are_read_at_the_models_rate(tmp_path: Path) -> None:
    reader = inputs.open_input(AUDIO.to_json(), {})
    tone = (np.sin(np.arange(4000) / 8) * 9000).astype(np.int16)
    path = tmp_path / "a.wav"
    path.write_bytes(as_wav(tone, 8000))
    batch = inputs.read_batch(reader, [path, str(path), path.read_bytes(), tone])
    assert batch["length"].tolist() == [4000] * 4
    assert (batch["samples"] == tone).all()
    twice = tmp_path / "b.wav"
    twice.write_bytes(as_wav(tone, 16000))
    assert inputs.read_batch(reader, [twice])["length"].tolist() == [2000]
    for wrong in (b"text", 3, path.read_bytes()[:-100], tmp_path / "none.wav"):
        with pytest.raises(DataError):
            inputs.read_batch(reader, [wrong])


def test_sounds_that_are_too_long_are_cut_and_told(tmp_path: Path) -> None:
    reader, said = inputs.open_input(AUDIO.to_json(), {}), []
    random = np.random.default_rng(0)
    most = round(AUDIO.max_seconds * 8000)
    tone = random.integers(-9000, 9000, most + 2000).astype(np.int16)
    (tmp_path / "a.wav").write_bytes(as_wav(tone, 8000))
    held = [tone[:most], tone, str(tmp_path / "a.wav")]
    batch = inputs.read_batch(reader, held, observe=lambda progress: said.append(progress.note))
    assert batch["length"].tolist() == [most] * 3
    assert (batch["samples"] == tone[:most]).all()
    lasts = f"{AUDIO.max_seconds + 0.25:.1f}"
    note = (
        f"the recording lasts {lasts} s, and the model hears {AUDIO.max_seconds:g} s: the last 0."
    )
    assert len(said) == 2
    assert said[0].startswith(f"input 2: {note}")
    assert said[1].startswith(f"{tmp_path / 'a.wav'}: {note}")
    assert said[0].endswith("s are cut off")


def test_arrays_must_agree_on_free_sizes() -> None:
    value = {
        "kind": "arrays",
        "tensors": [
            {"name": "ids", "dtype": "int64", "shape": ["N", "T"]},
            {"name": "mask", "dtype": "bool", "shape": ["N", "T"]},
        ],
    }
    reader = inputs.open_input(value, {})
    good = {"ids": np.zeros((2, 5), np.int64), "mask": np.ones((2, 5), bool)}
    assert len(reader.split_inputs(good).items) == 2
    one = {name: array[0] for name, array in good.items()}
    assert reader.split_inputs(one).is_one
    for wrong in (
        good | {"mask": np.ones((2, 4), bool)},
        good | {"mask": np.ones((3, 5), bool)},
        {"ids": good["ids"]},
        good["ids"],
    ):
        with pytest.raises(DataError):
            reader.split_inputs(wrong)
    with pytest.raises(ModelFileError):
        reader.views(good, 6)


def test_differences() -> None:
    logits = np.array([[0.0, np.log(3.0)]])  # probabilities 1/4 and 3/4
    moved = np.array([[0.0, 0.0]])
    assert outputs.difference("logits", logits, logits) == 0.0
    assert outputs.difference("logits", moved, logits) == pytest.approx(np.log(3) / (1 + np.log(3)))
    # A shift of all logits changes no probability, yet is no answer of the same network.
    assert outputs.difference("logits", logits + 5, logits) > 1
    assert outputs.difference("values", np.array([[3.0]]), np.array([[1.0]])) == pytest.approx(1.0)
    assert outputs.difference("values", np.array([np.nan]), np.array([1.0])) == np.inf
    assert outputs.difference("values", np.zeros((2, 1)), np.zeros((1, 2))) == np.inf
