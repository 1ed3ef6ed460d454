"""Which layers of a model file onnxruntime computes in integers on this machine."""

from __future__ import annotations

import numpy as np

from modelwright.modelfile.container import FileLike, refuse_sealed
from modelwright.modelfile.contents import read, whole_weights
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN

INTEGER_OPERATORS = frozenset(
    ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger")
)
"""The operators that multiply integers."""
_SCALE = ".weight_scale"
KINDS = {
    "convolution": ("Conv", "FusedConv", "NhwcFusedConv"),
    "convolution int8": ("QLinearConv", "ConvInteger"),
    "product": ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "LSTM", "GRU"),
    "product int8": (
        "QGemm",
        "QLinearMatMul",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "MatMulNBits",
    ),
}
"""The kinds of work whose times differ most between processors, by operators of onnxruntime."""
OTHER = "other"


def integer_layers(file: FileLike) -> dict[str, bool]:
    """Return the layers with int8 weights, and whether each is computed in integers.

    Raises:
        ModelFileError: it isn't a model file, or is damaged.
        MissingExtraError: the library `onnx` isn't installed.
        SealError: the file is sealed.
    """
    refuse_sealed(file, why="onnxruntime writes what it makes of the graph to a temporary file")
    contents = read(file)
    weights = whole_weights(contents.spec, contents.weights)
    layers = [
        name.removesuffix(_SCALE)
        for name in weights
        if name.endswith(_SCALE)
        and weights.get(name.removesuffix("_scale"), np.empty(0)).dtype == np.int8
    ]
    if not layers:
        return {}
    session = Session(contents.graphs[MAIN], weights, threads=1)
    used = {
        name
        for operator, inputs in session.operators()
        if operator in INTEGER_OPERATORS
        for name in inputs
    }
    return {layer: f"{layer}{_SCALE}" in used for layer in layers}


def kind_seconds(file: FileLike, *, threads: int) -> dict[str, float]:
    """Return the seconds of one answer by kind of work (`KINDS`, and `OTHER`), on this machine.

    They are those of a synthetic sample in the main graph.

    Raises:
        ModelFileError: it isn't a model file, or is damaged.
    """
    contents = read(file)
    weights = whole_weights(contents.spec, contents.weights)
    session = Session(contents.graphs[MAIN], weights, threads=threads)
    inputs = open_input(contents.spec.input, contents.assets).synthetic(2)
    alone = {name: array[:1] for name, array in inputs.items()}
    kinds = {operator: kind for kind, names in KINDS.items() for operator in names}
    found = dict.fromkeys((*KINDS, OTHER), 0.0)
    for operator, seconds in session.operator_seconds(alone).items():
        found[kinds.get(operator, OTHER)] += seconds
    return found
