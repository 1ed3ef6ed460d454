"""Hostile files whose every digest is right: what they hold is refused for what it is."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from modelwright import modelfile
from modelwright.errors import ModelFileError
from modelwright.files import canonical_json
from modelwright.modelfile import tensors
from modelwright.modelfile.container import MOST_SIGNATURE_BYTES
from modelwright.modelfile.graph import external_weights
from tests.modelfile.making import FROZEN, edit_json, forge, members_of

SPEC, WEIGHTS, GRAPH = "model/spec.json", "model/weights.safetensors", "model/graphs/main.onnx"
GOLDEN, LEDGER = "golden.safetensors", "ledger.jsonl"
CURVE = "artefacts/curve.svg"
MEMBERS = members_of(FROZEN)
Archive = zipfile.ZipFile


def refused(path: Path, why: str) -> None:
    """Every way into the file refuses it, or at least `verify` does, with its place and reason."""
    with pytest.raises(ModelFileError, match=why) as caught:
        modelfile.verify(path)
    assert caught.value.where == str(path)
    for enter in (modelfile.load, modelfile.describe, modelfile.read, modelfile.read_weights):
        read_or_refused(enter, path)


def read_or_refused(enter: Callable[[Path], Any], path: Path) -> None:
    """Enter the file; if that is refused, then with its place."""
    error: ModelFileError | None = None
    try:
        enter(path)
    except ModelFileError as caught:
        error = caught
    assert error is None or error.where == str(path)


def repack(path: Path, edit: Callable[[Archive], None], *, drop: tuple[str, ...] = ()) -> Path:
    """Pack the members again with an ordinary tool, as a ZIP that claims to be a model file."""
    with Archive(FROZEN) as source, Archive(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name given twice
        for item in source.infolist():
            if item.filename not in (*drop, "manifest.json"):
                archive.writestr(item.filename, source.read(item))
        edit(archive)
        archive.writestr("manifest.json", source.read("manifest.json"))
        archive.comment = source.comment
    return path


def _symlink(archive: Archive) -> None:
    info = zipfile.ZipInfo("model/graphs/second.onnx")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


ARCHIVES: dict[str, tuple[Callable[[Archive], None], str]] = {
    "nothing, but packed by another tool": (lambda archive: None, "damaged"),
    "an extra member": (lambda archive: archive.writestr("readme.txt", "x"), "don't agree"),
    "a member twice": (lambda archive: archive.writestr(SPEC, "{}"), "there twice"),
    "an absolute name": (lambda archive: archive.writestr("/etc/x", "x"), "leaves the file"),
    "a name upwards": (lambda archive: archive.writestr("model/../../x", "x"), "leaves the file"),
    "a name of Windows": (lambda archive: archive.writestr("a\\..\\b", "x"), "leaves the file"),
    "a drive": (lambda archive: archive.writestr("c:x", "x"), "leaves the file"),
    "a symbolic link": (_symlink, "symbolic link"),
    "a compressed member": (
        lambda archive: archive.writestr("x", bytes(9999), zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_that_are_not_as_we_write_them(tmp_path: Path, kind: str) -> None:
    edit, why = ARCHIVES[kind]
    refused(repack(tmp_path / "m.mw", edit), why)


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_a_missing_member(tmp_path: Path, name: str) -> None:
    refused(repack(tmp_path / "m.mw", lambda archive: None, drop=(name,)), "don't agree")
    refused(forge(tmp_path / "m.mw", FROZEN, change={name: None}), "is missing|isn't there")


def test_an_encrypted_member(tmp_path: Path) -> None:
    path = repack(tmp_path / "m.mw", lambda archive: None)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 8] |= 1
    path.write_bytes(raw)
    refused(path, "encrypted")


def test_a_bomb_is_never_unpacked(tmp_path: Path) -> None:
    """A directory that promises 4 GiB in a file of kilobytes: nothing is unpacked."""
    path = repack(
        tmp_path / "m.mw",
        lambda archive: archive.writestr("bomb", bytes(1 << 24), zipfile.ZIP_DEFLATED, 9),
    )
    refused(path, "is compressed")
    raw = bytearray(FROZEN.read_bytes())
    at = raw.index(b"PK\x01\x02")
    for offset in (20, 24):
        raw[at + offset : at + offset + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(raw)
    refused(path, "beyond the end")


def spec(**changes: Any) -> dict[str, bytes]:
    return {SPEC: edit_json(MEMBERS[SPEC], **changes)}


def image(**changes: Any) -> dict[str, bytes]:
    return spec(input=json.loads(MEMBERS[SPEC])["input"] | changes)


def main_graph(**changes: Any) -> dict[str, bytes]:
    return spec(graphs={"main": json.loads(MEMBERS[SPEC])["graphs"]["main"] | changes})


def header(entries: dict[str, Any]) -> bytes:
    text = canonical_json(entries)
    text += b" " * (-(8 + len(text)) % 64)
    return struct.pack("<Q", len(text)) + text


def evidence(**changes: Any) -> dict[str, bytes]:
    return {LEDGER: edit_json(MEMBERS[LEDGER].splitlines()[0], **changes) + b"\n"}


HEAD = "body.head.weight"


def encoded(data: bytes | None = None, **changes: Any) -> dict[str, bytes]:
    """Return members whose last layer is stored encoded, otherwise than it should be."""
    held = dict(tensors.read_arrays(MEMBERS[WEIGHTS], name="x"))
    if data is not None:
        held[HEAD] = np.frombuffer(data, np.uint8)
    how = json.loads(MEMBERS[SPEC])["encoded"][HEAD] | changes
    return {WEIGHTS: tensors.write_arrays(held, name="x"), **spec(encoded={HEAD: how})}


def zstd(data: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(data, asbytes=True)


def inference(**changes: Any) -> dict[str, bytes | None]:
    """Return a change of what decides an answer beyond the weights."""
    return spec(inference={"tta": "flip", "threshold": None, "generate": None} | changes)


PIXELS = {"name": "pixels", "dtype": "uint8", "shape": ["N", 4, 4, 1]}
CONTENTS: dict[str, tuple[dict[str, bytes | None], str]] = {
    "a key twice": ({SPEC: MEMBERS[SPEC][:-1] + b',"task":"x"}'}, "twice"),
    "blanks in the JSON": ({SPEC: MEMBERS[SPEC].replace(b",", b", ")}, "canonical"),
    "an unknown key": (spec(sampling={"temperature": 2}), "doesn't know"),
    "an unknown key of the outputs": (
        spec(outputs={"kind": "single_label", "labels": ["a", "b", "c", "d"], "threshold": 0.5}),
        "doesn't know",
    ),
    "an unknown key of a tensor": (main_graph(inputs=[PIXELS | {"scale": 2}]), "doesn't know"),
    "spec is a list": ({SPEC: b"[]"}, "right kind"),
    "spec is text": ({SPEC: b'"hello"'}, "right kind"),
    "too deep": ({SPEC: b"[" * 5000 + b"]" * 5000}, "too deep"),
    "another format": (spec(format=1), "format"),
    "no graph": (spec(graphs={}), "main"),
    "labels that are numbers": (
        spec(outputs={"kind": "single_label", "labels": [1, 2, 3, 4]}),
        "text",
    ),
    "fewer labels": (spec(outputs={"kind": "single_label", "labels": ["a", "b"]}), "labels"),
    "no labels": (spec(outputs={"kind": "single_label", "labels": []}), "labels"),
    "unknown outputs": (spec(outputs={"kind": "magic", "labels": []}), "known"),
    "unknown views": (inference(tta="twelve"), "augmentation"),
    "views that are true": (inference(tta=True), "inference"),
    "a threshold of no label": (
        inference(threshold={"label": "z", "probability": 0.5}),
        "threshold",
    ),
    "a threshold above 1": (
        inference(threshold={"label": "a", "probability": 1.5}),
        "threshold",
    ),
    "sampling for a classification": (inference(generate={"temperature": 1.0}), "generate"),
    "an unknown input": (spec(input={"kind": "smell"}), "known"),
    "an input without a kind": (spec(input={}), "known"),
    "tensors that are a number": (spec(input={"kind": "arrays", "tensors": 5}), "declares"),
    "tensors that are text": (spec(input={"kind": "arrays", "tensors": "abc"}), "declares"),
    "an image of no size": (image(height=0), "known"),
    "an image of another size": (image(height=5), "aren't those"),
    "an endless image": (image(height=1 << 40), "known"),
    "an image in five channels": (image(channels=5), "known"),
    "an image with more": (image(gamma=2.2), "known"),
    "a filter of another world": (image(interpolation="magic"), "known"),
    "a tensor of objects": (main_graph(inputs=[PIXELS | {"dtype": "object"}]), "number"),
    "a shape that is none": (main_graph(inputs=[PIXELS | {"shape": [True]}]), "shape"),
    "a shape below 0": (main_graph(inputs=[PIXELS | {"shape": ["N", -1]}]), "shape"),
    "another input's name": (main_graph(inputs=[PIXELS | {"name": "x"}]), "sample of each input"),
    "no inputs": (main_graph(inputs=[]), "inputs"),
    "shared weights that aren't there": (spec(shared={"a": "b"}), "which is needed"),
    "steps that are none": (spec(graph_steps=["scale"]), "steps"),
    "recipe not in UTF-8": ({"recipe.yaml": b"\xff\xfe"}, "UTF-8"),
    "a data card that is a list": ({"data_card.json": b"[]"}, "object"),
    "a lineage of numbers": ({"lineage.json": b"[1]"}, "list of steps"),
    "a torn ledger": ({LEDGER: MEMBERS[LEDGER][:-1]}, "ends within"),
    "a ledger of something else": ({LEDGER: b'{"metric":"accuracy"}\n'}, "evidence"),
    "a ledger of lists": ({LEDGER: b"[1]\n"}, "evidence"),
    **{
        f"evidence whose {key} is {str(value)[:10]}": (evidence(**{key: value}), "evidence")
        for key, value in [
            ("value", "0.9"),
            ("value", None),
            ("value", True),
            ("high", 10**400),
            ("n", "100"),
            ("metric", ["accuracy"]),
            ("slice", {}),
        ]
    },
    "values without end": (
        {"data_card.json": b'{"a":[' + b"[]," * (1 << 21) + b"[]]}"},
        "more than 2,097,152 values",
    ),
    "weights cut short": ({WEIGHTS: MEMBERS[WEIGHTS][:-4]}, "ends within"),
    "weights with a tail": ({WEIGHTS: MEMBERS[WEIGHTS] + bytes(4)}, "no array"),
    "weights with metadata": (
        {WEIGHTS: MEMBERS[WEIGHTS].replace(b"{", b'{"__metadata__":{},', 1)},
        "weights",
    ),
    "weights of an endless header": ({WEIGHTS: b"\xff" * 64}, "impossible header"),
    "an array of metadata": (
        {WEIGHTS: header({"__metadata__": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})},
        "impossible header",
    ),
    "nothing, of endless sizes": (
        {
            WEIGHTS: header(
                {"a": {"dtype": "F32", "shape": [0, *[1 << 40] * 3], "data_offsets": [0, 0]}}
            )
        },
        "impossible shape",
    ),
    "no weights": ({WEIGHTS: b""}, "impossible header"),
    "golden samples with a stranger": (
        {GOLDEN: tensors.write_arrays({"x": np.zeros(2)}, name="x")},
        "neither",
    ),
    "golden samples without answers": (
        {
            GOLDEN: tensors.write_arrays(
                {"inputs.pixels": np.zeros((2, 4, 4, 1), np.uint8)}, name="x"
            )
        },
        "sample of each",
    ),
    "no golden samples": ({GOLDEN: tensors.write_arrays({}, name="x")}, "sample of each"),
    "golden samples of another shape": (
        {
            GOLDEN: tensors.write_arrays(
                {
                    "inputs.pixels": np.zeros((2, 9, 9, 1), np.uint8),
                    "outputs.logits": np.zeros((2, 4), np.float32),
                },
                name="x",
            )
        },
        "golden",
    ),
    "golden answers that are others": (
        {
            GOLDEN: tensors.write_arrays(
                {
                    "inputs.pixels": np.zeros((2, 4, 4, 1), np.uint8),
                    "outputs.logits": np.zeros((2, 4), np.float32),
                },
                name="x",
            )
        },
        "differently",
    ),
    "an artefact that no evidence names": ({"artefacts/x.svg": b"x"}, "no evidence names"),
    "another artefact than is named": ({CURVE: b"<svg/>"}, "isn't the one"),
    "an artefact outside": ({"artefacts/../x": b""}, "no member|leaves"),
    "an artefact in a folder": ({"artefacts/a/b": b""}, "no member"),
    "evidence that names a file of the machine": (
        evidence(artefacts={"../../etc/passwd": "sha256:" + "0" * 64}),
        "isn't there",
    ),
    "evidence that names a member of the model": (
        evidence(artefacts={"spec.json": "sha256:" + "0" * 64}),
        "isn't there",
    ),
    "artefacts that are a list": (evidence(artefacts=["curve.svg"]), "evidence"),
    "artefacts without digests": (evidence(artefacts={"curve.svg": 3}), "evidence"),
    "an encoded weight that isn't declared": (spec(encoded={}), "can't run the graph"),
    "a plain weight declared as encoded": (
        spec(
            encoded={
                HEAD: {"codec": "zstd", "dtype": "F32", "shape": [4, 4]},
                "body.head.bias": {"codec": "zstd", "dtype": "F32", "shape": [4]},
            }
        ),
        "isn't bytes",
    ),
    "an encoded weight that isn't there": (
        spec(encoded={"x": {"codec": "zstd", "dtype": "F32", "shape": [4]}}),
        "isn't bytes",
    ),
    "an encoded weight of another codec": (encoded(codec="gzip"), "isn't known to this version"),
    "an encoded weight of another shape": (encoded(shape=[2, 8]), "can't run the graph"),
    "an encoded weight of another kind": (encoded(dtype="I32"), "can't run the graph"),
    "an encoded weight that claims more": (encoded(shape=[4, 5]), "decodes to less"),
    "an encoded weight that claims less": (encoded(shape=[4, 3]), "decodes to more"),
    "an encoded weight of endless size": (encoded(shape=[1 << 40]), "claim to be"),
    "an encoded weight of no array's size": (encoded(shape=[1 << 50]), "impossible shape"),
    "an encoded weight of negative size": (encoded(shape=[-4, -4]), "impossible shape"),
    "a bomb": (encoded(zstd(bytes(1 << 27))), "decodes to more"),
    "a bomb that says so": (encoded(zstd(bytes(1 << 27)), shape=[1 << 25]), "claim to be"),
    "a frame behind the weight": (
        encoded(zstd(bytes(64)) + zstd(bytes(1 << 20))),
        "decodes to more",
    ),
    "bytes behind the weight": (encoded(zstd(bytes(64)) + b"junk" * 9), "can't be decoded"),
    "an encoded weight cut short": (encoded(zstd(bytes(range(64)))[:-9]), "can't be decoded"),
    "an encoded weight of no bytes": (encoded(b""), "isn't bytes"),
    "a graph that is none": ({GRAPH: b"hello"}, "graph"),
    "an empty graph": ({GRAPH: b""}, "graph"),
    "a member of no known name": ({"model/code.py": b"import os"}, "no member"),
    "a graph of a bad name": ({"model/graphs/../x.onnx": b""}, "no member|leaves"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_members_that_hold_something_else(tmp_path: Path, kind: str) -> None:
    change, why = CONTENTS[kind]
    refused(forge(tmp_path / "m.mw", FROZEN, change=change), why)


def _changed(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: manifest | changes


def _member(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: (
        manifest | {"members": [manifest["members"][0] | changes, *manifest["members"][1:]]}
    )


def _model(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: manifest | {"model": manifest["model"] | changes}


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda manifest: [],
    "nothing": lambda manifest: {},
    "another format": _changed(format=1),
    "an unknown key": _changed(author="me"),
    "no members": _changed(members=[]),
    "members that are none": _changed(members=[1]),
    "another digest of the model": _model(digest="sha256:" + "0" * 64),
    "another size of the model": _model(size_bytes=1),
    "parameters below 0": _model(parameters=-1),
    "parameters that are true": _model(parameters=True),
    "parameters without end": _model(parameters=10**4000),
    "a tolerance of 0": _changed(golden={"tolerance": 0.0}),
    "a tolerance in words": _changed(golden={"tolerance": "much"}),
    "another digest": _member(digest="sha256:" + "0" * 64),
    "a digest in capitals": _member(digest="SHA256:" + "A" * 64),
    "another size": _member(size=654),
    "a size below 0": _member(size=-1),
    "another checksum": _member(crc32="00000001"),
    "a checksum that is a number": _member(crc32=1),
    "a checksum that is too long": _member(crc32="0" * 9),
    "chunks of nothing": _member(chunks=[]),
    "chunks that are too many": _member(chunks=["sha256:" + "0" * 64] * 2),
    "chunks that are numbers": _member(chunks=[1, 2]),
    "a member with more": _member(mode=0o777),
    "another order": lambda manifest: manifest | {"members": manifest["members"][::-1]},
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_manifests_that_lie(tmp_path: Path, kind: str) -> None:
    path = forge(tmp_path / "m.mw", FROZEN, manifest=MANIFESTS[kind])
    refused(path, ".")


def test_a_checksum_that_lies_to_other_tools(tmp_path: Path) -> None:
    """Manifest and records agree on a checksum that the content doesn't have."""
    path = forge(tmp_path / "m.mw", FROZEN, manifest=_member(crc32="00000001"))
    refused(path, "checksum of `model/spec.json`")


