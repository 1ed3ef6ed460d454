"""From a torch network to an ONNX graph without weights, and the weights beside it.

The exporter is `torch.onnx.export` over `torch.export`, with its own optimizer switched off: that
one changes weights behind their names. What is left to simplify is folded here, and never over a
weight: an int8, packed int4, fp16 or bf16 weight stands in the file as the network holds it, and
the graph turns it into what it computes with. Fusing BatchNorm into its convolution is
onnxruntime's work at load.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright.arrays import Array
from modelwright.errors import ModelFileError, require
from modelwright.modelfile.graph import WEIGHTS_LOCATION
from modelwright.modelfile.outputs import OutputForm
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.step_graphs import NetworkGraph
from modelwright.modelfile.tensors import BF16, Arrays
from modelwright.modelfile.torch_runtime import from_torch
from modelwright.models.logmel import LogMel
from modelwright.models.summary import multiply_adds

if TYPE_CHECKING:
    import onnx
    import onnx_ir
    from torch import Tensor, nn

OPSET = 21
"""The first whose DequantizeLinear knows int4 and blocks; onnxruntime 1.22, the oldest we take, has
all of it."""
IR_VERSION = 10
PAST = "P"
"""The number of tokens so far, which may be 0; all other free sizes are 1 or more."""


@dataclass(frozen=True, slots=True)
class TracedGraph:
    """A graph without weights, and the form of the network that it was traced from."""

    graph: bytes
    form: tuple[Any, ...]
    """Modules, inputs, outputs, and the names, types and shapes of weights."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported graph, and the weights apart from it."""

    traced: TracedGraph
    weights: Arrays
    """The network's `state_dict()`, each array once."""
    shared: dict[str, str]
    """Names of weights that are another one's."""
    outputs: tuple[TensorSpec, ...]
    answer: Callable[[Arrays], tuple[Array, ...]]
    """The network itself, in evaluation mode: from arrays by the inputs' names to its outputs."""
    parameters: int
    multiply_adds: int


def export(source: NetworkGraph, traced: TracedGraph | None = None) -> Exported:
    """Export a graph of a network as it answers in evaluation mode; the network isn't changed.

    Args:
        source: the graph of the network.
        traced: a graph that was traced earlier. It is taken, with the present weights, where the
            network still has its form, as it does before and after training; else it is traced.

    Raises:
        ModelFileError: the exporter can't express the network.
        MissingExtraError: torch, onnx or onnxscript isn't installed.
    """
    for library in ("torch", "onnx", "onnxscript"):
        require(library, extra="train", purpose="to write a model file")
    network = copy.deepcopy(source.module).to("cpu").eval().requires_grad_(False)
    _without_doubles(network)
    inputs, outputs = source.inputs, source.outputs
    arguments = _tensors(source.samples, inputs)
    expected = _answer(network, arguments, outputs)
    weights, shared = _weights(network)
    kinds = [(name, str(array.dtype), array.shape) for name, array in weights.items()]
    form = (str(network), inputs, tuple(item.name for item in outputs), kinds, shared)
    start = f"{source.within}." if source.within else ""
    if traced is None or traced.form != form:
        model = _export(network, arguments, inputs, outputs, weights={*weights, *shared})
        _rename(model, start)
    weights = {name.removeprefix(start): array for name, array in weights.items()}
    shared = {a.removeprefix(start): b.removeprefix(start) for a, b in shared.items()}
    if traced is None or traced.form != form:
        _clean(model, {*weights, *shared})
        _set_apart(model, weights, shared)
        traced = TracedGraph(model.SerializeToString(deterministic=True), form)
    return Exported(
        traced=traced,
        weights=weights,
        shared=shared,
        outputs=tuple(
            form.tensor(array.shape) for form, array in zip(outputs, expected, strict=True)
        ),
        answer=lambda arrays: _answer(network, _tensors(arrays, inputs), outputs),
        parameters=_num_parameters(network),
        multiply_adds=multiply_adds(network, *(argument[:1] for argument in arguments)),
    )


def _num_parameters(network: nn.Module) -> int:
    """Return the number of parameters, also of those that are stored in few bits or as codes."""
    stored = sum(getattr(module, "stored_parameters", 0) for module in network.modules())
    return stored + sum(item.numel() for item in network.parameters())


def _tensors(arrays: Arrays, inputs: Sequence[TensorSpec]) -> tuple[Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(np.array(arrays[tensor.name])) for tensor in inputs)


def _answer(
    network: nn.Module, arguments: tuple[Tensor, ...], outputs: Sequence[OutputForm]
) -> tuple[Array, ...]:
    """Return the network's own outputs."""
    import torch

    with torch.no_grad():
        answer = network(*arguments)
    items = answer if isinstance(answer, tuple) else (answer,)
    fits = len(items) == len(outputs) and all(isinstance(item, torch.Tensor) for item in items)
    if not fits or not all(bool(torch.isfinite(item).all()) for item in items):
        raise ModelFileError(
            f"the network doesn't answer with {len(outputs)} finite array"
            + ("s" if len(outputs) > 1 else ""),
            fix="Train it again with a smaller `train.optimizer.lr`",
        )
    return tuple(item.numpy().astype(form.dtype) for item, form in zip(items, outputs, strict=True))


