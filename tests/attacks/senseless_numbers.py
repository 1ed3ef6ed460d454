"""Graphs of admitted operators with numbers that make no sense: places outside an array, sizes
without end or below 0, windows larger than what they slide over.

Each is part of a classifier whose answers it doesn't change, so that a file either is refused or
answers as declared. As a module it loads a file of each, asks it, and prints how that ended.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from onnx import TensorProto

from modelwright import modelfile
from modelwright.errors import ModelwrightError
from tests.attacks.models import PIXELS, Parts, changed, floats, graph, node, repeated, sample_for

NUMBERS = (5, 10**6, 2**40, -1, -(10**6))
"""Outside arrays of four, outside memory, outside 32 bits, and below 0."""
Part = tuple[str, list[str], dict[str, Any], dict[str, Any]]
"""An operator, its inputs, its attributes, and the constants among its inputs."""
PLANE = np.ones((1, 1, 4, 4), np.float32)
SMALL = np.ones((1, 1, 2, 2), np.float32)
TABLE = np.ones((4, 4), np.float32)
SERIES = np.ones((3, 1, 2), np.float32)
U = np.ones(1, np.float32)


def of_int64(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def of_length(operator: str, gates: int, n: int) -> Part:
    weights = np.ones((1, 2 * gates, 2), np.float32)
    length = np.array([np.clip(n, -(2**31), 2**31 - 1)], np.int32)
    inputs = ["x", "w", "w", "", "n"]
    return operator, inputs, {"hidden_size": 2}, {"x": SERIES, "w": weights, "n": length}


def sliding(operator: str, **attributes: Any) -> Part:
    return operator, ["x"], attributes, {"x": PLANE}


def convolved(operator: str = "Conv", image: np.ndarray = PLANE, **attributes: Any) -> Part:
    return operator, ["x", "w"], attributes, {"x": image, "w": SMALL}


def table(operator: str, *constants: np.ndarray, **attributes: Any) -> Part:
    names = [f"c{at}" for at in range(len(constants))]
    held = dict(zip(names, constants, strict=True))
    return operator, ["x", *names], attributes, {"x": TABLE, **held}


OPERATORS: dict[str, Callable[[int], Part]] = {
    "Gather": lambda n: table("Gather", of_int64(n)),
    "GatherElements": lambda n: table("GatherElements", of_int64([n])),
    "GatherND": lambda n: table("GatherND", of_int64([n, 0])),
    "ScatterElements": lambda n: table("ScatterElements", of_int64([n]), U[None]),
    "ScatterND": lambda n: table("ScatterND", of_int64([n, 0]), U),
    "TopK": lambda n: table("TopK", of_int64(n)),
    "Split": lambda n: table("Split", of_int64(n, 4 - n), axis=0),
    "Slice": lambda n: table("Slice", *map(of_int64, (n, -n, 0, n))),
    "CumSum": lambda n: table("CumSum", np.array(n, np.int64)),
    "Trilu": lambda n: table("Trilu", np.array(n, np.int64)),
    "Reshape": lambda n: table("Reshape", of_int64(n, 4, 4)),
    "Tile": lambda n: table("Tile", of_int64(1, n)),
    "Expand": lambda n: table("Expand", of_int64(n, 4, 4)),
    "Pad": lambda n: table("Pad", of_int64(0, 0, 0, n)),
    "Pad before": lambda n: table("Pad", of_int64(n, 0, 0, 0), mode="edge"),
    "Pad reflected": lambda n: table("Pad", of_int64(0, n, 0, n), mode="reflect"),
    "Unsqueeze": lambda n: table("Unsqueeze", of_int64(n)),
    "Squeeze": lambda n: table("Squeeze", of_int64(n)),
    "Concat": lambda n: table("Concat", TABLE, axis=max(min(n, 2**31), -(2**31))),
    "Transpose": lambda n: table("Transpose", perm=[n, 0]),
    "Flatten": lambda n: table("Flatten", axis=n),
    "Softmax": lambda n: table("Softmax", axis=n),
    "ReduceSum": lambda n: table("ReduceSum", of_int64(n)),
    "LayerNormalization": lambda n: table("LayerNormalization", np.ones(4, np.float32), axis=n),
    "LSTM": lambda n: of_length("LSTM", 4, n),
    "GRU": lambda n: of_length("GRU", 3, n),
    "Resize": lambda n: sized(of_int64(1, 1, n, 4)),
    "DepthToSpace": lambda n: sliding("DepthToSpace", blocksize=n),
    "SpaceToDepth": lambda n: sliding("SpaceToDepth", blocksize=n),
    "MaxPool padded": lambda n: sliding("MaxPool", kernel_shape=[2, 2], pads=[n, 0, n, 0]),
    "MaxPool": lambda n: sliding("MaxPool", kernel_shape=[n, 2]),
    "MaxPool strides": lambda n: sliding("MaxPool", kernel_shape=[2, 2], strides=[n, 1]),
    "AveragePool": lambda n: sliding("AveragePool", kernel_shape=[2, 2], dilations=[n, 1]),
    "Conv padded": lambda n: convolved(pads=[n, 1, n, 1]),
    "Conv dilated": lambda n: convolved(dilations=[n, 1], pads=[1, 1, 1, 1]),
    "Conv strides": lambda n: convolved(strides=[n, 1]),
    "Conv of groups": lambda n: convolved(group=n),
    "Conv of a kernel": lambda n: convolved(kernel_shape=[n, 2]),
    "ConvTranspose": lambda n: convolved("ConvTranspose", SMALL, output_shape=[n, 4]),
    "GroupNormalization": lambda n: (
        "GroupNormalization",
        ["x", "one", "one"],
        {"num_groups": n},
        {"x": PLANE, "one": U},
    ),
}


def sized(sizes: np.ndarray) -> Part:
    return "Resize", ["x", "", "", "n"], {"mode": "linear"}, {"x": PLANE, "n": sizes}


OTHERS: dict[str, Part] = {
    "Range": ("Range", ["a", "b", "c"], {}, {"a": floats(0)[0], "b": floats(1e12)[0], "c": U[0]}),
    "Range by nothing": (
        "Range",
        ["a", "b", "c"],
        {},
        {"a": U[0], "b": floats(9)[0], "c": floats(0)[0]},
    ),
    "Resize by infinity": (
        "Resize",
        ["x", "", "s"],
        {"mode": "nearest"},
        {"x": PLANE, "s": floats(1, 1, np.inf, np.nan)},
    ),
    "Resize a hundred thousand times": (
        "Resize",
        ["x", "", "s"],
        {"mode": "linear"},
        {"x": PLANE, "s": floats(1, 1, 1e5, 1e5)},
    ),
    "Sqrt of a negative number": ("Sqrt", ["x"], {}, {"x": floats(-1)}),
    "LSTM of another size": (
        "LSTM",
        ["x", "w", "w"],
        {"hidden_size": 2**40},
        {"x": SERIES, "w": np.ones((1, 8, 2), np.float32)},
    ),
    "an input that isn't there": ("Abs", ["nowhere"], {}, {}),
    "a circle": ("Abs", ["logits"], {}, {}),
}


def cases() -> dict[str, Part]:
    """Return all of them by name."""
    made = {f"{name}: {n}": make(n) for name, make in OPERATORS.items() for n in NUMBERS}
    return made | OTHERS


def file_of(part: Part) -> Parts:
    """Return a file whose answers a part takes no part in, but is computed for."""
    operator, inputs, attributes, constants = part
    outputs = ["t", "t2"] if operator in ("Split", "TopK") else ["t"]
    nodes, held = repeated("row", floats(0, 1, 2, 3), "pixels")
    nodes += [
        node(operator, inputs, outputs, **attributes),
        node("Cast", ["t"], ["t_float"], to=TensorProto.FLOAT),
        node("ReduceSum", ["t_float"], ["sum"], keepdims=0),
        node("Mul", ["sum", "nothing"], ["still_nothing"]),
        node("Add", ["row", "still_nothing"], ["logits"]),
    ]
    parts = changed("classifier")
    constants = {"nothing": np.float32(0), **held, **constants}
    parts.bytes["main"] = graph(nodes, constants, PIXELS, ["logits"])
    return parts


def main() -> None:
    """Print the name and the outcome of each case, a line of JSON each."""
    with TemporaryDirectory() as folder:
        for name, part in cases().items():
            parts = file_of(part)
            data = parts.write(Path(folder) / "m.mw").read_bytes()
            outcomes = []
            for ask in (
                lambda data=data: modelfile.verify(io.BytesIO(data), sandbox=False) and None,
                lambda data=data, parts=parts: modelfile.load(data, threads=1).predict(
                    sample_for(parts)
                ),
            ):
                try:
                    outcomes.append([True, ask()])
                except ModelwrightError as error:
                    outcomes.append([False, str(error)])
            sys.stdout.write(json.dumps([name, *outcomes]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
