"""What a graph asks for: the weights by name, and operators that read nothing else."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import TensorProto, defs, helper

from modelwright.errors import ModelFileError
from modelwright.modelfile import operators
from modelwright.modelfile.graph import external_weights
from modelwright.modelfile.operators import FROM_MICROSOFT
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
    with pytest.raises(ModelFileError, match="gives a weight twice"):
        external_weights(graph(names=("a", "a")))
    frozen = external_weights(members_of(FROZEN)["model/graphs/main.onnx"])
    assert "body.head.weight" in frozen


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 255, 256, 384, 16383, 16384, 16385])
def test_fields_of_any_length_are_read(size: int) -> None:
    model = onnx.load_from_string(graph())
    model.graph.doc_string = "x" * size
    assert external_weights(model.SerializeToString()) == ["w"]


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
        ("TreeEnsembleRegressor", "ai.onnx.ml"),
        *(
            (operator, "")
            for operator in ("Loop", "StringConcat", "TfIdfVectorizer", "Einsum", "ConstantOfShape")
        ),
        *((operator, "") for operator in ("BitShift", "RandomNormal", "SequenceAt", "MaxUnpool")),
    ],
)
def test_others_are_not(operator: str, domain: str) -> None:
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    with pytest.raises(ModelFileError, match="which our exports don't"):
        external_weights(graph(node))


def test_graphs_within_nodes_are_refused() -> None:
    inner = helper.make_graph([], "inner", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(ModelFileError, match="holds graphs within a node"):
        external_weights(graph(node))


@pytest.mark.parametrize("operator", ["Concat", "LayerNormalization", "Max", "Mean", "Min", "Sum"])
def test_no_input_of_many_is_left_out(operator: str) -> None:
    """Else onnxruntime follows a pointer to nothing."""
    assert external_weights(graph(helper.make_node(operator, ["x", "x"], ["y"]))) == ["w"]
    with pytest.raises(ModelFileError, match="leaves out an input"):
        external_weights(graph(helper.make_node(operator, ["x", ""], ["y"])))


def test_a_value_is_split_into_as_many_parts_as_there_are_outputs() -> None:
    """Else onnxruntime writes behind the end of a list."""
    assert external_weights(graph(helper.make_node("Split", ["x"], ["y", "z"]))) == ["w"]
    node = helper.make_node("Split", ["x"], ["y", "z"], num_outputs=2)
    assert external_weights(graph(node)) == ["w"]
    node.attribute[0].i = 1
    with pytest.raises(ModelFileError, match="splits a value"):
        external_weights(graph(node))
    node.attribute[0].ints.append(2)
    with pytest.raises(ModelFileError, match="an attribute twice"):
        external_weights(graph(node))


def test_dimensions_of_a_batch_are_not_counted_from_the_end() -> None:
    """onnxruntime takes the number for one that has no sign."""
    node = helper.make_node("GatherND", ["x", "i"], ["y"], batch_dims=0)
    assert external_weights(graph(node)) == ["w"]
    node.attribute[0].i = -1
    with pytest.raises(ModelFileError, match="batch below 0"):
        external_weights(graph(node))


make = helper.make_node
IDS = make("Gather", ["table", "tokens"], ["ids"])
POOL = {"kernel_shape": [3, 3], "strides": [2, 2]}


def filled(operator: str, *nodes: onnx.NodeProto) -> bytes:
    """Return a graph in which the nodes make `x` of tokens, pixels, a state and constants."""
    inputs = [
        helper.make_tensor_value_info(name, kind, None)
        for name, kind in (("tokens", 7), ("pixels", 2), ("state", 1))
    ]
    constants = [
        helper.make_tensor("table", 1, [3, 2], [0.0] * 6),
        helper.make_tensor("none", 1, [0, 2], []),
        helper.make_tensor("one", 7, [1], [1]),
    ]
    last = make(operator, ["x", "table", "table"], ["y"])
    made = helper.make_graph([*nodes, last], "g", inputs, [], constants)
    return helper.make_model(made).SerializeToString()


@pytest.mark.parametrize("operator", ["GRU", "LSTM", "InstanceNormalization"])
@pytest.mark.parametrize(
    ("nodes", "is_safe"),
    [
        ([IDS, make("Transpose", ["ids"], ["x"])], True),
        ([IDS, make("Reshape", ["ids", "none"], ["x"])], True),
        ([IDS, make("Concat", ["state", "ids"], ["x"], axis=0)], True),
        ([IDS, make("Mul", ["ids", "table"], ["x"])], True),
        ([make("Constant", [], ["c"], value_ints=[1]), make("Cast", ["c"], ["x"], to=1)], True),
        ([make("MaxPool", ["pixels"], ["x"], **POOL, pads=[1, 1, 1, 1])], True),
        ([make("MaxPool", ["pixels"], ["x"], **POOL, pads=[1, 0, 1, 1])], False),
        ([make("MaxPool", ["pixels"], ["x"], **POOL, pads=[1] * 4, dilations=[1, 2])], False),
        ([make("AveragePool", ["pixels"], ["x"], **POOL)], False),
        ([make("Constant", [], ["x"], value=helper.make_tensor("", 1, [0], []))], False),
        ([make("Identity", ["state"], ["x"])], False),
        ([make("Mul", ["table", "none"], ["x"])], False),
        ([make("Concat", ["state", "none"], ["x"], axis=0)], False),
        ([IDS, make("Slice", ["ids", "one", "one"], ["x"])], False),
        ([IDS, make("Expand", ["ids", "one"], ["x"])], False),
        ([make("Gather", ["none", "tokens"], ["x"])], False),
    ],
)
def test_what_fails_at_nothing_is_given_something(
    operator: str, nodes: list[onnx.NodeProto], is_safe: bool
) -> None:
    if is_safe:
        assert external_weights(filled(operator, *nodes)) == []
    else:
        with pytest.raises(ModelFileError, match=f"may give `{operator}` nothing"):
            external_weights(filled(operator, *nodes))


INTEGERS = (TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8)


def division(
    kind: int, divisor: Any, *nodes: onnx.NodeProto, operator: str = "Div", is_input: bool = False
) -> bytes:
    """Return a graph that divides its input of a type by a constant, or by what nodes give."""
    inputs = [helper.make_tensor_value_info("x", kind, ["N"])]
    constants = []
    if divisor is not None:
        constants = [helper.make_tensor("d", kind, [len(divisor)], divisor)]
    if is_input:
        inputs.append(helper.make_tensor_value_info("d", kind, [1]))
    node = helper.make_node(operator, ["x", "d"], ["y"])
    made = helper.make_graph([*nodes, node], "g", inputs, [], constants)
    return helper.make_model(made).SerializeToString()


@pytest.mark.parametrize("operator", ["Div", "Mod"])
@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_are_divided_by_safe_constants_alone(kind: int, operator: str) -> None:
    assert external_weights(division(kind, [2, 3], operator=operator)) == []
    bad = [[0], [2, 0]] + ([[-1]] if kind != TensorProto.UINT8 else [])
    for divisor in bad:
        with pytest.raises(ModelFileError, match="divides integers"):
            external_weights(division(kind, divisor, operator=operator))
    with pytest.raises(ModelFileError, match="divides integers"):
        external_weights(division(kind, [2], operator=operator, is_input=True))
    for node in (
        helper.make_node("Identity", ["x"], ["d"]),
        helper.make_node("Clip", [], ["d"]),
        helper.make_node("Shape", ["x"], ["d"]),
        helper.make_node("Cast", ["x"], ["d"], to=kind),
        helper.make_node("Gather", ["x", "x"], ["d"]),
    ):
        with pytest.raises(ModelFileError, match="divides integers"):
            external_weights(division(kind, None, node, operator=operator))
    constant = helper.make_node(
        "Constant", [], ["d"], value=helper.make_tensor("v", kind, [1], [3])
    )
    assert external_weights(division(kind, None, constant, operator=operator)) == []


def test_a_constant_in_an_attribute_is_a_divisor_too() -> None:
    for name, good, bad in (
        ("value_int", 3, (0, -1)),
        ("value_ints", [2, 3], ([2, 0], [2, -1])),
    ):
        for value, is_safe in ((good, True), *((each, False) for each in bad)):
            node = helper.make_node("Constant", [], ["d"], **{name: value})
            data = division(TensorProto.INT64, None, node)
            if is_safe:
                assert external_weights(data) == []
                continue
            with pytest.raises(ModelFileError, match="divides integers"):
                external_weights(data)


@pytest.mark.parametrize(
    ("bounds", "is_safe"),
    [
        ({"low": 1}, True),
        ({"low": 1, "high": 9}, True),
        ({"low": 0}, False),
        ({"low": 1, "high": 0}, False),
        ({"": None, "high": 5}, False),
        ({"x": None}, False),
        ({"low": 1, "x": None}, False),
        ({}, False),
    ],
)
def test_integers_may_be_divided_by_what_is_clipped(
    bounds: dict[str, int | None], is_safe: bool
) -> None:
    nodes = [helper.make_node("Clip", ["x", *bounds], ["d"])]
    nodes.append(helper.make_node("Div", ["x", "d"], ["y"]))
    constants = [
        helper.make_tensor(name, 7, [], [value])
        for name, value in bounds.items()
        if value is not None
    ]
    inputs = [helper.make_tensor_value_info("x", 7, ["N"])]
    made = helper.make_model(helper.make_graph(nodes, "g", inputs, [], constants))
    if is_safe:
        assert external_weights(made.SerializeToString()) == []
    else:
        with pytest.raises(ModelFileError, match="divides integers"):
            external_weights(made.SerializeToString())


def test_floats_are_divided_by_anything() -> None:
    kind = TensorProto.FLOAT
    for node in (
        helper.make_node("Sqrt", ["x"], ["d"]),
        helper.make_node("Cast", ["x"], ["d"], to=kind),
        helper.make_node("Constant", [], ["d"], value_float=0.0),
    ):
        assert external_weights(division(kind, None, node)) == []
    with pytest.raises(ModelFileError, match="divides integers"):
        external_weights(division(kind, None, helper.make_node("Shape", ["x"], ["d"])))


def test_types_of_outputs_are_those_of_onnxs_own_schemas() -> None:
    for operator in operators._AS_FIRST:
        schema = defs.get_schema(operator)
        assert schema.outputs[0].type_str == schema.inputs[0].type_str, operator
    for operator, kind in operators._TYPED.items():
        schema = defs.get_schema(operator)
        given = schema.outputs[0].type_str
        allowed = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
        name = TensorProto.DataType.Name(kind).lower()
        assert allowed.get(given, [given]) == [f"tensor({name})"], operator
    # Since version 23 QuantizeLinear may name another integer, and DequantizeLinear another float.
    for operator, place in operators._OF_INPUT.items():
        if operator not in FROM_MICROSOFT:
            schema = defs.get_schema(operator, 21)
            assert schema.outputs[0].type_str == schema.inputs[place].type_str, operator


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [("MatMulNBits", ["x", "q", "x"]), ("GatherBlockQuantized", ["q", "i", "x"])],
)
def test_weights_of_a_few_bits_become_floats(operator: str, inputs: list[str]) -> None:
    """Of floats `x`, packed weights `q` and places `i`."""
    node = helper.make_node(operator, inputs, ["d"], domain="com.microsoft")
    values = [
        helper.make_tensor_value_info(name, kind, ["N"])
        for name, kind in (
            ("x", TensorProto.FLOAT),
            ("q", TensorProto.UINT8),
            ("i", TensorProto.INT64),
        )
    ]
    divided = [node, helper.make_node("Div", ["x", "d"], ["y"])]
    made = helper.make_model(helper.make_graph(divided, "g", values, []))
    assert external_weights(made.SerializeToString()) == []


@pytest.mark.parametrize(
    ("operator", "outputs", "is_float"),
    [
        ("DynamicQuantizeLinear", ["d", "scale", "zero"], False),
        ("DynamicQuantizeLinear", ["q", "d", "zero"], True),
        ("DynamicQuantizeLinear", ["q", "scale", "d"], False),
        ("MaxPool", ["d", "places"], True),
        ("MaxPool", ["most", "d"], False),
        ("TopK", ["most", "d"], False),
    ],
)
def test_each_output_of_an_operator_has_its_own_type(
    operator: str, outputs: list[str], is_float: bool
) -> None:
    node = helper.make_node(operator, ["x"], outputs)
    if is_float:
        assert external_weights(division(TensorProto.FLOAT, None, node)) == []
    else:
        with pytest.raises(ModelFileError, match="divides integers"):
            external_weights(division(TensorProto.FLOAT, None, node))


def test_minus_one_is_found_however_it_is_written() -> None:
    """Of 32 bits with a sign, 4,294,967,295 is -1; raw bytes and packed numbers are the same."""
    node = helper.make_node("Div", ["x", "d"], ["y"])
    for tensor in (
        TensorProto(name="d", data_type=6, dims=[1], raw_data=b"\xff\xff\xff\xff"),
        TensorProto(name="d", data_type=6, dims=[1], int32_data=[-1]),
    ):
        made = helper.make_graph(
            [node], "g", [helper.make_tensor_value_info("x", 6, ["N"])], [], [tensor]
        )
        with pytest.raises(ModelFileError, match="divides integers"):
            external_weights(helper.make_model(made).SerializeToString())
    unsigned = TensorProto(name="d", data_type=6, dims=[1]).SerializeToString()
    unsigned += b"\x28\xff\xff\xff\xff\x0f"  # `int32_data`, one number of 32 bits
    made = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", 6, ["N"])], [])
    data = made.SerializeToString() + b"\x2a" + bytes([len(unsigned)]) + unsigned
    whole = helper.make_model(helper.make_graph([], "", [], [])).SerializeToString()
    model = onnx.ModelProto.FromString(whole)
    model.ClearField("graph")
    size = len(data)
    varint = bytes([size & 0x7F | 0x80, size >> 7]) if size > 127 else bytes([size])
    with pytest.raises(ModelFileError, match="divides integers"):
        external_weights(model.SerializeToString() + b"\x3a" + varint + data)


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


def test_a_field_whose_number_no_reader_knows_is_refused() -> None:
    number = b"\x80\x80\x80\x80\x80\x01"  # 2 ** 35, of a whole number
    with pytest.raises(ModelFileError, match="isn't an ONNX graph"):
        external_weights(graph() + number + b"\x00")


def test_an_attribute_of_two_constants_is_refused() -> None:
    constant = helper.make_tensor("v", TensorProto.INT64, [1], [3])
    attribute = onnx.AttributeProto(name="value", t=constant, tensors=[constant])
    node = onnx.NodeProto(op_type="Constant", output=["y"], attribute=[attribute])
    with pytest.raises(ModelFileError, match="gives an attribute twice"):
        external_weights(graph(node))


def test_an_attribute_has_one_value() -> None:
    to = [onnx.AttributeProto(name="to", type=2, i=kind) for kind in (1, 7)]
    node = onnx.NodeProto(op_type="Cast", input=["w"], output=["y"], attribute=to)
    with pytest.raises(ModelFileError, match="gives an attribute twice"):
        external_weights(graph(node))


def test_a_field_that_is_cut_short_is_refused() -> None:
    with pytest.raises(ModelFileError, match="isn't an ONNX graph"):
        external_weights(graph() + b"\x12\x05ab")  # The producer's name, of 5 letters.


@pytest.mark.parametrize("size", [32, 33, 40])
def test_fields_that_a_reader_in_c_would_see_alone_are_refused(size: int) -> None:
    """A key beyond 32 bits is another field where it is cut down to them."""
    inside = helper.make_graph([], "hidden", [], []).SerializeToString()
    key = (7 << 3 | 2) | 1 << size  # The field of a model's graph, and one bit more.
    parts = [key >> 7 * at & 127 for at in range(-(-(size + 1) // 7))]
    hidden = bytes([*(part | 128 for part in parts[:-1]), parts[-1]]) + field(0, inside)[1:]
    with pytest.raises(ModelFileError, match="isn't an ONNX graph"):
        external_weights(graph() + hidden)


def of_an_input(*kinds: int) -> bytes:
    """Return a graph that divides an input by 0, whose type is given that many times."""
    typed = [helper.make_tensor_value_info("", kind, ["N"]).SerializeToString() for kind in kinds]
    declared = b"".join([*typed, onnx.ValueInfoProto(name="x").SerializeToString()])
    constant = helper.make_tensor("d", kinds[0] if kinds else TensorProto.FLOAT, [1], [0])
    made = helper.make_graph([helper.make_node("Div", ["x", "d"], ["y"])], "g", [], [], [constant])
    whole = made.SerializeToString() + field(11, declared)
    return onnx.ModelProto(ir_version=10).SerializeToString() + field(7, whole)


def field(number: int, data: bytes) -> bytes:
    """Return a field of a message, of less than 128 bytes."""
    return bytes([number << 3 | 2, len(data)]) + data


def test_an_input_has_one_type() -> None:
    assert external_weights(of_an_input(TensorProto.FLOAT)) == []
    for kinds in ((TensorProto.INT64,), (), (TensorProto.FLOAT, TensorProto.INT64)):
        with pytest.raises(ModelFileError, match="divides integers"):
            external_weights(of_an_input(*kinds))
