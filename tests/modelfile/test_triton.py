"""The export for Triton: `config.pbtxt` says what the graph beside it takes and gives."""

from __future__ import annotations

import importlib
import re

import numpy as np
import onnxruntime
import pytest

from modelwright import modelfile
from modelwright.cli.main import main
from modelwright.errors import RequestError
from modelwright.modelfile.onnx_folder import _triton_config
from modelwright.modelfile.spec import GraphSpec, TensorSpec
from tests.modelfile.making import CNN, candidate, decoder_candidate, text_candidate

TYPES = {"TYPE_UINT8": "tensor(uint8)", "TYPE_INT64": "tensor(int64)", "TYPE_FP32": "tensor(float)"}


def parse(text):
    """Read the text form of Protocol Buffers, as far as it is used here."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[\w.-]+|[{}\[\]:,]', text)
    assert "".join(tokens) == re.sub(r"\s", "", text)

    def value():
        token = tokens.pop(0)
        if token == "[":
            items = []
            while tokens[0] != "]":
                items.append(value())
                if tokens[0] == ",":
                    tokens.pop(0)
            tokens.pop(0)
            return items
        if token[0] == '"':
            return token[1:-1]
        return int(token) if re.fullmatch(r"-?\d+", token) else token

    def message():
        found = {}
        while tokens and tokens[0] != "}":
            name = tokens.pop(0)
            if tokens.pop(0) == ":":
                item = value()
            else:
                item = message()
                assert tokens.pop(0) == "}"
            found.setdefault(name, []).append(item)
        return found

    found = message()
    assert not tokens
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made = {
        "images": candidate(CNN, size=8, channels=3),
        "texts": text_candidate(),
        "writer": decoder_candidate(tied=True),
    }
    for name, each in made.items():
        (folder / name).mkdir()
        modelfile.write_model(folder / name / "model.mw", each, recipe="version: 1\n")
    return {name: folder / name / "model.mw" for name in made}


@pytest.mark.parametrize("name", ["images", "texts"])
def test_the_configuration_says_what_the_graph_takes_and_gives(files, name, tmp_path, capsys):
    assert main(["export", str(files[name]), str(tmp_path / "out"), "--to", "triton"]) == 0
    folder = tmp_path / "out" / name
    listed = set(capsys.readouterr().out.split())
    assert listed == {str(path) for path in folder.rglob("*") if path.is_file()}
    config = parse((folder / "config.pbtxt").read_text())
    assert (config["name"], config["backend"]) == ([name], ["onnxruntime"])
    assert config["max_batch_size"] == [32]
    assert config["dynamic_batching"] == [{}]
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
    for side, tensors in (("input", session.get_inputs()), ("output", session.get_outputs())):
        assert [item["name"] for item in config[side]] == [[tensor.name] for tensor in tensors]
        for item, tensor in zip(config[side], tensors, strict=True):
            assert TYPES[item["data_type"][0]] == tensor.type
            sizes = [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]
            assert item["dims"] == [sizes or [1]]
            assert item.get("reshape", [{"shape": [[]]}] * (not sizes)) == [{"shape": [[]]}] * (
                not sizes
            )


def test_a_batch_is_answered_as_the_model_file_answers(files, tmp_path):
    modelfile.export_triton(files["images"], tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "images" / "1" / "model.onnx")
    model = modelfile.load(files["images"], threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    (found,) = session.run(None, {"pixels": pixels})
    assert np.abs(found - model.outputs(pixels)).max() <= 1e-5


def test_triton_itself_reads_the_configuration(files, tmp_path):
    pytest.importorskip("tritonclient")
    text_format = importlib.import_module("google.protobuf.text_format")
    messages = importlib.import_module("tritonclient.grpc.model_config_pb2")
    modelfile.export_triton(files["texts"], tmp_path / "out")
    text = (tmp_path / "out" / "texts" / "config.pbtxt").read_text()
    config = text_format.Parse(text, messages.ModelConfig())
    assert [list(item.dims) for item in config.input] == [[-1], [1]]
    assert config.input[1].HasField("reshape")
    assert config.HasField("dynamic_batching")


def test_the_readme_says_where_the_graph_is(files, tmp_path):
    modelfile.export_triton(files["texts"], tmp_path / "out")
    text = (tmp_path / "out" / "texts" / "README.md").read_text(encoding="utf-8")
    assert "--to triton" in text
    assert 'InferenceSession("1/model.onnx")' in text
    assert "`config.pbtxt`" in text
    modelfile.export_onnx(files["texts"], tmp_path / "plain")
    text = (tmp_path / "plain" / "README.md").read_text(encoding="utf-8")
    assert 'InferenceSession("model.onnx")' in text
    assert "config.pbtxt" not in text


def test_a_model_of_several_graphs_is_refused_with_the_reason(files, tmp_path, capsys):
    assert main(["export", str(files["writer"]), str(tmp_path / "out"), "--to", "triton"]) == 2
    assert "2 graphs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_stays(files, tmp_path):
    with pytest.raises(RequestError, match="already"):
        modelfile.export_triton(files["texts"], tmp_path)


@pytest.mark.parametrize("name", ['a"b\n}', "..", "...", "狗", "-x", "a b"])
def test_a_hostile_name_stays_in_the_folder(files, tmp_path, name):
    path = tmp_path / f"{name}.mw"
    path.write_bytes(files["texts"].read_bytes())
    written = modelfile.export_triton(path, tmp_path / "out")
    (home,) = (tmp_path / "out").iterdir()
    assert re.fullmatch(r"\w[\w.-]*", home.name, re.ASCII)
    assert parse((home / "config.pbtxt").read_text())["name"] == [home.name]
    assert all(item.is_relative_to(home) for item in written)


def graph(*shapes, dtype="float32"):
    tensors = [TensorSpec(f"t{place}", dtype, shape) for place, shape in enumerate(shapes)]
    return GraphSpec(tuple(tensors[:1]), tuple(tensors[1:]))


@pytest.mark.parametrize(
    ("found", "size", "dims"),
    [
        (graph(("N", 3), ("N",)), 32, [[3], [1]]),
        (graph((1, 3), (1, 2)), 0, [[1, 3], [1, 2]]),
        (graph(("N", 3), (7, 2)), 0, [[-1, 3], [7, 2]]),
        (graph(("N", 3), ("M", 2)), 0, [[-1, 3], [-1, 2]]),
        (graph(("N", 3), ()), 0, [[-1, 3], [1]]),
    ],
)
def test_requests_are_put_together_only_where_the_first_axis_is_that_of_the_samples(
    found, size, dims
):
    config = parse(_triton_config("a", found))
    assert config["max_batch_size"] == [size]
    assert ("dynamic_batching" in config) == bool(size)
    assert [item["dims"][0] for item in (*config["input"], *config["output"])] == dims


def test_kinds_of_number_are_named_as_triton_names_them():
    for dtype, name in (("bool", "BOOL"), ("float16", "FP16"), ("int8", "INT8")):
        config = parse(_triton_config("a", graph(("N",), ("N",), dtype=dtype)))
        assert config["input"][0]["data_type"] == [f"TYPE_{name}"]
