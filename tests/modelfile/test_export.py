"""The graph has the network's weights by their names, as they are, and nothing else of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from modelwright import modelfile
from modelwright.errors import ModelFileError
from modelwright.modelfile import export as exporting
from modelwright.modelfile.contents import pick_weights
from modelwright.modelfile.export import export
from modelwright.modelfile.outputs import OutputForm
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.step_graphs import NetworkGraph
from modelwright.modelfile.tensors import BF16
from modelwright.models.candidate import Candidate
from tests.modelfile.making import arrays_candidate, candidate, fill

EQUAL = 1e-6  # one order of summation in float32 from another, as a share of the values


def test_the_weights_stand_in_the_file_once(packed: Path, cnn: Candidate) -> None:
    held = modelfile.read_weights(packed)
    state = cnn.network.state_dict()
    assert held.keys() == state.keys()
    assert all(np.array_equal(held[name], item.numpy()) for name, item in state.items())
    graph = onnx.load_from_string(modelfile.read(packed).graphs["main"])
    outside = [item.name for item in graph.graph.initializer if item.data_location == 1]
    assert set(outside) == {name for name in state if "num_batches" not in name}
    assert packed.read_bytes().count(held["body.head.weight"].tobytes()) == 1


def test_onnxruntime_folds_the_batch_norms(packed: Path, tmp_path: Path) -> None:
    contents = modelfile.read(packed)
    graph = contents.graphs["main"]
    kinds = [node.op_type for node in onnx.load_from_string(graph).graph.node]
    assert kinds.count("BatchNormalization") == 3
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    chosen = pick_weights(graph, contents.weights)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in chosen.values()]
    options.add_external_initializers(list(chosen), values)
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert "BatchNormalization" not in kinds
    assert not {"Range", "Gather", "Expand"} & set(kinds)  # nothing left over of the exporter's


class Quantized(nn.Module):
    """Weights in every form that a later stage may store them in; two features to two numbers.

    Stored are int8 with scales, used by plain arithmetic and by DequantizeLinear; fp16; bf16.
    """

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        integers = torch.randint(-128, 128, (16, 32), dtype=torch.int8, generator=draw)
        self.register_buffer("int8", integers)
        self.register_buffer("scale", torch.rand(16, generator=draw) * 1e-3)
        self.register_buffer("fp16", torch.rand(16, 16, generator=draw).half() / 9)
        self.register_buffer("bf16", torch.rand(16, 16, generator=draw).bfloat16() / 9)
        self.head = nn.Linear(16, 2)
        fill(self.head)

    def forward(self, x: Tensor) -> Tensor:
        x = x @ (self.int8.float() * self.scale[:, None]).T
        x = torch.cat([x, x], 1) @ self.dequantized().T
        x = x @ self.fp16.float() + x @ self.bf16.float()
        return self.head(x)

    def dequantized(self) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return torch.onnx.ops.symbolic(
                "DequantizeLinear",
                (self.int8, self.scale),
                {"axis": 0},
                dtype=torch.float32,
                shape=self.int8.shape,
            )
        return self.int8.float() * self.scale[:, None]


def vector_graph(network: nn.Module, size: int) -> NetworkGraph:
    """Return the graph of a network from one vector to another."""
    return NetworkGraph(
        name="main",
        module=network,
        within="",
        inputs=(TensorSpec("x", "float32", ("N", size)),),
        outputs=(OutputForm("values"),),
        samples={"x": np.ones((2, size), np.float32)},
    )


class Packed(nn.Module):
    """An embedding and a layer of four bits a weight, two to a byte, one scale for 16 of them."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.register_buffer("table", self.bytes(draw, 24, 16))
        self.register_buffer("table_scale", torch.rand(24, 2, generator=draw) / 9)
        self.register_buffer("table_zero", torch.full((24, 1), 0x88, dtype=torch.uint8))
        self.register_buffer("packed", self.bytes(draw, 8, 2, 8))
        self.register_buffer("scale", torch.rand(8, 2, generator=draw) / 9)

    @staticmethod
    def bytes(draw: torch.Generator, *shape: int) -> Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)

    @staticmethod
    def unpacked(packed: Tensor, scale: Tensor) -> Tensor:
        values = torch.stack([packed & 15, packed >> 4], -1).flatten(1).float() - 8
        return values * scale.repeat_interleave(16, 1)

    def forward(self, ids: Tensor) -> Tensor:
        if not torch.onnx.is_in_onnx_export():
            rows = self.unpacked(self.table, self.table_scale)[ids].mean(1)
            return rows @ self.unpacked(self.packed.flatten(1), self.scale).T
        rows = torch.onnx.ops.symbolic(
            "com.microsoft::GatherBlockQuantized",
            (self.table, ids, self.table_scale, self.table_zero),
            {"bits": 4, "block_size": 16, "gather_axis": 0, "quantize_axis": 1},
            dtype=torch.float32,
            shape=(*ids.shape, 32),
            version=1,
        ).mean(1)
        return torch.onnx.ops.symbolic(
            "com.microsoft::MatMulNBits",
            (rows, self.packed, self.scale),
            {"K": 32, "N": 8, "bits": 4, "block_size": 16},
            dtype=torch.float32,
            shape=(ids.shape[0], 8),
            version=1,
        )


