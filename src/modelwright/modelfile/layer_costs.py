"""What each layer costs by its widths: multiply-adds, and seconds in onnxruntime on this machine.

A layer is timed alone, for one sample, at some shares of its widths; between them time is
interpolated. Narrower is never taken for slower.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelwright.arrays import Doubles
from modelwright.files import Json
from modelwright.modelfile.export import IR_VERSION, OPSET, export
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.outputs import FORMS
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN
from modelwright.modelfile.step_graphs import NetworkGraph
from modelwright.models.candidate import Candidate

SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""The widths at which a layer is timed, as shares of those that it has."""
_LEAST_S, _LEAST_RUNS, _MOST_RUNS = 0.004, 5, 200
"""How long one width is timed, and how often at least and at most."""
_BLOCKS = 20
"""So many times calls are made by turns."""


@dataclass(frozen=True, slots=True)
class LayerCosts:
    """What one layer costs for a sample."""

    inputs: int
    outputs: int
    multiply_adds: float
    is_depthwise: bool
    seconds: Doubles
    """By the shares of inputs and outputs `[5, 5]`."""

    def at(self, inputs: int, outputs: int) -> tuple[float, float]:
        """Return multiply-adds and seconds with other widths."""
        share_in, share_out = inputs / self.inputs, outputs / self.outputs
        if self.is_depthwise:
            share_in = 1.0
        by_inputs = [np.interp(share_out, SHARES, row) for row in self.seconds]
        seconds = float(np.interp(share_in, SHARES, by_inputs))
        return self.multiply_adds * share_in * share_out, seconds


def layer_costs(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    threads: int = 1,
    decide: Callable[[str, Callable[[], Json]], Json] | None = None,
) -> dict[str, LayerCosts]:
    """Return what each convolution and fully connected layer costs, by its name.

    Args:
        network: it isn't changed.
        inputs: one sample.
        threads: of onnxruntime.
        decide: keeps the measured times, so that a resumed run has the same ones; without it
            nothing is timed.
    """
    calls = _calls(network, inputs)
    layers = {name: network.get_submodule(name) for name in calls}

    def measured() -> Json:
        known: dict[Any, Doubles] = {}
        for name, of_layer in calls.items():
            form = (str(layers[name]), of_layer[0][0])
            if form not in known:
                known[form] = _table(layers[name], of_layer[0][0], threads)
        return {
            name: known[str(layers[name]), of_layer[0][0]].tolist()
            for name, of_layer in calls.items()
        }

    untimed = np.zeros((len(SHARES), len(SHARES)))
    tables = {} if decide is None else decide("layer_seconds", measured)
    costs = {}
    for name, layer in layers.items():
        weight = layer.get_parameter("weight")
        costs[name] = LayerCosts(
            inputs=weight.shape[0 if is_depthwise(layer) else 1],
            outputs=weight.shape[0],
            multiply_adds=float(sum(places for _, places in calls[name]) * weight.numel()),
            is_depthwise=is_depthwise(layer),
            seconds=np.array(tables.get(name, untimed)) * len(calls[name]),
        )
    return costs


def is_depthwise(layer: nn.Module) -> bool:
    """Say whether a layer is a convolution of each channel by itself."""
    return isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups > 1


def by_turns(runs: Sequence[Callable[[], object]]) -> list[float]:
    """Return how many seconds calls take that are made by turns."""
    times = [[_median(run) for run in runs] for _ in range(_BLOCKS)]
    return [float(seconds) for seconds in np.median(times, axis=0)]


def answering(
    candidate: Candidate, inputs: tuple[Tensor, ...], threads: int
) -> Callable[[], object]:
    """Return what has a network answer to one sample in onnxruntime."""
    reader = open_input(candidate.input.to_json(), candidate.assets)
    source = NetworkGraph(
        name=MAIN,
        module=candidate.network,
        within="",
        inputs=reader.tensors,
        outputs=FORMS[candidate.output_kind],
        samples=reader.synthetic(2),
    )
    made = export(source)
    session = Session(made.traced.graph, made.weights, threads=threads)
    names = [tensor.name for tensor in reader.tensors]
    given = {name: item.numpy() for name, item in zip(names, inputs, strict=True)}
    return partial(session.run, given)


def _calls(
    network: nn.Module, inputs: tuple[Tensor, ...]
) -> dict[str, list[tuple[tuple[int, ...], int]]]:
    """Return of each call of a layer the shape it is given, and at how many places it works."""
    shadow = copy.deepcopy(network).eval()
    calls: dict[str, list[tuple[tuple[int, ...], int]]] = {}

    def note(name: str, layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        sides = output.shape[1:-1] if isinstance(layer, nn.Linear) else output.shape[2:]
        calls.setdefault(name, []).append((tuple(given[0].shape), sides.numel()))

    for name, layer in shadow.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            layer.register_forward_hook(partial(note, name))
    with torch.no_grad():
        shadow(*inputs)
    return calls


def _table(layer: nn.Module, shape: tuple[int, ...], threads: int) -> Doubles:
    """Return the seconds of a layer `[5, 5]` by its share of inputs, and of outputs."""
    weight = layer.get_parameter("weight").detach().numpy()
    axis = len(shape) - 1 if isinstance(layer, nn.Linear) else 1
    table = np.zeros((len(SHARES), len(SHARES)))
    for row, share_in in enumerate(SHARES):
        if row and is_depthwise(layer):
            table[row] = table[0]
            continue
        for column, share_out in enumerate(SHARES):
            outputs, inputs = (
                max(round(size * share), 1)
                for size, share in zip(weight.shape[:2], (share_out, share_in), strict=True)
            )
            sizes = [*shape[:axis], outputs if is_depthwise(layer) else inputs, *shape[axis + 1 :]]
            part = np.ascontiguousarray(weight[:outputs, :inputs])
            table[row, column] = _seconds(layer, part, sizes, threads)
    return np.maximum.accumulate(np.maximum.accumulate(table, 0), 1)


def _seconds(layer: nn.Module, weight: Any, shape: Sequence[int], threads: int) -> float:
    """Return the median seconds of a layer with these weights on an input of a shape."""
    from onnx import TensorProto, helper, numpy_helper

    if isinstance(layer, nn.Linear):
        weight = np.ascontiguousarray(weight.T)
        node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    else:
        assert isinstance(layer, nn.Conv1d | nn.Conv2d)
        pads = [0] * 2 * len(layer.kernel_size)
        if not isinstance(layer.padding, str):
            pads = [*layer.padding, *layer.padding]
        node = helper.make_node(
            "Conv",
            ["x", "weight"],
            ["y"],
            strides=list(layer.stride),
            dilations=list(layer.dilation),
            pads=pads,
            group=len(weight) if layer.groups > 1 else 1,
        )
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    session = Session(model.SerializeToString(), {}, threads=threads)
    values = np.ones(shape, np.float32)
    return _median(lambda: session.run({"x": values}))


def _median(run: Callable[[], object]) -> float:
    run()
    times: list[float] = []
    while len(times) < _LEAST_RUNS or (sum(times) < _LEAST_S and len(times) < _MOST_RUNS):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))
