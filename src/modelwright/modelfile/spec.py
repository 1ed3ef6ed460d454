"""`model/spec.json`: what decides a prediction beside weights and graphs.

Task, input with its host steps, outputs with their labels, what decides an answer beyond the
weights, the architecture from which the network can be built again, and what each graph takes and
gives.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelwright.errors import ModelFileError
from modelwright.files import Json, JsonObject
from modelwright.kinds import OutputKind
from modelwright.modelfile.encoding import Encoded
from modelwright.modelfile.layout import FORMAT
from modelwright.modelfile.manifest import SPEC
from modelwright.modelfile.strict import field as entry
from modelwright.modelfile.strict import json_member, only_keys, parse_json
from modelwright.modelfile.tensors import BF16, DTYPES
from modelwright.tasks.inference import Inference

MAIN = "main"
"""The graph that answers."""
_LARGEST = 1 << 31
_MOST_AXES = 8
_DTYPES = {dtype.name for dtype in DTYPES.values() if dtype != BF16}
"""What a graph's inputs and outputs may be: the kinds of number that NumPy has."""
_KEYS = (
    "format",
    "task",
    "input",
    "outputs",
    "inference",
    "architecture",
    "graph_steps",
    "graphs",
    "shared",
    "encoded",
)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph; a size that is free at run time has a name instead: `N`."""

    name: str
    dtype: str
    """NumPy's name of it: `uint8`, `float32`, `int64`."""
    shape: tuple[int | str, ...]

    def to_json(self) -> JsonObject:
        """Return it as plain JSON values."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @staticmethod
    def from_json(value: Json) -> TensorSpec:
        """Read what `to_json` returned."""
        shape = entry(value, "shape", list, name=SPEC)
        only_keys(value, ("name", "dtype", "shape"), name=SPEC)
        name, dtype = (entry(value, key, str, name=SPEC) for key in ("name", "dtype"))
        sizes = [size for size in shape if type(size) is not str]
        are_sizes = all(type(size) is int and 0 < size < _LARGEST for size in sizes)
        if not 0 < len(shape) <= _MOST_AXES or not are_sizes:
            raise ModelFileError(f"`{SPEC}` holds a shape that isn't one")
        if dtype not in _DTYPES:
            raise ModelFileError(f"`{SPEC}` holds the unknown kind of number {dtype[:20]!r}")
        return TensorSpec(name, dtype, tuple(shape))

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join(str(size) for size in self.shape)}]"


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """What a graph takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> JsonObject:
        """Return it as plain JSON values."""
        return {
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
        }

    @staticmethod
    def from_json(value: Json) -> GraphSpec:
        """Read what `to_json` returned."""
        inputs, outputs = (
            tuple(TensorSpec.from_json(item) for item in entry(value, key, list, name=SPEC))
            for key in ("inputs", "outputs")
        )
        only_keys(value, ("inputs", "outputs"), name=SPEC)
        if not inputs or not outputs:
            raise ModelFileError(f"`{SPEC}` holds a graph without inputs or outputs")
        return GraphSpec(inputs, outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """What decides a prediction beside weights and graphs."""

    task: str
    input: JsonObject
    """The host steps, by their kind: `{"kind": "image", …}`."""
    output_kind: OutputKind
    labels: tuple[str, ...]
    inference: Inference
    architecture: JsonObject
    """What builds the network again; `models.rebuild` reads it, and nothing else does."""
    graphs: dict[str, GraphSpec]
    graph_steps: tuple[JsonObject, ...]
    shared: dict[str, str]
    """Names of the network's weights that are another one's: only the other is held."""
    encoded: dict[str, Encoded]
    """The weights that are stored encoded, by their names."""

    @property
    def main(self) -> GraphSpec:
        """The graph that answers."""
        return self.graphs[MAIN]

    def to_json(self) -> JsonObject:
        """Return it as plain JSON values."""
        return {
            "format": FORMAT,
            "task": self.task,
            "input": self.input,
            "outputs": {"kind": self.output_kind, "labels": list(self.labels)},
            "inference": self.inference.to_json(),
            "architecture": self.architecture,
            "graph_steps": list(self.graph_steps),
            "graphs": {name: graph.to_json() for name, graph in self.graphs.items()},
            "shared": self.shared,
            "encoded": {name: how.to_json() for name, how in self.encoded.items()},
        }

    def to_bytes(self) -> bytes:
        """Return it as the file holds it."""
        return json_member(self.to_json(), name=SPEC)

    @staticmethod
    def from_bytes(data: bytes) -> FileSpec:
        """Read what `to_bytes` returned."""
        value = parse_json(data, name=SPEC)
        outputs = entry(value, "outputs", dict, name=SPEC)
        only_keys(value, _KEYS, name=SPEC)
        only_keys(outputs, ("kind", "labels"), name=SPEC)
        labels = entry(outputs, "labels", list, name=SPEC)
        steps = entry(value, "graph_steps", list, name=SPEC)
        graphs = entry(value, "graphs", dict, name=SPEC)
        shared = entry(value, "shared", dict, name=SPEC)
        encoded = entry(value, "encoded", dict, name=SPEC)
        if not all(isinstance(item, str) for item in (*labels, *shared.values())):
            raise ModelFileError(f"`{SPEC}` holds a label or a name that isn't text")
        if not all(isinstance(step, dict) for step in steps):
            raise ModelFileError(f"`{SPEC}` holds steps that aren't any")
        if value.get("format") != FORMAT or MAIN not in graphs:
            raise ModelFileError(f"`{SPEC}` isn't of format {FORMAT}, or has no graph `{MAIN}`")
        output_kind = _output_kind(entry(outputs, "kind", str, name=SPEC))
        return FileSpec(
            task=entry(value, "task", str, name=SPEC),
            input=entry(value, "input", dict, name=SPEC),
            output_kind=output_kind,
            labels=tuple(labels),
            inference=Inference.from_json(
                value.get("inference"), output_kind=output_kind, labels=tuple(labels)
            ),
            architecture=entry(value, "architecture", dict, name=SPEC),
            graphs={name: GraphSpec.from_json(graph) for name, graph in graphs.items()},
            graph_steps=tuple(steps),
            shared=shared,
            encoded={name: Encoded.from_json(how, name=SPEC) for name, how in encoded.items()},
        )


def _output_kind(value: str) -> OutputKind:
    try:
        return OutputKind(value)
    except ValueError as error:
        raise ModelFileError(
            f"outputs of the kind {value!r:.40} aren't known to this version",
            fix="Update modelwright",
        ) from error