def test_signatures_that_the_comment_does_not_name(tmp_path: Path) -> None:
    path = forge(tmp_path / "m.mw", FROZEN, signature=b"mine", claimed=b"mine")
    assert modelfile.verify(path).is_signed
    refused(forge(path, FROZEN, signature=b"mine"), "don't agree on 'signature.json'")
    refused(forge(path, FROZEN, claimed=b"mine"), "`signature.json` is missing")
    refused(forge(path, FROZEN, signature=b"mine", claimed=b"yours"), "has been changed")
    refused(forge(path, FROZEN, signature=b"", claimed=b""), "empty or too long")
    long = bytes(MOST_SIGNATURE_BYTES + 1)
    refused(forge(path, FROZEN, signature=long, claimed=long), "empty or too long")


class Changing(io.BytesIO):
    """A stream that gives other bytes after some reads: a file that is written meanwhile."""

    def __init__(self, reads: int) -> None:
        super().__init__(FROZEN.read_bytes())
        self._left = reads

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._left -= 1
        return data if self._left >= 0 else bytes(byte ^ 1 for byte in data)


@pytest.mark.parametrize("enter", [modelfile.read, modelfile.load, modelfile.verify])
def test_a_stream_that_changes_is_refused_or_never_read_again(enter: Callable[..., Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), np.uint8)
    expected = modelfile.load(FROZEN).outputs(pixels)
    outcomes = set()
    for reads in range(60):
        try:
            found = enter(Changing(reads))
        except ModelFileError:
            outcomes.add("refused")
            continue
        outcomes.add("whole")
        if isinstance(found, modelfile.Model):
            assert np.array_equal(found.outputs(pixels), expected)
    assert outcomes == {"refused", "whole"}


