"""Graphs that would end, stall or fill their user's process do so to another one."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from modelwright import modelfile
from modelwright.cli import main
from modelwright.errors import ModelFileError
from modelwright.modelfile import sandbox, verifying
from modelwright.modelfile.sandbox import SandboxedSession
from modelwright.modelfile.session import Session
from tests.modelfile.making import FROZEN

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), dtype=np.uint8)


def graph(nodes, constants=(), *, inputs=(("x", TensorProto.INT32),), output=TensorProto.INT32):
    """Return a graph from `x` `[N]` to `y`."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, ["N"]) for name, kind in inputs],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model.SerializeToString()


def test_a_model_answers_as_outside():
    plain, boxed = modelfile.load(FROZEN), modelfile.load(FROZEN, sandbox=True)
    # Another process is started only where it is asked for.
    assert [type(each._session) for each in (plain, boxed)] == [Session, SandboxedSession]
    np.testing.assert_array_equal(boxed.outputs(PIXELS), plain.outputs(PIXELS))
    assert boxed.predict(PIXELS) == plain.predict(PIXELS)
    assert boxed.digest == plain.digest


def test_weights_of_16_bits_arrive():
    weights = {"w": np.arange(4, dtype=np.float16), "unused": np.zeros(3)}
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT16, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.safetensors")
    made = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [4])],
        [tensor],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    given = {"x": np.ones(4, np.float16)}
    found = SandboxedSession(model.SerializeToString(), weights, threads=1)
    assert found.names() == (["x"], ["y"])
    (expected,) = Session(model.SerializeToString(), weights, threads=1).run(given)
    np.testing.assert_array_equal(found.run(given)[0], expected)


def test_a_process_that_ends_is_a_sentence():
    session = SandboxedSession(graph([helper.make_node("Neg", ["x"], ["y"])]), {}, threads=1)
    session._child.kill()
    with pytest.raises(ModelFileError, match=r"ended the process that ran it \(SIGKILL\)"):
        session.run({"x": np.array([6], np.int32)})


def filled(shape, name):
    """Return operations that give a tensor of ones of a shape, and its constant."""
    node = helper.make_node("Expand", [f"{name}.one", f"{name}.shape"], [name])
    return node, [(f"{name}.one", np.float32(1)), (f"{name}.shape", np.array(shape))]


def test_work_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr(sandbox, "SECONDS", 3.0)
    image, constants = filled([1, 1, 3000, 3000], "image")
    kernel, more = filled([1, 1, 1500, 1500], "kernel")
    nodes = [image, kernel, helper.make_node("Conv", ["image", "kernel"], ["y"])]
    with pytest.raises(ModelFileError, match="took longer than 3 s while"):
        SandboxedSession(
            graph(nodes, [*constants, *more], output=TensorProto.FLOAT), {}, threads=1
        ).run({"x": np.ones(1, np.int32)})


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't limit the address space")
def test_memory_without_end_is_refused():
    fill, constants = filled([1 << 33], "y")
    began = time.monotonic()
    with pytest.raises(ModelFileError, match=r"gave up|ended the process"):
        SandboxedSession(graph([fill], constants, output=TensorProto.FLOAT), {}, threads=1).run(
            {"x": np.ones(1, np.int32)}
        )
    assert time.monotonic() - began < 60


def test_what_the_graph_doesnt_take_is_said_and_the_session_goes_on():
    session = SandboxedSession(graph([helper.make_node("Neg", ["x"], ["y"])]), {}, threads=1)
    with pytest.raises(ModelFileError, match="gave up"):
        session.run({"x": np.ones(2, np.float32)})
    assert session.run({"x": np.ones(2, np.int32)})[0].tolist() == [-1, -1]


def test_verify_runs_graphs_in_the_sandbox(monkeypatch):
    opened = []

    class Watched(SandboxedSession):
        def _open(self):
            opened.append(self)
            return super()._open()

    monkeypatch.setattr(verifying, "SandboxedSession", Watched)
    inside = modelfile.verify(FROZEN)
    assert len(opened) == 1
    assert modelfile.verify(FROZEN, sandbox=False) == inside
    assert len(opened) == 1


def test_what_interrupts_the_parent_does_not_reach_the_sandbox():
    # Ctrl-C goes to the terminal's whole group of processes.
    boxed = SandboxedSession(graph([helper.make_node("Neg", ["x"], ["y"])]), {}, threads=1)
    assert os.getpgid(boxed._child.pid) != os.getpgid(0)
    boxed.close()


def test_threads_share_a_sandbox():
    boxed = modelfile.load(FROZEN, sandbox=True)
    expected = boxed.outputs(PIXELS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(boxed.outputs, [PIXELS] * 12):
            np.testing.assert_array_equal(found, expected)


def test_the_command_line_predicts_in_a_sandbox(tmp_path, capsys, monkeypatch):
    opened, start = [], SandboxedSession._open
    monkeypatch.setattr(SandboxedSession, "_open", lambda self: opened.append(self) or start(self))
    Image.fromarray(PIXELS[0, :, :, 0]).save(tmp_path / "x.png")
    assert main(["predict", str(FROZEN), str(tmp_path / "x.png"), "--json", "--quiet"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert opened == []
    line = ["predict", str(FROZEN), str(tmp_path / "x.png"), "--sandbox", "--json", "--quiet"]
    assert main(line) == 0
    assert json.loads(capsys.readouterr().out) == plain
    assert len(opened) == 1
