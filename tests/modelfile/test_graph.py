"""What a graph asks for: the weights by name, and operators that read nothing else."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from modelwright.errors import ModelFileError
from modelwright.modelfile.graph import FROM_MICROSOFT, external_weights
from tests.modelfile.making import FROZEN, members_of


def graph(*nodes: onnx.NodeProto, names: tuple[str, ...] = ("w",)) -> bytes:
    """Return a graph with these nodes, and weights that stand outside."""
    tensors = []
    for name in names:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.safetensors")
        tensors.append(tensor)
    made = helper.make_graph(list(nodes), "g", [], [], tensors)
    return helper.make_model(made).SerializeToString()


def test_the_weights_are_named_in_the_graphs_order() -> None:
    assert external_weights(graph(names=("b", "a"))) == ["b", "a"]
    with pytest.raises(ModelFileError, match="each weight once"):
        external_weights(graph(names=("a", "a")))
    frozen = external_weights(members_of(FROZEN)["model/graphs/main.onnx"])
    assert "body.head.weight" in frozen


def test_a_graph_that_is_also_of_onnxruntimes_own_format_is_refused() -> None:
    # A field that ONNX doesn't have holds the four bytes by which onnxruntime tells its format.
    hidden = bytes([8, 10, 0x0A, 4]) + b"ORTM" + graph()
    assert external_weights(bytes([8, 10, 0x0A, 4]) + b"ORTX" + graph()) == ["w"]
    with pytest.raises(ModelFileError, match="onnxruntime's own format"):
        external_weights(hidden)


@pytest.mark.parametrize("operator", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_operators_of_onnx_that_quantize_are_taken(operator: str, domain: str) -> None:
    node = helper.make_node(operator, ["w", "s"], ["y"], domain=domain)
    assert external_weights(graph(node)) == ["w"]


def test_two_operators_of_microsofts_are_taken() -> None:
    assert FROM_MICROSOFT == ("MatMulNBits", "GatherBlockQuantized")
    for operator in FROM_MICROSOFT:
        node = helper.make_node(operator, ["x", "w"], ["y"], domain="com.microsoft")
        assert external_weights(graph(node)) == ["w"]


@pytest.mark.parametrize(
    ("operator", "domain"),
    [
        ("EPContext", "com.microsoft"),
        ("QuantizeLinear", "com.microsoft"),
        ("DequantizeLinear", "com.microsoft"),
        ("matmulnbits", "com.microsoft"),
        ("MatMulNBits", "com.microsoft.nchwc"),
        ("MatMulNBits", "com.Microsoft"),
        ("", "com.microsoft"),
        ("MatMulNBits", "mine"),
    ],
)
def test_others_are_not(operator: str, domain: str) -> None:
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    inner = helper.make_graph([node], "inner", [], [])
    outer = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    for made in (node, outer):
        with pytest.raises(ModelFileError, match="which isn't ONNX's own"):
            external_weights(graph(made))


@pytest.mark.parametrize(
    "more",
    [
        onnx.NodeProto(op_type="EPContext"),
        onnx.NodeProto(domain="com.microsoft"),
        onnx.NodeProto(op_type="MatMulNBits", domain=""),
    ],
)
def test_an_operator_has_one_name(more: onnx.NodeProto) -> None:
    """Of a field that is given twice, a reader may take the first or the last."""
    node = helper.make_node("MatMulNBits", ["x"], ["y"], domain="com.microsoft")
    twice = node.SerializeToString() + more.SerializeToString()
    inner = b"\x0a" + bytes([len(twice)]) + twice  # a node of a graph
    made = b"\x3a" + bytes([len(inner)]) + inner  # the graph of a model
    with pytest.raises(ModelFileError, match="names an operator twice"):
        external_weights(made)
