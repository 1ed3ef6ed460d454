"""A model in scripts and notebooks: columns, arrays and tensors; processes; torch; its repr."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright import modelfile
from modelwright.errors import DataError, ModelFileError, RequestError
from modelwright.metrics import softmax
from modelwright.modelfile.inputs.reader import column_cells
from tests.modelfile.making import FROZEN, LABELS

SAME = 1e-5
"""Logits of torch against onnxruntime's, in single precision."""
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
TEXTS = ["a", "b"]


@pytest.fixture
def model(packed):
    return modelfile.load(packed, threads=2)


# -- inputs ----------------------------------------------------------------------------------


def test_columns_are_lists():
    assert column_cells(pa.array(TEXTS)) == TEXTS
    assert column_cells(pa.chunked_array([TEXTS])) == TEXTS
    assert column_cells("a") == "a"
    assert column_cells(np.str_("a")) == "a"


def test_a_column_of_pandas_is_a_list():
    pd = pytest.importorskip("pandas")
    for column in (pd.Series(TEXTS, index=[3, 1]), pd.Index(TEXTS), pd.array(TEXTS)):
        assert column_cells(column) == TEXTS
    assert column_cells(pd.Series(TEXTS, dtype="category")) == TEXTS
    with pytest.raises(DataError, match='frame\\["text"\\]'):
        column_cells(pd.DataFrame({"text": TEXTS}))


def test_a_column_of_polars_is_a_list():
    pl = pytest.importorskip("polars")
    assert column_cells(pl.Series(TEXTS)) == TEXTS
    with pytest.raises(DataError, match="the model takes one"):
        column_cells(pl.DataFrame({"text": TEXTS}))


@pytest.mark.parametrize(
    "given",
    [
        PIXELS,
        list(PIXELS),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
        torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255,
        [torch.from_numpy(image).permute(2, 0, 1) for image in PIXELS],
    ],
    ids=["array", "list", "channels last", "channels first", "floats", "list of tensors"],
)
def test_images_of_arrays_and_tensors_give_the_same(model, given):
    expected = softmax(model.outputs(PIXELS))
    np.testing.assert_allclose(model.predict_proba(given), expected, atol=SAME)


def test_an_array_of_objects_holds_images(model):
    given = np.empty(2, dtype=object)
    given[:] = [PIXELS[0], Path("missing.png")]
    found = model.read(given)
    assert found[0].arrays["pixels"].tolist() == PIXELS[0].tolist()
    assert isinstance(found[1], DataError)


def test_grey_images_need_no_axis_of_channels():
    model = modelfile.load(FROZEN)
    grey = RANDOM.integers(0, 256, (3, 5, 6), dtype=np.uint8)
    expected = [model.predict(image) for image in grey]
    assert model.predict(grey) == expected
    assert model.predict(torch.from_numpy(grey)[:, None]) == expected


def test_a_tensor_whose_channels_cannot_be_told_is_refused(model):
    with pytest.raises(DataError, match=r"which axis of \[3, 8, 3\]"):
        model.predict(torch.zeros(3, 8, 3))
    with pytest.raises(DataError, match=r"torch\.bfloat16 can't be read"):
        model.predict(torch.zeros(3, 8, 8, dtype=torch.bfloat16))


# -- probabilities ---------------------------------------------------------------------------


def test_probabilities_are_those_of_predict_by_label():
    model = modelfile.load(FROZEN)
    pixels = RANDOM.integers(0, 256, (4, 4, 4, 1), dtype=np.uint8)
    found = model.predict_proba(pixels)
    assert found.shape == (4, len(LABELS))
    for row, answers in zip(found, model.predict(pixels, top=len(LABELS)), strict=True):
        expected = {answer["label"]: answer["probability"] for answer in answers}
        assert dict(zip(model.labels, row.tolist(), strict=True)) == pytest.approx(expected)
    assert model.predict_proba(pixels[0]).shape == (1, len(LABELS))
    assert model.predict_proba([]).shape == (0, len(LABELS))


def test_a_model_without_labels_has_no_probabilities(tied_decoder):
    with pytest.raises(RequestError, match="has no probability for each label"):
        modelfile.load(tied_decoder).predict_proba("a")


# -- torch -----------------------------------------------------------------------------------


def test_the_network_in_torch_gives_the_same_outputs(model):
    network = model.to_torch()
    assert not network.training
    with torch.no_grad():
        found = network(torch.from_numpy(PIXELS)).numpy()
    np.testing.assert_allclose(found, model.outputs(PIXELS), atol=SAME)


def test_changing_the_network_leaves_the_model_alone(model):
    before = model.outputs(PIXELS)
    with torch.no_grad():
        for weights in model.to_torch().parameters():
            weights.zero_()
    np.testing.assert_array_equal(model.outputs(PIXELS), before)


# -- processes and threads -------------------------------------------------------------------


def outputs_of(model: modelfile.Model) -> np.ndarray:
    return model.outputs(PIXELS)


def test_pickling_takes_the_path_and_the_digest_alone(model):
    data = pickle.dumps(model)
    assert len(data) < 400
    again = pickle.loads(data)
    assert (again.digest, again.threads) == (model.digest, 2)
    np.testing.assert_array_equal(outputs_of(again), outputs_of(model))
    np.testing.assert_array_equal(outputs_of(copy.copy(model)), outputs_of(model))


def test_a_file_that_changed_is_refused_at_the_other_end(packed, tmp_path):
    path = tmp_path / "model.mw"
    shutil.copy(packed, path)
    data = pickle.dumps(modelfile.load(path))
    shutil.copy(FROZEN, path)
    with pytest.raises(ModelFileError, match="this file has changed") as caught:
        pickle.loads(data)
    assert caught.value.where == str(path)
    path.unlink()
    with pytest.raises(ModelFileError):
        pickle.loads(data)


def test_a_model_of_bytes_cannot_be_sent(packed):
    for source in (packed.read_bytes(), io.BytesIO(packed.read_bytes())):
        with pytest.raises(ModelFileError, match="can't be sent to another process"):
            pickle.dumps(modelfile.load(source))


def test_a_relative_path_leads_to_the_same_file_from_elsewhere(packed, tmp_path, monkeypatch):
    monkeypatch.chdir(packed.parent)
    data = pickle.dumps(modelfile.load(packed.name))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(data).digest == modelfile.digest(packed)


def test_a_model_is_sent_to_a_process_that_was_started_anew(model):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        # Not a function of this module, which imports torch.
        found = pool.submit(modelfile.Model.outputs, model, PIXELS).result()
    np.testing.assert_allclose(found, outputs_of(model), atol=SAME)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12: threads and a fork.
def test_a_forked_process_goes_on_with_its_parents_model(model):
    expected = outputs_of(model)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def answer() -> None:
        parents = model._session._session
        theirs.send((outputs_of(model), model._session._session is not parents))

    process = context.Process(target=answer)
    process.start()
    try:
        assert ours.poll(60)
        found, is_own = ours.recv()
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()
    assert is_own
    np.testing.assert_allclose(found, expected, atol=SAME)
    np.testing.assert_array_equal(outputs_of(model), expected)


def test_threads_share_a_model(model):
    expected = outputs_of(model)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(outputs_of, [model] * 16):
            np.testing.assert_array_equal(found, expected)


# -- what it prints --------------------------------------------------------------------------


def test_a_model_says_what_it_is(model, tied_decoder):
    words = repr(model)
    assert words.startswith("Model(image-classification: colour images of 8 × 8 pixels → one label")
    assert words.endswith("; not measured)")
    assert "texts → the next tokens" in repr(modelfile.load(tied_decoder))
