"""Hostile files whose every digest is right: graphs that read, hide or answer what they may not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from modelwright import modelfile
from modelwright.errors import ModelFileError
from modelwright.modelfile import tensors
from modelwright.modelfile.graph import external_weights
from tests.modelfile.attacking import (
    GOLDEN,
    GRAPH,
    MEMBERS,
    WEIGHTS,
    inference,
    read_or_refused,
    refused,
)
from tests.modelfile.making import FROZEN, forge


def graph(initializer: TensorProto, nodes: list[onnx.NodeProto] | None = None) -> bytes:
    """Return a graph that adds a weight to nothing much."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 4, 4, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])
    made = helper.make_graph(nodes or [], "g", [pixels], [logits], [initializer])
    return helper.make_model(made).SerializeToString()


def outside(name: str = "w", **entries: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "/etc/passwd"},
        {"location": "../secrets.bin"},
        {"location": "weights.safetensors", "offset": "64"},
        {"location": "weights.safetensors", "length": "4"},
        {"offset": "0"},
        {},
    ],
)
def test_a_graph_never_reads_a_file(entries: dict[str, str]) -> None:
    assert external_weights(graph(outside(location="weights.safetensors"))) == ["w"]
    with pytest.raises(ModelFileError, match="names a file"):
        external_weights(graph(outside(**entries)))


def test_a_graph_never_reads_a_file_from_within_a_node() -> None:
    held = outside(location="weights.safetensors")
    inner = helper.make_graph([], "inner", [], [], [held])
    for node in (
        helper.make_node("Constant", [], ["x"], value=held),
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
    ):
        with pytest.raises(ModelFileError, match="within a"):
            external_weights(graph(TensorProto(name="x", data_type=1, dims=[0]), [node]))


def test_a_graph_hides_nothing_behind_a_long_key() -> None:
    """onnxruntime cuts the key of a field down to 32 bits, and so sees the file that is named."""
    tensor = outside(location="/etc/passwd")
    entry = tensor.external_data[0].SerializeToString()
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    hidden = tensor.SerializeToString() + long_field(13 << 3 | 2, entry) + long_field(14 << 3)
    made = b"\x2a" + bytes([len(hidden)]) + hidden  # an initializer of a graph
    with pytest.raises(ModelFileError, match="isn't an ONNX graph"):
        external_weights(b"\x3a" + bytes([len(made)]) + made)


def long_field(key: int, content: bytes | None = None) -> bytes:
    """Return a field whose key has the bit 32 set; without content, the number 1."""
    long = bytes([(key >> 7 * place & 0x7F) | 0x80 for place in range(4)]) + b"\x10"
    return long + (b"\x01" if content is None else bytes([len(content)]) + content)


def test_a_graph_uses_operators_of_onnx_only() -> None:
    node = helper.make_node("EPContext", [], ["x"], domain="com.microsoft")
    with pytest.raises(ModelFileError, match=r"com\.microsoft"):
        external_weights(graph(TensorProto(name="x", data_type=1, dims=[0]), [node]))


def test_a_graph_nested_without_end() -> None:
    inner = helper.make_graph([], "g", [], [])
    for _ in range(30):
        node = helper.make_node("If", ["x"], ["y"], then_branch=inner)
        inner = helper.make_graph([node], "g", [], [])
    with pytest.raises(ModelFileError, match="holds graphs within a node"):
        external_weights(helper.make_model(inner).SerializeToString())


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(MEMBERS[GRAPH])), new=st.binary(min_size=1, max_size=8))
def test_any_graph_is_read_or_refused(at: int, new: bytes) -> None:
    data = MEMBERS[GRAPH]
    try:
        external_weights(data[:at] + new + data[at + len(new) :])
    except ModelFileError:
        return


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(at=st.integers(0, len(MEMBERS[GRAPH]) - 1), bit=st.integers(0, 7))
def test_any_changed_graph_with_right_digests_is_run_or_refused(
    tmp_path: Path, at: int, bit: int
) -> None:
    """onnxruntime itself gets a broken graph here: it says so, and we say it in our words."""
    data = bytearray(MEMBERS[GRAPH])
    data[at] ^= 1 << bit
    path = forge(tmp_path / "m.mw", FROZEN, change={GRAPH: bytes(data)})
    read_or_refused(modelfile.verify, path)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    held = dict(tensors.read_arrays(MEMBERS[WEIGHTS], name="x"))
    name = "body.hidden.0.weight"
    held[name] = held[name].T.copy()
    path = forge(tmp_path / "m.mw", FROZEN, change={WEIGHTS: tensors.write_arrays(held, name="x")})
    refused(path, "can't run the graph")


def constant(path: Path, answer: np.ndarray, *, golden: np.ndarray) -> Path:
    """Write a file whose graph answers everything with one value."""
    node = helper.make_node("Identity", ["c"], ["logits"])
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 4, 4, 1])]
    held = numpy_helper.from_array(answer, "c")
    kind = helper.np_dtype_to_tensor_dtype(answer.dtype)
    outputs = [helper.make_tensor_value_info("logits", kind, None)]
    made = helper.make_graph([node], "g", inputs, outputs, [held])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    samples = {"inputs.pixels": np.zeros((1, 4, 4, 1), np.uint8), "outputs.logits": golden}
    change = {
        GRAPH: model.SerializeToString(),
        GOLDEN: tensors.write_arrays(samples, name="x"),
        **inference(tta="none"),
    }
    return forge(path, FROZEN, change=change)


@pytest.mark.parametrize(
    "answer",
    [
        np.zeros((), np.float32),
        np.zeros((1, 5), np.float32),
        np.zeros((1, 4), np.int64),
        np.zeros((1, 4, 1), np.float32),
        np.array([["a"] * 4], object),
        np.full((1, 4), np.inf, np.float32),
    ],
)
def test_a_graph_that_gives_something_else(tmp_path: Path, answer: np.ndarray) -> None:
    golden = np.zeros((1, 4), np.float32)
    refused(constant(tmp_path / "m.mw", answer, golden=golden), "gives|finite")


def test_a_graph_that_answers_some_inputs_only(tmp_path: Path) -> None:
    answer = np.zeros((1, 4), np.float32)
    model = modelfile.load(constant(tmp_path / "m.mw", answer, golden=answer))
    with pytest.raises(ModelFileError, match=r"gives float32 \[1, 4\]"):
        model.predict([np.zeros((4, 4, 1), np.uint8)] * 3)