def shipped(network: nn.Module, input: dict[str, Any], path: Path) -> dict[str, onnx.TensorProto]:
    """Pack a network, compare its file with it, and return the graph's initialisers."""
    modelfile.write_model(path, arrays_candidate(network, input))
    modelfile.verify(path)
    generator = np.random.default_rng(3)
    shape = [size if isinstance(size, int) else 5 for size in input["shape"]]
    x = generator.normal(size=shape).astype(np.float32)
    if input["dtype"] == "int64":
        x = generator.integers(0, 24, shape)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(x)).numpy()
    found = modelfile.load(path).outputs(x)
    assert np.abs(found - expected).max() <= EQUAL * (1 + np.abs(expected).max())
    assert np.abs(expected).max() > 0.1
    graph = onnx.load_from_string(modelfile.read(path).graphs["main"])
    return {item.name: item for item in graph.graph.initializer}


def test_weights_of_fewer_bits_stand_in_the_file_as_they_are(tmp_path: Path) -> None:
    network, path = Quantized(), tmp_path / "m.mw"
    input = {"name": "x", "dtype": "float32", "shape": ["N", 32]}
    initialisers = shipped(network, input, path)
    held, state = modelfile.read_weights(path), network.state_dict()
    assert held["int8"].dtype == np.int8
    assert held["fp16"].dtype == np.float16
    assert held["bf16"].dtype == BF16
    assert held["fp16"].tobytes() == state["fp16"].numpy().tobytes()
    assert held["bf16"].tobytes() == state["bf16"].view(torch.uint16).numpy().tobytes()
    assert {name: item.data_type for name, item in initialisers.items() if name in state} == {
        "int8": onnx.TensorProto.INT8,
        "scale": onnx.TensorProto.FLOAT,
        "fp16": onnx.TensorProto.FLOAT16,
        "bf16": onnx.TensorProto.BFLOAT16,
        "head.weight": onnx.TensorProto.FLOAT,
        "head.bias": onnx.TensorProto.FLOAT,
    }
    assert all(initialisers[name].data_location == 1 for name in state)
    inside = [item for item in initialisers.values() if item.data_location == 0]
    assert all(np.prod(item.dims) <= 2 for item in inside)  # axes and shapes, no weights
    assert path.read_bytes().count(state["int8"].numpy().tobytes()) == 1


def test_weights_of_four_bits_stand_in_the_file_packed(tmp_path: Path) -> None:
    network, path = Packed(), tmp_path / "m.mw"
    input = {"name": "ids", "dtype": "int64", "shape": ["N", "T"]}
    initialisers = shipped(network, input, path)
    for name in ("table", "packed"):
        assert initialisers[name].data_type == onnx.TensorProto.UINT8
        assert initialisers[name].data_location == 1
    held = modelfile.read_weights(path)
    assert held["packed"].nbytes == 8 * 32 // 2
    graph = onnx.load_from_string(modelfile.read(path).graphs["main"])
    operators = {(node.domain, node.op_type) for node in graph.graph.node}
    assert {name for domain, name in operators if domain == "com.microsoft"} == {
        "MatMulNBits",
        "GatherBlockQuantized",
    }
    assert [item.version for item in graph.opset_import if item.domain == ""] == [exporting.OPSET]


class Small(nn.Module):
    """A weight that is turned and scaled before it is used: a constant, if one looks no further."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight.T.float() * torch.tensor([1.0, 2.0, 3.0]))


def test_nothing_is_folded_over_a_weight(tmp_path: Path) -> None:
    initialisers = shipped(
        Small(), {"name": "x", "dtype": "float32", "shape": ["N", 4]}, tmp_path / "m.mw"
    )
    assert initialisers["weight"].data_location == 1
    assert list(initialisers["weight"].dims) == [3, 4]


def test_constants_without_weights_are_folded() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight + torch.arange(6).float().square().flip(0)

    made = export(vector_graph(Counting(), 6))
    graph = onnx.load_from_string(made.traced.graph).graph
    assert [node.op_type for node in graph.node] == ["Mul", "Add"]


@pytest.mark.parametrize(
    "changed",
    [np.ones(3, np.float32), np.zeros((1, 3), np.float32), np.zeros(3, np.float16)],
)
def test_a_weight_that_the_exporter_changed_is_seen(changed: np.ndarray) -> None:
    held = {"bias": np.zeros(3, np.float32)}
    model = onnx.ModelProto()
    model.graph.initializer.append(onnx.numpy_helper.from_array(held["bias"], "other"))
    exporting._set_apart(model, held, {"other": "bias"})
    assert model.graph.initializer[0].data_location == 1
    model.graph.initializer.append(onnx.numpy_helper.from_array(changed, "bias"))
    with pytest.raises(ModelFileError, match="has changed the weight `bias`"):
        exporting._set_apart(model, held, {})


def test_what_a_model_file_cannot_hold_is_named() -> None:
    network = Small()
    network.register_buffer("eighth", torch.zeros(2).to(torch.float8_e4m3fn))
    with pytest.raises(ModelFileError, match=r"can't hold `eighth`, a tensor of torch\.float8"):
        export(vector_graph(network, 4))


def test_doubles_become_float32_and_nothing_else_changes(tmp_path: Path) -> None:
    made = candidate()
    network = made.network.double()
    network.register_buffer("fp16", torch.ones(3, dtype=torch.float16))
    network.register_buffer("count", torch.tensor(3))
    network.register_buffer("fp64", torch.ones(3, dtype=torch.float64))
    path = tmp_path / "m.mw"
    modelfile.write_model(path, made)
    held = {name: array.dtype.name for name, array in modelfile.read_weights(path).items()}
    assert (held.pop("fp16"), held.pop("count")) == ("float16", "int64")
    assert set(held.values()) == {"float32"}
    assert network.fp64.dtype == next(network.parameters()).dtype == torch.float64
