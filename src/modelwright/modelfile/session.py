"""A graph with its weights in onnxruntime: the only module that talks to it.

The weights are handed to onnxruntime by name, so a model file holds them once.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelwright.arrays import Array
from modelwright.errors import ModelFileError, require
from modelwright.modelfile.contents import pick_weights
from modelwright.modelfile.tensors import BF16, Arrays
from modelwright.run import usable_cores

_ONNX_BF16 = 16
"""`onnx.TensorProto.BFLOAT16`."""
_OF_PARENTS: list[Any] = []
"""Sessions that were made before a fork. Their threads stayed in the parent, so they can't run
here; nor can they be freed, which would wait for the threads."""
_IN_FP32 = ("session.qdq_matmulnbits_accuracy_level", "1")
"""Products with dequantized weights stay in fp32; by default onnxruntime rounds what they are
multiplied with to int8 as well, which the network doesn't."""
_AS_ONNX = ("session.load_model_format", "ONNX")
"""What the bytes are taken for; by default onnxruntime looks at some of them."""


class Session:
    """A graph with its weights in onnxruntime.

    Threads may share it. After a fork the child makes a session of its own when it first runs it.

    Args:
        graph: an ONNX graph that names its weights.
        weights: the weights by name; there may be more.
        threads: the number of processor threads; by default all that this process may use.

    Raises:
        ModelFileError: this onnxruntime can't run the graph.
    """

    def __init__(self, graph: bytes, weights: Arrays, *, threads: int | None = None) -> None:
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        own = (item for item in vars(state).values() if isinstance(item, type))
        self._errors: tuple[type[Exception], ...] = (
            *(kind for kind in own if issubclass(kind, Exception)),
            RuntimeError,
            ValueError,
        )
        self.threads = threads or usable_cores()
        self._graph = graph
        self._weights = pick_weights(graph, weights)
        self._session = self._open()
        self._process = os.getpid()

    def _open(self, optimized: Path | None = None, profile: Path | None = None) -> Any:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised, not printed
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry(*_IN_FP32)
        options.add_session_config_entry(*_AS_ONNX)
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        chosen = self._weights
        # What has no counterpart in NumPy is only looked at by onnxruntime, and stays here.
        self._held = {
            name: np.array(array["bfloat16"])
            for name, array in chosen.items()
            if array.dtype == BF16
        }
        values = [
            onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(self._held[name], _ONNX_BF16)
            if name in self._held
            else onnxruntime.OrtValue.ortvalue_from_numpy(array)
            for name, array in chosen.items()
        ]
        try:
            if chosen:
                options.add_external_initializers(list(chosen), values)
            return onnxruntime.InferenceSession(
                self._graph, options, providers=["CPUExecutionProvider"]
            )
        except self._errors as error:
            raise ModelFileError(
                f"onnxruntime {onnxruntime.__version__} can't run the graph",
                why=str(error).splitlines()[0][:200],
                fix="Run `modelwright verify` on the file; if it is intact, update onnxruntime",
            ) from error

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the graph's outputs.

        Raises:
            ModelFileError: it fails, or is given no samples.
        """
        for name, array in inputs.items():
            if array.dtype.kind in "iu" and not array.size:  # `check_operators` relies on it.
                raise ModelFileError(f"the graph is given nothing as `{name}`")
        if self._process != os.getpid():
            _OF_PARENTS.append(self._session)
            self._session, self._process = self._open(), os.getpid()
        try:
            outputs: list[Array] = self._session.run(None, dict(inputs))
        except self._errors as error:
            raise ModelFileError(
                f"onnxruntime gave up on {_shapes(inputs)}", why=str(error).splitlines()[0][:200]
            ) from error
        return outputs

    def operators(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return what onnxruntime makes of the graph on this machine: operators, and their inputs.

        Raises:
            MissingExtraError: the library `onnx` isn't installed.
        """
        require("onnx", extra="train", purpose="to look into a graph")
        import onnx

        with tempfile.TemporaryDirectory(prefix="modelwright-graph-") as folder:
            path = Path(folder) / "graph.onnx"
            self._open(path)
            nodes = onnx.load(path, load_external_data=False).graph.node
            return [(node.op_type, tuple(node.input)) for node in nodes]

    def operator_seconds(self, inputs: Mapping[str, Array], *, runs: int = 20) -> dict[str, float]:
        """Return the seconds that each operator takes in one run, on average, by its name."""
        with tempfile.TemporaryDirectory(prefix="modelwright-profile-") as folder:
            session = self._open(profile=Path(folder) / "run")
            for _ in range(runs):
                session.run(None, dict(inputs))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        found: dict[str, float] = {}
        for event in events:
            operator = event.get("args", {}).get("op_name")
            if event.get("cat") == "Node" and operator and event["name"].endswith("kernel_time"):
                found[operator] = found.get(operator, 0.0) + event["dur"] / 1e6 / runs
        return found

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of the inputs and of the outputs."""
        return (
            [node.name for node in self._session.get_inputs()],
            [node.name for node in self._session.get_outputs()],
        )


def _shapes(inputs: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
