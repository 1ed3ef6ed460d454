"""The profile of a machine: how long it takes for a few kinds of work, to tell times on it.

A profile is measured where a model will serve. Where one is chosen, the same is measured, and the
time of each kind of work in a model is scaled by the ratio. Caches and memory that differ are
beyond that, so a time that is told so isn't taken for measured.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from modelwright.errors import DataError, ModelFileError, require
from modelwright.evaluation import Place
from modelwright.files import JsonObject, write_json
from modelwright.ledger import Evidence
from modelwright.modelfile.kernels import KINDS, OTHER
from modelwright.modelfile.session import Session
from modelwright.recipe.targets import METRICS
from modelwright.run import Observe, Progress, has_vnni, silent

FORMAT = 1
CALL = "call"
"""The reference whose time is nearly all that of calling the runtime."""
REFERENCES = (CALL, *KINDS, OTHER)
_SECONDS = 0.4
"""About how long each reference is timed."""
_LARGEST = 1 << 16
"""A profile has no more bytes."""


@dataclass(frozen=True, slots=True)
class HostProfile:
    """What a machine takes for each reference."""

    hardware: str
    runtime: str
    threads: int
    milliseconds: Mapping[str, float]
    """The median time of each reference."""
    has_vnni: bool
    """Whether it adds products of 8-bit integers without overflow."""

    @property
    def place(self) -> Place:
        """The machine, as evidence names it."""
        return Place(self.hardware, self.runtime, self.threads)

    def to_json(self) -> JsonObject:
        """Return the profile as plain JSON values."""
        return {"format": FORMAT, **asdict(self), "milliseconds": dict(self.milliseconds)}

    def write(self, path: Path) -> None:
        """Write the profile as JSON, atomically."""
        write_json(path, self.to_json())


def measure_profile(threads: int, *, observe: Observe = silent) -> HostProfile:
    """Measure this machine.

    Raises:
        MissingExtraError: the library `onnx` isn't installed.
    """
    times = {}
    for number, name in enumerate(REFERENCES):
        observe(Progress("profile", number, len(REFERENCES)))
        times[name] = round(_median_ms(name, threads), 6)
    observe(Progress("profile", len(REFERENCES), len(REFERENCES)))
    place = Place.here(threads)
    return HostProfile(place.hardware, place.runtime, threads, times, has_vnni())


def read_profile(path: Path) -> HostProfile:
    """Read what `HostProfile.write` wrote.

    Raises:
        DataError: it isn't there, or isn't a profile.
    """
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            raise ValueError("it isn't a small file")
        return profile_from(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            "this isn't the profile of a machine",
            where=str(path),
            why=str(error)[:1].upper() + str(error)[1:200],
            fix="Make one on the machine that will serve: modelwright profile --save HOST.json",
        ) from error


def profile_from(value: object) -> HostProfile:
    """Return the profile that JSON values stand for.

    Raises:
        ValueError: they stand for none.
    """
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f"it has no `format` {FORMAT}")
    times, words = value.get("milliseconds"), [value.get(key) for key in ("hardware", "runtime")]
    threads = value.get("threads")
    if not all(isinstance(word, str) and len(word) <= 300 for word in words):
        raise ValueError("`hardware` or `runtime` isn't a text")
    if type(threads) is not int or not 1 <= threads <= 4096:
        raise ValueError("`threads` isn't a number of threads")
    if not isinstance(times, dict) or set(times) != set(REFERENCES):
        raise ValueError(f"`milliseconds` doesn't hold just {', '.join(REFERENCES)}")
    if not all(type(item) in (int, float) and 0 < item < 1e6 for item in times.values()):
        raise ValueError("a time isn't a number above 0")
    times, vnni = {name: float(times[name]) for name in REFERENCES}, value.get("has_vnni")
    if type(vnni) is not bool:
        raise ValueError("`has_vnni` is neither true nor false")
    return HostProfile(str(words[0]), str(words[1]), threads, times, vnni)


def predicted(
    evidence: Sequence[Evidence],
    seconds: Mapping[str, float],
    host: HostProfile,
    here: HostProfile,
) -> list[Evidence]:
    """Return what times that were measured here would be on a host.

    Args:
        evidence: times of one model, measured here.
        seconds: of one answer of it here, by kind of work (`modelfile.kind_seconds`).
        host: the machine that will serve.
        here: this one, with the threads that the times were measured with.
    """
    ratios = {name: host.milliseconds[name] / here.milliseconds[name] for name in REFERENCES}
    single = next((item for item in evidence if item.metric == "latency_p50_ms"), None)
    # What isn't in an operator is spent in calling, and in host steps.
    whole = max(sum(seconds.values()), single.value / 1e3 if single is not None else 0.0)
    rest = whole - sum(seconds.values())
    ratio = (sum(ratios[kind] * spent for kind, spent in seconds.items()) + ratios[CALL] * rest) / (
        max(whole, 1e-12)
    )
    found = []
    for record in evidence:
        factor = 1 / ratio if METRICS[record.metric].higher_is_better else ratio
        found.append(
            replace(
                record,
                value=record.value * factor,
                low=record.low * factor,
                high=record.high * factor,
                basis="derived",
                method=f"{record.method}; measured on {here.hardware}, times {factor:.3g} by the "
                "profiles of both machines",
                **asdict(host.place),
            )
        )
    return found


def _median_ms(name: str, threads: int) -> float:
    """Return the median time of a reference."""
    session, inputs = _reference(name, threads)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 20 or time.perf_counter() - begun < _SECONDS:
        before = time.perf_counter()
        session.run(inputs)
        times.append(time.perf_counter() - before)
    return 1e3 * statistics.median(times[5:])


def _reference(name: str, threads: int) -> tuple[Session, dict[str, np.ndarray]]:
    """Return a small graph of one kind of work, as onnxruntime runs it, and its input."""
    onnx = require("onnx", extra="train", purpose="to measure this machine")
    helper, kinds = onnx.helper, onnx.TensorProto
    draw = np.random.default_rng(0)
    shape: tuple[int, ...]
    nodes: list[object] = []
    weights: list[object] = []

    def constant(label: str, array: object) -> str:
        weights.append(onnx.numpy_helper.from_array(np.asarray(array), label))
        return label

    def rounded(source: str, label: str) -> str:
        """Add the rounding of a value to 8 bits, as our int8 networks have it."""
        scale, zero = constant(f"{label}_s", np.float32(0.05)), constant(f"{label}_z", np.uint8(0))
        nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [f"{label}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{label}_q", scale, zero], [label]))
        return label

    def weight(label: str, *sizes: int) -> str:
        if not name.endswith("int8"):
            return constant(label, draw.normal(0, 0.05, sizes).astype(np.float32))
        whole = constant(f"{label}_w", draw.integers(-127, 128, sizes).astype(np.int8))
        scale, zero = constant(f"{label}_s", np.float32(0.001)), constant(f"{label}_z", np.int8(0))
        nodes.append(helper.make_node("DequantizeLinear", [whole, scale, zero], [label]))
        return label

    is_int8, last = name.endswith("int8"), "x"
    if name.startswith("convolution"):
        shape = (1, 64, 28, 28)
        for at in range(3):
            source = rounded(last, f"a{at}") if is_int8 else last
            inputs = [source, weight(f"w{at}", 64, 64, 3, 3)]
            nodes.append(helper.make_node("Conv", inputs, [f"c{at}"], pads=[1, 1, 1, 1]))
            nodes.append(helper.make_node("Relu", [f"c{at}"], [f"r{at}"]))
            last = f"r{at}"
    elif name.startswith("product"):
        shape = (64, 512)
        for at in range(3):
            source = rounded(last, f"a{at}") if is_int8 else last
            inputs = [source, weight(f"w{at}", 512, 512)]
            nodes.append(helper.make_node("MatMul", inputs, [f"c{at}"]))
            nodes.append(helper.make_node("Relu", [f"c{at}"], [f"r{at}"]))
            last = f"r{at}"
    elif name == OTHER:
        shape = (64, 4096)
        for at, operator in enumerate(("Sigmoid", "Tanh", "Sigmoid")):
            nodes.append(helper.make_node(operator, [last], [f"c{at}"]))
            last = f"c{at}"
    else:
        shape = (1, 4)
        nodes.append(helper.make_node("Neg", [last], ["c"]))
        last = "c"
    if is_int8:
        last = rounded(last, "end")
    graph = helper.make_graph(
        nodes,
        name.replace(" ", "_"),
        [helper.make_tensor_value_info("x", kinds.FLOAT, shape)],
        [helper.make_tensor_value_info(last, kinds.FLOAT, None)],
        weights,
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    try:
        session = Session(model.SerializeToString(), {}, threads=threads)
    except ModelFileError as error:  # A build of onnxruntime without the kernel.
        error.fix = "Update onnxruntime"
        raise
    return session, {"x": draw.normal(0, 1, shape).astype(np.float32)}