def _rename(model: onnx.ModelProto, start: str) -> None:
    """Give weights the names that they have in the whole network."""
    for item in model.graph.initializer:
        item.name = item.name.removeprefix(start)
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = name.removeprefix(start)


def _export(
    network: nn.Module,
    arguments: tuple[Tensor, ...],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[OutputForm],
    *,
    weights: Container[str],
) -> onnx.ModelProto:
    import torch
    from onnxscript import optimizer

    def should_fold(node: onnx_ir.Node) -> bool | None:
        of_weight = any(value is not None and value.name in weights for value in node.inputs)
        return False if of_weight else None

    shapes = dynamic_shapes(network, inputs)
    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                arguments,
                dynamo=True,
                optimize=False,
                verbose=False,
                external_data=False,
                opset_version=OPSET,
                input_names=[tensor.name for tensor in inputs],
                output_names=[form.name for form in outputs],
                dynamic_shapes=shapes,
            )
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            raise ModelFileError(
                "the network can't be exported to ONNX",
                why=str(error).strip().splitlines()[0][:300],
                fix="Another `model` can; `modelwright config` lists them",
            ) from error
        assert program is not None
        optimizer.fold_constants(program.model, onnx_shape_inference=False, should_fold=should_fold)
        optimizer.remove_unused_nodes(program.model)
        model: onnx.ModelProto = program.model_proto
    return model


def dynamic_shapes(network: nn.Module, inputs: Sequence[TensorSpec]) -> tuple[dict[int, Any], ...]:
    """Return which sizes of each input are free, as `torch.export` wants to know it."""
    import torch

    minimum = {PAST: 0} | _min_samples(network)
    free = {
        size: torch.export.Dim(size, min=minimum.get(size, 1))
        for tensor in inputs
        for size in tensor.shape
        if isinstance(size, str)
    }
    return tuple(
        {at: free[size] for at, size in enumerate(tensor.shape) if isinstance(size, str)}
        for tensor in inputs
    )


def _min_samples(network: nn.Module) -> dict[str, int]:
    """Return the number of audio samples in three frames, where a network computes spectrograms.

    torch specialises fewer frames, and refuses to export both in one graph: it would trace the
    network a second time, with this bound. The graph takes shorter recordings all the same; some
    are among those that it is tested on.
    """
    hops = [module.hop for module in network.modules() if isinstance(module, LogMel)]
    return {"T": 1 + 2 * max(hops)} if hops else {}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings: deprecations, a missing torchvision, unusual nodes."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _without_doubles(network: nn.Module) -> None:
    """Turn the network's doubles into float32; what is stored in fewer bits stays as it is."""
    import torch

    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.dtype == torch.float64:
                parameter.data = parameter.data.float()
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.dtype == torch.float64:
                setattr(module, name, buffer.float())


def _weights(network: nn.Module) -> tuple[Arrays, dict[str, str]]:
    """Return the network's state, each array once, and the names that share another's."""
    weights: Arrays = {}
    shared: dict[str, str] = {}
    homes: dict[tuple[Any, ...], str] = {}
    for name, item in network.state_dict().items():
        place = (item.data_ptr(), item.dtype, item.shape, item.stride())
        home = homes.setdefault(place, name) if item.numel() else name
        if home != name:
            shared[name] = home
        else:
            weights[name] = from_torch(item, name=name)
    return weights, shared


def _clean(model: onnx.ModelProto, weights: Container[str]) -> None:
    """Remove what doesn't affect the outputs: stack traces, local paths, names of classes."""
    graph = model.graph
    assert not model.functions
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "modelwright", ""
    for holder in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    graph.ClearField("value_info")
    _drop_zero_biases(graph, weights)


def _drop_zero_biases(graph: onnx.GraphProto, weights: Container[str]) -> None:
    """Remove the zeros that the exporter adds to a convolution without a bias."""
    from onnx import numpy_helper

    constants = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type != "Conv" or len(node.input) < 3:
            continue
        bias = constants.get(node.input[2])
        # A weight stays even where it is zero: its name says that it was learnt.
        if bias is None or bias.name in weights:
            continue
        if not numpy_helper.to_array(bias).any():
            del node.input[2]
    used = {name for node in graph.node for name in node.input}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _set_apart(model: onnx.ModelProto, weights: Arrays, shared: dict[str, str]) -> None:
    """Replace the values of each weight by a reference to the weights member.

    A weight that the exporter has changed is refused: the file would hold another network.
    """
    import onnx
    from onnx import numpy_helper

    for item in model.graph.initializer:
        array = weights.get(shared.get(item.name, item.name))
        if array is None:
            continue
        kind = onnx.TensorProto.BFLOAT16
        if array.dtype != BF16:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        data = item.raw_data or numpy_helper.to_array(item).tobytes()
        exported = (item.data_type, tuple(item.dims), data)
        if exported != (kind, array.shape, array.tobytes()):
            raise ModelFileError(
                f"the exporter has changed the weight `{item.name}`",
                why=f"The network holds {array.dtype} {list(array.shape)}",
                fix="Please report this with the recipe: it is a fault of the export",
            )
        for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
            item.ClearField(name)
        item.data_location = onnx.TensorProto.EXTERNAL
        del item.external_data[:]
        item.external_data.add(key="location", value=WEIGHTS_LOCATION)
