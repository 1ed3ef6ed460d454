"""A graph with its weights in onnxruntime."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from onnx import TensorProto, helper

from modelwright.errors import DataError, ModelFileError
from modelwright.modelfile.inputs import check_batch
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import BF16
from modelwright.run import usable_cores


def adder(kind: int, size: int) -> bytes:
    """Return a graph that gives `x + w` for a weight of some kind of number."""
    weight = TensorProto(name="w", data_type=kind, dims=[size])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.safetensors")
    nodes = [
        helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "wide"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name in ("x", "y")
    )
    made = helper.make_graph(nodes, "g", [x], [y], [weight])
    opset = helper.make_opsetid("", 21)
    return helper.make_model(made, opset_imports=[opset], ir_version=10).SerializeToString()


WEIGHTS = {
    "float32": (TensorProto.FLOAT, np.array([1.5, -2.0], np.float32)),
    "float16": (TensorProto.FLOAT16, np.array([1.5, -2.0], np.float16)),
    "bfloat16": (TensorProto.BFLOAT16, np.array([0x3FC0, 0xC000], "<u2").view(BF16)),
    "int8": (TensorProto.INT8, np.array([7, -8], np.int8)),
    "uint8": (TensorProto.UINT8, np.array([7, 255], np.uint8)),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_of_every_kind_are_handed_over(kind: str) -> None:
    code, weight = WEIGHTS[kind]
    session = Session(adder(code, 2), {"w": weight, "another": weight}, threads=1)
    assert session.names() == (["x"], ["y"])
    (found,) = session.run({"x": np.ones((3, 2), np.float32)})
    plain = {"bfloat16": [1.5, -2.0]}.get(kind) or weight.astype(np.float32).tolist()
    assert found.tolist() == [[value + 1 for value in plain]] * 3


def test_bfloat16_outlives_what_it_was_read_from() -> None:
    size = 1 << 20
    weight = np.full(size, 0x3FC0, "<u2").view(BF16)
    session = Session(adder(TensorProto.BFLOAT16, size), {"w": weight})
    del weight
    gc.collect()
    filler = [np.full(size, 0x4000, "<u2") for _ in range(20)]
    (found,) = session.run({"x": np.zeros((1, size), np.float32)})
    assert len(filler) == 20
    assert (found == 1.5).all()


def test_what_onnxruntime_cannot_do_is_said() -> None:
    weight = WEIGHTS["float32"][1]
    with pytest.raises(ModelFileError, match="can't run the graph"):
        Session(adder(TensorProto.FLOAT, 3), {"w": weight})
    with pytest.raises(ModelFileError, match="has no `w`"):
        Session(adder(TensorProto.FLOAT, 2), {})
    session = Session(adder(TensorProto.FLOAT, 2), {"w": weight})
    with pytest.raises(ModelFileError, match=r"gave up on x \[1, 3\]"):
        session.run({"x": np.zeros((1, 3), np.float32)})


def test_no_graph_is_given_nothing() -> None:
    """What a graph may hold rests on that."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, ["N", "T"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT64, ["N", "T"])]
    made = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", inputs, outputs)
    opset = helper.make_opsetid("", 21)
    model = helper.make_model(made, opset_imports=[opset], ir_version=10).SerializeToString()
    session = Session(model, {})
    assert session.run({"x": np.full((1, 2), -3)})[0].tolist() == [[3, 3]]
    with pytest.raises(ModelFileError, match="given nothing as `x`"):
        session.run({"x": np.zeros((1, 0), np.int64)})
    tensors = [TensorSpec("x", "int64", ("N", "T"))]
    assert check_batch({"x": np.ones((2, 1), np.int64)}, tensors) == 2
    with pytest.raises(DataError, match=r"got int64 \[2, 0\]"):
        check_batch({"x": np.zeros((2, 0), np.int64)}, tensors)


def test_threads_are_those_of_the_process_or_as_asked() -> None:
    made = adder(TensorProto.FLOAT, 2), {"w": WEIGHTS["float32"][1]}
    assert Session(*made).threads == usable_cores() >= 1
    assert Session(*made, threads=1).threads == 1
