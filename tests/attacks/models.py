"""Model files of every kind of output with graphs made by hand, and hostile variants of them.

A variant changes one part before the file is written with right digests, so that only what it says
is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from modelwright.files import canonical_json
from modelwright.modelfile.spec import FORMAT
from modelwright.modelfile.tensors import write_arrays
from modelwright.tasks.beam_search import BeamSearchConfig
from modelwright.tasks.inference import Inference
from modelwright.tasks.sampling import SamplingConfig
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import train_tokenizer
from tests.modelfile.making import FROZEN, forge

Json = dict[str, Any]
TOKENIZER = train_tokenizer(["the cat sat on the mat"], kind="word", size=30, lowercase=True)
V = TOKENIZER.size
IMAGE = {
    "kind": "image",
    "height": 4,
    "width": 4,
    "channels": 1,
    "resize": "shorter",
    "interpolation": "bilinear",
    "background": 0,
}
AUDIO = {"kind": "audio", "sampling_rate": 8000, "max_seconds": 1.0}
_FLOAT, _INT64 = TensorProto.FLOAT, TensorProto.INT64
_TYPES = {"uint8": TensorProto.UINT8, "int16": TensorProto.INT16, "int64": _INT64}


def tensor(name: str, dtype: str, *shape: int | str) -> Json:
    """Return what a file declares of a tensor."""
    return {"name": name, "dtype": dtype, "shape": list(shape)}


PIXELS = [tensor("pixels", "uint8", "N", 4, 4, 1)]
SAMPLES = [tensor("samples", "int16", "N", "T"), tensor("length", "int64", "N")]
TOKENS = [tensor("tokens", "int64", "N", "T"), tensor("length", "int64", "N")]
PROMPT = [tensor("tokens", "int64", "N", "T")]
SOURCE = [
    tensor("source", "int64", "N", "T"),
    tensor("source_length", "int64", "N"),
    tensor("target", "int64", "N", "S"),
]


@dataclass
class Parts:
    """A model file before it is written; tests change it as they like."""

    task: str
    input: Json
    outputs: Json
    graphs: dict[str, Json]
    bytes: dict[str, bytes]
    golden: dict[str, np.ndarray]
    inference: Json = field(default_factory=lambda: Inference().to_json())
    assets: dict[str, bytes] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=lambda: {"w": np.ones(1, np.float32)})

    def write(self, path: Path) -> Path:
        """Write the file with right digests."""
        spec = {
            "format": FORMAT,
            "task": self.task,
            "input": self.input,
            "outputs": self.outputs,
            "inference": self.inference,
            "architecture": {"name": "made by hand"},
            "graph_steps": [],
            "graphs": self.graphs,
            "shared": {},
            "encoded": {},
        }
        members = {f"model/graphs/{name}.onnx": graph for name, graph in self.bytes.items()}
        return forge(
            path,
            FROZEN,
            change={
                "model/spec.json": canonical_json(spec),
                "model/weights.safetensors": write_arrays(self.weights, name="w"),
                **members,
                **{f"model/{name}": data for name, data in self.assets.items()},
                "golden.safetensors": write_arrays(self.golden, name="golden"),
            },
            in_order=True,
        )


def graph(
    nodes: Sequence[Any], constants: dict[str, np.ndarray], inputs: list[Json], outputs: list[str]
) -> bytes:
    """Return an ONNX graph; its outputs' shapes and types are what comes out."""
    made = helper.make_graph(
        list(nodes),
        "g",
        [
            helper.make_tensor_value_info(
                item["name"], _TYPES.get(item["dtype"], _FLOAT), item["shape"]
            )
            for item in inputs
        ],
        [helper.make_tensor_value_info(name, _FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    for value in made.output:  # onnxruntime finds types itself, which need not be floats
        value.ClearField("type")
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


node = helper.make_node


def repeated(name: str, row: np.ndarray, count_of: str) -> tuple[list[Any], Json]:
    """Return nodes that give a row for each sample, and the constants that they need."""
    given, rest = f"{name}_given", f"{name}_rest"
    nodes = [
        node("Shape", [count_of], [f"{name}_n"], start=0, end=1),
        node("Concat", [f"{name}_n", rest], [f"{name}_shape"], axis=0),
        node("Expand", [given, f"{name}_shape"], [name]),
    ]
    return nodes, {given: row[None], rest: np.array(row.shape, np.int64)}


def fixed(inputs: list[Json], **rows: np.ndarray) -> bytes:
    """Return a graph that answers every sample with the same rows."""
    nodes, constants = [], {}
    for name, row in rows.items():
        more, held = repeated(name, row, inputs[0]["name"])
        nodes += more
        constants |= held
    return graph(nodes, constants, inputs, list(rows))


def golden(inputs: list[Json], rows: dict[str, np.ndarray], count: int = 2) -> dict[str, Any]:
    """Return golden samples for graphs that answer every sample alike."""
    lengths = {"T": 6, "S": 2}
    arrays = {}
    for item in inputs:
        sizes = [lengths.get(size, size) for size in item["shape"][1:]]
        kind = np.full if "length" in item["name"] else np.ones
        filling = (6,) if "length" in item["name"] else ()
        arrays[f"inputs.{item['name']}"] = kind((count, *sizes), *filling, dtype=item["dtype"])
    return arrays | {f"outputs.{name}": np.stack([row] * count) for name, row in rows.items()}


def answering(
    task: str, input: Json, inputs: list[Json], kind: str, labels: Sequence[str], **rows: np.ndarray
) -> Parts:
    """Return a file that answers every sample with the same rows, as they are declared."""
    outputs = [tensor(name, row.dtype.name, "N", *row.shape) for name, row in rows.items()]
    return Parts(
        task=task,
        input=input,
        outputs={"kind": kind, "labels": list(labels)},
        graphs={"main": {"inputs": inputs, "outputs": outputs}},
        bytes={"main": fixed(inputs, **rows)},
        golden=golden(inputs, rows),
    )


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def classifier() -> Parts:
    return answering(
        "image-classification", IMAGE, PIXELS, "single_label", "abcd", logits=floats(0, 1, 2, 3)
    )


def several_labels() -> Parts:
    return answering(
        "image-classification", IMAGE, PIXELS, "multi_label", "abc", label_logits=floats(-1, 0, 1)
    )


def numbers() -> Parts:
    return answering("regression", IMAGE, PIXELS, "regression", ["x", "y"], values=floats(1, 2))


def detector() -> Parts:
    boxes = np.array([[0, 0, 2, 2], [1, 1, 4, 4], [0, 0, 2, 2]], np.float32)
    scores = np.array([[3, 0], [0, 3], [2, 2]], np.float32)
    return answering("object-detection", IMAGE, PIXELS, "boxes", "ab", scores=scores, boxes=boxes)


def texts() -> Parts:
    parts = answering(
        "text-classification", text_input("text"), TOKENS, "single_label", "ab", logits=floats(0, 1)
    )
    parts.assets = dict(TextInput(TOKENIZER, 32).assets())
    return parts


def text_input(kind: Any) -> Json:
    return TextInput(TOKENIZER, 32, kind).to_json()


def recogniser() -> Parts:
    frames = np.zeros((5, 4), np.float32)
    frames[[0, 2, 4], [1, 2, 3]] = 5
    parts = answering(
        "speech-recognition",
        AUDIO,
        SAMPLES,
        "ctc",
        "abc",
        frames=frames,
        steps=np.array(5, np.int64),
    )
    parts.graphs["main"]["outputs"][0]["shape"] = ["N", "F", 4]
    return parts


CACHE = ("N", 1, 2, 1, "P", 1)


def step_inputs(cache: Sequence[int | str] = CACHE) -> list[Json]:
    return [
        tensor("tokens", "int64", "N", "S"),
        tensor("padding", "int64", "N"),
        tensor("cache", "float32", *cache),
    ]


def growing() -> list[Any]:
    """Return nodes that add a place to the cache for each token."""
    return [
        node("Cast", ["tokens"], ["t"], to=_FLOAT),
        node("Unsqueeze", ["t", "axes"], ["places"]),
        node("Concat", ["places", "places"], ["pairs"], axis=2),
        node("Concat", ["cache", "pairs"], ["grown"], axis=4),
    ]


AXES = {"axes": np.array([1, 2, 3, 5], np.int64)}


def stepping(
    nodes: Sequence[Any] = (), inputs: list[Json] | None = None, **constants: Any
) -> bytes:
    """Return the graph `step`, whose next token is always the same; `nodes` stand in for parts."""
    following, held = repeated("next", np.linspace(0, 1, V, dtype=np.float32), "tokens")
    own = {name for item in nodes for name in item.output}
    defaults = [item for item in (*following, *growing()) if not set(item.output) & own]
    return graph(
        [*nodes, *defaults],
        {**AXES, **held, **constants},
        inputs or step_inputs(),
        ["next", "grown"],
    )


def storyteller() -> Parts:
    table = np.tile(np.linspace(0, 1, V, dtype=np.float32), (V, 1))
    outputs = [tensor("next", "float32", "N", "T", V)]
    parts = Parts(
        task="language-modeling",
        input=text_input("prompt"),
        outputs={"kind": "causal_lm", "labels": []},
        graphs={
            "main": {"inputs": PROMPT, "outputs": outputs},
            "step": {
                "inputs": step_inputs(),
                "outputs": [
                    tensor("next", "float32", "N", V),
                    tensor("grown", "float32", "N", 1, 2, 1, "Q", 1),
                ],
            },
        },
        bytes={
            "main": graph(
                [node("Gather", ["table", "tokens"], ["next"])], {"table": table}, PROMPT, ["next"]
            ),
            "step": stepping(),
        },
        golden=golden(PROMPT, {"next": np.stack([table[0]] * 6)}),
        inference=Inference(generate=SamplingConfig(max_new_tokens=8)).to_json(),
    )
    parts.assets = dict(TextInput(TOKENIZER, 32, "prompt").assets())
    return parts


def encoding(memory: np.ndarray | None = None, state: np.ndarray | None = None) -> bytes:
    """Return the graph `encode`: a place of memory for each token, and one state."""
    nodes: list[Any] = [
        node("Cast", ["source"], ["t"], to=_FLOAT),
        node("Unsqueeze", ["t", "last"], ["memory"]),
        node("ReduceSum", ["memory", "middle"], ["state"], keepdims=0),
    ]
    constants = {"last": np.array([2], np.int64), "middle": np.array([1], np.int64)}
    for name, array in (("memory", memory), ("state", state)):
        if array is not None:
            nodes = [item for item in nodes if item.output[0] != name]
            nodes.append(node("Identity", [f"{name}_given"], [name]))
            constants[f"{name}_given"] = array
    return graph(nodes, constants, SOURCE[:2], ["memory", "state"])


def translator() -> Parts:
    table = np.tile(np.linspace(0, 1, V, dtype=np.float32), (V, 1))
    memory = tensor("memory", "float32", "N", "T", 1)
    state = tensor("state", "float32", "N", 1)
    inputs = [tensor("tokens", "int64", "N", 1), SOURCE[1], memory, state]
    following, held = repeated("next", table[0], "tokens")
    parts = Parts(
        task="translation",
        input=text_input("source"),
        outputs={"kind": "seq2seq", "labels": []},
        graphs={
            "main": {"inputs": SOURCE, "outputs": [tensor("next", "float32", "N", "S", V)]},
            "encode": {"inputs": SOURCE[:2], "outputs": [memory, state]},
            "step": {
                "inputs": inputs,
                "outputs": [tensor("next", "float32", "N", V), tensor("grown", "float32", "N", 1)],
            },
        },
        bytes={
            "main": graph(
                [node("Gather", ["table", "target"], ["next"])], {"table": table}, SOURCE, ["next"]
            ),
            "encode": encoding(),
            "step": graph(
                [*following, node("Identity", ["state"], ["grown"])],
                held,
                inputs,
                ["next", "grown"],
            ),
        },
        golden=golden(SOURCE, {"next": np.stack([table[0]] * 2)}),
        inference=Inference(generate=BeamSearchConfig(num_beams=2, max_new_tokens=6)).to_json(),
    )
    parts.assets = dict(TextInput(TOKENIZER, 32, "source").assets())
    return parts


KINDS: dict[str, Callable[[], Parts]] = {
    make.__name__: make
    for make in (
        classifier,
        several_labels,
        numbers,
        detector,
        texts,
        recogniser,
        storyteller,
        translator,
    )
}
"""A file of each kind, which verifies and predicts."""
_SAMPLES: dict[str, Any] = {
    "image": np.full((4, 4), 9, np.uint8),
    "audio": np.ones(4000, np.int16),
    "text": "the cat",
    "prompt": "the cat",
    "source": "the cat sat",
}


def sample_for(parts: Parts) -> Any:
    """Return an input that the file's model takes."""
    return _SAMPLES[parts.input["kind"]]


def changed(kind: str) -> Parts:
    """Return a file of a kind, to be changed."""
    return deepcopy(KINDS[kind]())
