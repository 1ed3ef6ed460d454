"""Hostile files whose every digest is right: members, manifests and signatures that lie."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

from modelwright import modelfile
from modelwright.files import canonical_json
from modelwright.modelfile import tensors
from modelwright.modelfile.container import MOST_SIGNATURE_BYTES
from tests.modelfile.attacking import (
    CURVE,
    GOLDEN,
    GRAPH,
    LEDGER,
    MEMBERS,
    SPEC,
    WEIGHTS,
    inference,
    refused,
    spec,
)
from tests.modelfile.making import FROZEN, edit_json, forge


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
