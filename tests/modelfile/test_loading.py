"""Loading: from a path, from bytes or a stream, without torch, and checked before it answers."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelwright import modelfile
from modelwright.errors import ModelFileError
from modelwright.files import canonical_json
from modelwright.kinds import OutputKind
from modelwright.modelfile.contents import Golden
from modelwright.modelfile.declaration import check_declaration
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.loading import check_golden, check_interface, open_language_model
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import GraphSpec, TensorSpec
from modelwright.tasks.inference import Inference
from modelwright.tasks.speech_recognition import CharacterLM
from tests.modelfile.making import FROZEN

RAW = FROZEN.read_bytes()
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), dtype=np.uint8)


def test_a_model_is_the_same_wherever_it_is_loaded_from() -> None:
    expected = modelfile.load(FROZEN)
    with FROZEN.open("rb") as stream:
        for source in (RAW, io.BytesIO(RAW), stream):
            model = modelfile.load(source)
            assert model.digest == expected.digest
            assert np.array_equal(model.outputs(PIXELS), expected.outputs(PIXELS))
            assert model.recipe == expected.recipe
            assert modelfile.describe(source) == modelfile.describe(FROZEN)
            assert modelfile.digest(source) == expected.digest
            assert modelfile.rebuild(source).labels == expected.labels
    assert np.isfinite(model.outputs(PIXELS)).all()  # the stream is closed by now


@pytest.fixture
def opened():
    contents = modelfile.read(FROZEN)
    weights = modelfile.read_weights(FROZEN)
    session = Session(contents.graphs["main"], weights)
    return contents, session, open_input(contents.spec.input, contents.assets)


def test_what_is_declared_is_what_the_graph_has(opened) -> None:
    contents, session, reader = opened
    spec, main = contents.spec, contents.spec.main
    check_interface(spec, session, reader)
    outputs = (replace(main.outputs[0], name="values"),)
    wrong = {
        "aren't those that the file declares": replace(
            spec, graphs={"main": GraphSpec(main.inputs, outputs)}
        ),
        "test-time augmentation": replace(spec, inference=Inference("speeds")),
        "more or fewer than the labels": replace(spec, labels=spec.labels[:2]),
        "isn't one from images to numbers": replace(spec, output_kind=OutputKind.REGRESSION),
        "aren't those of the kind": replace(spec, task="x", output_kind=OutputKind.REGRESSION),
        "aren't those of its kind": replace(spec, graphs={"main": main, "step": main}),
    }
    for why, changed in wrong.items():
        with pytest.raises(ModelFileError, match=why):
            check_interface(changed, session, reader)


def test_boxes_have_four_corners_at_each_place(opened) -> None:
    contents, _, reader = opened

    def check(scores: tuple[int, ...], boxes: tuple[int, ...], tta: str = "none") -> None:
        outputs = (
            TensorSpec("scores", "float32", ("N", *scores)),
            TensorSpec("boxes", "float32", ("N", *boxes)),
        )
        main = GraphSpec(contents.spec.main.inputs, outputs)
        spec = replace(
            contents.spec,
            task="object-detection",
            output_kind=OutputKind.BOXES,
            labels=("cat", "dog"),
            inference=Inference(tta),
            graphs={"main": main},
        )
        check_declaration(spec, reader)

    check((84, 2), (84, 4))
    for scores, boxes in (((84, 2), (83, 4)), ((84, 2), (84, 5)), ((2, 2), (84, 4))):
        with pytest.raises(ModelFileError, match="four corners for each place"):
            check(scores, boxes)
    with pytest.raises(ModelFileError, match="more or fewer than the labels"):
        check((84, 3), (84, 4))
    with pytest.raises(ModelFileError, match="aren't averaged over views"):
        check((84, 2), (84, 4), "flip")


@pytest.mark.parametrize(
    ("task", "labels", "shape", "why"),
    [
        ("regression", ("a", "b"), (2,), ""),
        ("regression", ("a",), (1,), ""),
        ("regression", ("a", "b"), (3,), "more or fewer than the labels"),
        ("regression", ("a", "b"), (2, 2), "isn't an output of the kind"),
        ("regression", ("a", "b"), (), "isn't an output of the kind"),
        ("regression", ("a", "a"), (2,), "names two of its labels alike"),
        ("regression", (), (1,), "more or fewer than the labels"),
        ("mine", (), (3, 4), ""),
        ("mine", ("a", "b"), (2,), ""),
        ("mine", ("a", "b"), (3,), "more or fewer than the labels"),
    ],
)
def test_numbers_are_as_many_as_their_names(
    opened, task: str, labels: tuple[str, ...], shape: tuple[int, ...], why: str
) -> None:
    contents, _, reader = opened
    values = TensorSpec("values", "float32", ("N", *shape))
    spec = replace(
        contents.spec,
        task=task,
        output_kind=OutputKind.REGRESSION,
        labels=labels,
        inference=Inference(),
        graphs={"main": GraphSpec(contents.spec.main.inputs, (values,))},
    )
    if not why:
        check_declaration(spec, reader)
        return
    with pytest.raises(ModelFileError, match=why):
        check_declaration(spec, reader)


def test_golden_samples_are_answered_as_recorded(opened) -> None:
    contents, session, _ = opened
    spec, golden = contents.spec, contents.golden
    assert check_golden(spec, session, golden) <= golden.tolerance
    moved = {"logits": golden.outputs["logits"] + [0, 0, 0, 1e-2]}
    with pytest.raises(ModelFileError, match=r"differently here: by 0\.0"):
        check_golden(spec, session, Golden(golden.inputs, moved, golden.tolerance))
    last = golden.outputs["logits"].copy()
    last[-1] += 1
    late = Golden(golden.inputs, {"logits": last}, golden.tolerance)
    assert check_golden(spec, session, late, most=1) <= golden.tolerance
    with pytest.raises(ModelFileError, match="aren't what the model takes"):
        check_golden(spec, session, Golden({"pixels": np.zeros((1, 5, 5, 1))}, moved, 1e-4))


def test_a_language_model_is_of_the_networks_characters(opened) -> None:
    spec = opened[0].spec
    assert open_language_model(spec, {}) is None
    with pytest.raises(ModelFileError):
        open_language_model(spec, {"language_model.json": b"{}"})
    language_model = CharacterLM.fit(["ab", "b a"], ("a", "b", " "), order=2, weight=0.5)
    assets = {"language_model.json": canonical_json(language_model.to_json())}
    speech = replace(spec, output_kind=OutputKind.CTC, labels=("a", "b", " "))
    found = open_language_model(speech, assets)
    assert found is not None
    assert found.to_json() == language_model.to_json()
    for other in (
        replace(speech, labels=("a", "c", " ")),
        replace(speech, output_kind=OutputKind.SINGLE_LABEL),
    ):
        with pytest.raises(ModelFileError, match="of other characters than the network's"):
            open_language_model(other, assets)


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


def test_without_torch(tmp_path: Path) -> None:
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
    assert found.stdout.strip() == modelfile.load(FROZEN).predict(picture)[0]["label"]


LIGHT = """
import sys
import modelwright as mw
from modelwright.modelfile import loading
mw.load(sys.argv[1])
heavy = {"torch", "onnx", "onnxscript", "pyarrow", "tokenizers"} & sys.modules.keys()
print(sorted(heavy))
"""


def test_a_plain_file_is_loaded_with_few_libraries(packed: Path) -> None:
    """Those of tables, texts and encoded weights are imported where they are used."""
    found = subprocess.run(
        [sys.executable, "-c", LIGHT, packed], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
