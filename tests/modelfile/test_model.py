"""Predicting: what goes in, what comes out, and how errors name what they are about."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelwright import modelfile
from modelwright.errors import DataError, RequestError
from modelwright.kinds import OutputKind
from modelwright.modelfile.inputs import Sample, open_input
from modelwright.modelfile.model import CHUNK_SAMPLES, chunk_samples, joined_outputs
from modelwright.modelfile.spec import GraphSpec, TensorSpec
from modelwright.tasks.inference import Inference
from modelwright.transforms import decode_image, view_batches
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


def test_views_of_unequal_weight_are_averaged_by_it(tmp_path: Path) -> None:
    path = tmp_path / "m.mw"
    path.write_bytes(FROZEN.read_bytes())
    modelfile.with_inference(path, Inference("flip_shift", temperature=(0.5,)))
    views, weights = view_batches(PIXELS, "flip_shift")
    assert len(set(weights.tolist())) > 1
    expected = sum(w * by_hand(view) for w, view in zip(weights, views, strict=True)) / 0.5
    np.testing.assert_allclose(modelfile.load(path).outputs(PIXELS), expected, atol=FLOAT32)


def test_of_no_sample_every_output_is_empty() -> None:
    model = modelfile.load(FROZEN)
    nothing = np.empty((0, 4, 4, 1), np.uint8)
    assert model.outputs(nothing).shape == (0, len(LABELS))
    assert model.predict(nothing) == []
    boxes = (
        TensorSpec("scores", "float32", ("N", 84, 3)),
        TensorSpec("boxes", "float32", ("N", 84, 4)),
    )
    model.spec = replace(model.spec, graphs={"main": GraphSpec(model.spec.main.inputs, boxes)})
    assert [item.shape for item in model.outputs(nothing)] == [(0, 84, 3), (0, 84, 4)]


class Boxing:
    """A graph by hand that finds one box of the second label."""

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        count = len(inputs["pixels"])
        scores = np.tile(np.array([[-9.0, 5.0], [-9.0, -9.0]], np.float32), (count, 1, 1))
        boxes = np.tile(np.array([[1, 1, 3, 3], [0, 0, 4, 4]], np.float32), (count, 1, 1))
        return [scores, boxes]


def test_boxes_are_answered_in_pixels_of_the_image_that_was_given() -> None:
    contents = modelfile.read(FROZEN)
    boxes = (
        TensorSpec("scores", "float32", ("N", 2, 2)),
        TensorSpec("boxes", "float32", ("N", 2, 4)),
    )
    model = modelfile.Model(
        spec=replace(
            contents.spec,
            task="object-detection",
            output_kind=OutputKind.BOXES,
            labels=("cat", "dog"),
            inference=Inference(),
            graphs={"main": GraphSpec(contents.spec.main.inputs, boxes)},
        ),
        manifest=modelfile.load(FROZEN).manifest,
        session=Boxing(),  # type: ignore[arg-type]
        reader=open_input(contents.spec.input, contents.assets),
        recipe=b"",
        ledger=b"",
        file_bytes=0,
        weights={},
    )
    wide = Image.new("L", (40, 8))  # Of its middle the network sees 4 × 4 pixels, half as large.
    same, stretched = model.predict([Image.new("L", (4, 4)), wide])
    assert same == [
        {"label": "dog", "probability": pytest.approx(0.9933, abs=1e-4), "box": [1, 1, 3, 3]}
    ]
    assert stretched == [{**same[0], "box": [18, 2, 22, 6]}]
    # What comes as the network takes it has no image of its own.
    (plain,) = model.answer([Sample({"pixels": np.zeros((4, 4, 1), np.uint8)})])
    assert plain == same


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


def test_an_input_that_cannot_be_read_fails_alone(model: modelfile.Model, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    given = [PIXELS[0], broken, 7, PIXELS[1]]
    found = model.read(given)
    assert [type(item) for item in found] == [Sample, DataError, DataError, Sample]
    assert [item.where for item in found if isinstance(item, DataError)] == [str(broken), "input 3"]
    samples = [item for item in found if isinstance(item, Sample)]
    assert model.answer(samples) == model.predict([PIXELS[0], PIXELS[1]])
    assert model.answer(samples, top=1) == [row[:1] for row in model.answer(samples)]
    assert model.answer([]) == []
    with pytest.raises(DataError) as caught:
        model.predict(given)
    assert caught.value.where == str(broken)  # the first of them
    with pytest.raises(DataError) as caught:
        model.predict(given[:1] * (CHUNK_SAMPLES + 5) + [7])
    assert caught.value.where == f"input {CHUNK_SAMPLES + 6}"


def test_one_input_is_read_as_a_list_of_one(model: modelfile.Model) -> None:
    (sample,) = model.read(PIXELS[0])
    assert isinstance(sample, Sample)
    assert sample.size == (4, 4)
    assert np.array_equal(sample.arrays["pixels"], PIXELS[0])
    assert len(model.read(PIXELS)) == len(PIXELS)


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
    assert model.inference.tta == "flip"
    assert model.input.to_json() == described["input"]
    assert model.manifest.to_json()["members"] == described["members"]
    assert [record.metric for record in model.ledger] == ["accuracy"]
    assert modelfile.load(FROZEN, threads=1).threads == 1


def test_views_count_in_a_chunk(model: modelfile.Model) -> None:
    """Six views of an image of 224 pixels are about as much memory as one answer may take."""
    pixels = TensorSpec("pixels", "uint8", ("N", 224, 224, 3))
    graph = GraphSpec((pixels,), model.spec.main.outputs)
    assert chunk_samples(replace(model.spec, graphs={"main": graph}, inference=Inference())) == 6
    assert (
        chunk_samples(
            replace(model.spec, graphs={"main": graph}, inference=Inference("flip_shift"))
        )
        == 1
    )
    assert chunk_samples(replace(model.spec, inference=Inference("flip"))) == CHUNK_SAMPLES // 2


def test_outputs_of_chunks_are_joined() -> None:
    parts = [np.ones((2, 3, 4)), np.ones((1, 5, 4))]
    joined = joined_outputs(parts)
    assert joined.shape == (3, 5, 4)
    assert joined[:2, 3:].sum() == 0
    assert joined.sum() == sum(part.sum() for part in parts)
    assert joined_outputs(parts[:1]) is parts[0]
    assert joined_outputs([np.zeros(2), np.ones(3)]).tolist() == [0, 0, 1, 1, 1]


def test_what_does_not_write_says_so(model: modelfile.Model) -> None:
    with pytest.raises(RequestError, match="generates no texts"):
        model.generate("once upon a time")
