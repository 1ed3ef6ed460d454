"""Which layers of a model file onnxruntime computes in integers on this machine."""

from __future__ import annotations

import numpy as np

from modelwright.modelfile.container import FileLike
from modelwright.modelfile.contents import read, whole_weights
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN

INTEGER_OPERATORS = frozenset(
    ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger")
)
"""The operators that multiply integers."""
_SCALE = ".weight_scale"


def integer_layers(file: FileLike) -> dict[str, bool]:
    """Return the layers with int8 weights, and whether each is computed in integers.

    Raises:
        ModelFileError: it isn't a model file, or is damaged.
        MissingExtraError: the library `onnx` isn't installed.
    """
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