def graph(initializer: TensorProto, nodes: list[onnx.NodeProto] | None = None) -> bytes:
    """Return a graph that adds a weight to nothing much."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 4, 4, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])
    made = helper.make_graph(nodes or [], "g", [pixels], [logits], [initializer])
    return helper.make_model(made).SerializeToString()


def outside(name: str = "w", **entries: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "/etc/passwd"},
        {"location": "../secrets.bin"},
        {"location": "weights.safetensors", "offset": "64"},
        {"location": "weights.safetensors", "length": "4"},
        {"offset": "0"},
        {},
    ],
)
def test_a_graph_never_reads_a_file(entries: dict[str, str]) -> None:
    assert external_weights(graph(outside(location="weights.safetensors"))) == ["w"]
    with pytest.raises(ModelFileError, match="names a file"):
        external_weights(graph(outside(**entries)))


def test_a_graph_never_reads_a_file_from_within_a_node() -> None:
    held = outside(location="weights.safetensors")
    inner = helper.make_graph([], "inner", [], [], [held])
    for node in (
        helper.make_node("Constant", [], ["x"], value=held),
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
    ):
        with pytest.raises(ModelFileError, match="within a"):
            external_weights(graph(TensorProto(name="x", data_type=1, dims=[0]), [node]))


def test_a_graph_hides_nothing_behind_a_long_key() -> None:
    """onnxruntime cuts the key of a field down to 32 bits, and so sees the file that is named."""
    tensor = outside(location="/etc/passwd")
    entry = tensor.external_data[0].SerializeToString()
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    hidden = tensor.SerializeToString() + long_field(13 << 3 | 2, entry) + long_field(14 << 3)
    made = b"\x2a" + bytes([len(hidden)]) + hidden  # an initializer of a graph
    with pytest.raises(ModelFileError, match="isn't an ONNX graph"):
        external_weights(b"\x3a" + bytes([len(made)]) + made)


def long_field(key: int, content: bytes | None = None) -> bytes:
    """Return a field whose key has the bit 32 set; without content, the number 1."""
    long = bytes([(key >> 7 * place & 0x7F) | 0x80 for place in range(4)]) + b"\x10"
    return long + (b"\x01" if content is None else bytes([len(content)]) + content)


def test_a_graph_uses_operators_of_onnx_only() -> None:
    node = helper.make_node("EPContext", [], ["x"], domain="com.microsoft")
    with pytest.raises(ModelFileError, match=r"com\.microsoft"):
        external_weights(graph(TensorProto(name="x", data_type=1, dims=[0]), [node]))


def test_a_graph_nested_without_end() -> None:
    inner = helper.make_graph([], "g", [], [])
    for _ in range(30):
        node = helper.make_node("If", ["x"], ["y"], then_branch=inner)
        inner = helper.make_graph([node], "g", [], [])
    with pytest.raises(ModelFileError, match="too deep"):
        external_weights(helper.make_model(inner).SerializeToString())


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(MEMBERS[GRAPH])), new=st.binary(min_size=1, max_size=8))
def test_any_graph_is_read_or_refused(at: int, new: bytes) -> None:
    data = MEMBERS[GRAPH]
    try:
        external_weights(data[:at] + new + data[at + len(new) :])
    except ModelFileError:
        return


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(at=st.integers(0, len(MEMBERS[GRAPH]) - 1), bit=st.integers(0, 7))
def test_any_changed_graph_with_right_digests_is_run_or_refused(
    tmp_path: Path, at: int, bit: int
) -> None:
    """onnxruntime itself gets a broken graph here: it says so, and we say it in our words."""
    data = bytearray(MEMBERS[GRAPH])
    data[at] ^= 1 << bit
    path = forge(tmp_path / "m.mw", FROZEN, change={GRAPH: bytes(data)})
    read_or_refused(modelfile.verify, path)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    held = dict(tensors.read_arrays(MEMBERS[WEIGHTS], name="x"))
    name = "body.hidden.0.weight"
    held[name] = held[name].T.copy()
    path = forge(tmp_path / "m.mw", FROZEN, change={WEIGHTS: tensors.write_arrays(held, name="x")})
    refused(path, "can't run the graph")


def constant(path: Path, answer: np.ndarray, *, golden: np.ndarray) -> Path:
    """Write a file whose graph answers everything with one value."""
    node = helper.make_node("Identity", ["c"], ["logits"])
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 4, 4, 1])]
    held = numpy_helper.from_array(answer, "c")
    kind = helper.np_dtype_to_tensor_dtype(answer.dtype)
    outputs = [helper.make_tensor_value_info("logits", kind, None)]
    made = helper.make_graph([node], "g", inputs, outputs, [held])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    samples = {"inputs.pixels": np.zeros((1, 4, 4, 1), np.uint8), "outputs.logits": golden}
    change = {
        GRAPH: model.SerializeToString(),
        GOLDEN: tensors.write_arrays(samples, name="x"),
        **inference(tta="none"),
    }
    return forge(path, FROZEN, change=change)


@pytest.mark.parametrize(
    "answer",
    [
        np.zeros((), np.float32),
        np.zeros((1, 5), np.float32),
        np.zeros((1, 4), np.int64),
        np.zeros((1, 4, 1), np.float32),
        np.array([["a"] * 4], object),
        np.full((1, 4), np.inf, np.float32),
    ],
)
def test_a_graph_that_gives_something_else(tmp_path: Path, answer: np.ndarray) -> None:
    golden = np.zeros((1, 4), np.float32)
    refused(constant(tmp_path / "m.mw", answer, golden=golden), "gives|finite")


def test_a_graph_that_answers_some_inputs_only(tmp_path: Path) -> None:
    answer = np.zeros((1, 4), np.float32)
    model = modelfile.load(constant(tmp_path / "m.mw", answer, golden=answer))
    with pytest.raises(ModelFileError, match=r"gives float32 \[1, 4\]"):
        model.predict([np.zeros((4, 4, 1), np.uint8)] * 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.mw")
    refused(tmp_path / "m.mw", "pipe")


def test_a_task_from_the_future_is_described_but_not_predicted(tmp_path: Path) -> None:
    path = forge(tmp_path / "m.mw", FROZEN, change=spec(task="image-poem"))
    assert modelfile.describe(path)["task"] == "image-poem"
    with pytest.raises(ModelFileError, match="image-poem"):
        modelfile.load(path).predict(np.zeros((4, 4, 1), np.uint8))


def test_an_architecture_that_is_none(tmp_path: Path) -> None:
    for architecture in ({}, {"name": "cnn"}, {"name": "../x"}, {"name": 3}):
        path = forge(tmp_path / "m.mw", FROZEN, change=spec(architecture=architecture))
        with pytest.raises(ModelFileError) as caught:
            modelfile.rebuild(path)
        assert caught.value.where == str(path)


def test_a_file_that_grows_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.mw"
    shutil.copy(FROZEN, path)
    with path.open("ab") as stream:
        stream.write(b"\0")
    refused(path, "behind its end")


def test_replaced_weights_change_the_digest_or_are_seen(tmp_path: Path) -> None:
    """Swapping equal-sized weights between two intact files can't keep either digest."""
    other = tmp_path / "other.mw"
    found = modelfile.read(FROZEN)
    name = "body.hidden.0.weight"
    changed = found.weights | {name: found.weights[name] * 2}
    modelfile.write(other, replace(found, weights=changed))
    mixed = tmp_path / "mixed.mw"
    mixed.write_bytes(FROZEN.read_bytes().replace(MEMBERS[WEIGHTS], members_of(other)[WEIGHTS]))
    refused(mixed, "model/weights.safetensors")
    refused(other, "differently")
