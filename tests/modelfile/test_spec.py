"""`model/spec.json`: what decides a prediction beside weights and graphs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelwright.errors import ModelFileError
from modelwright.files import canonical_json
from modelwright.kinds import OutputKind
from modelwright.modelfile.encoding import Encoded
from modelwright.modelfile.spec import FileSpec, GraphSpec, TensorSpec
from modelwright.tasks.inference import Inference, Threshold
from tests.modelfile.making import FROZEN, members_of

PIXELS = TensorSpec("pixels", "uint8", ("N", 4, 4, 1))
LOGITS = TensorSpec("logits", "float32", ("N", 2))
SPEC = FileSpec(
    task="image-classification",
    input={"kind": "image"},
    output_kind=OutputKind.SINGLE_LABEL,
    labels=("a", "b"),
    inference=Inference("flip_shift", Threshold("b", 0.25), (1.5,)),
    architecture={"name": "mlp"},
    graphs={"main": GraphSpec((PIXELS,), (LOGITS,))},
    graph_steps=({"step": "scale", "by": 255.0},),
    shared={"back.weight": "table.weight"},
    encoded={"table.weight": Encoded("zstd", "I8", (3, 4))},
)


INFERENCE = {"tta": "none", "threshold": None, "temperature": [], "generate": None}


def test_it_round_trips() -> None:
    assert FileSpec.from_bytes(SPEC.to_bytes()) == SPEC
    data = members_of(FROZEN)["model/spec.json"]
    assert FileSpec.from_bytes(data).to_bytes() == data
    assert SPEC.main.inputs == (PIXELS,)
    assert str(PIXELS) == "pixels: uint8 [N, 4, 4, 1]"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 1}, "isn't of format"),
        ({"graphs": {}}, "no graph `main`"),
        ({"encoded": []}, "no `encoded`"),
        ({"encoded": {"w": {"codec": "zstd", "dtype": "F32"}}}, "no `shape`"),
        ({"encoded": {"w": {"codec": 3, "dtype": "F32", "shape": [1]}}}, "no `codec`"),
        ({"encoded": {"w": {"codec": "x", "dtype": "F9", "shape": [1]}}}, "unknown kind"),
        (
            {"encoded": {"w": {"codec": "x", "dtype": "F32", "shape": [1], "level": 3}}},
            "doesn't know",
        ),
        ({"shared": {"a": 1}}, "isn't text"),
        ({"inference": None}, "inference"),
        ({"inference": {"tta": "none", "threshold": None}}, "inference"),
        (
            {
                "inference": {
                    "tta": "none",
                    "threshold": {"label": "z", "probability": 0.5},
                    "temperature": [],
                    "generate": None,
                }
            },
            "threshold",
        ),
        ({"inference": {**INFERENCE, "temperature": [1.0, 2.0]}}, "temperature"),
        ({"inference": {**INFERENCE, "temperature": [0.0]}}, "temperature"),
        ({"inference": {**INFERENCE, "temperature": [1]}}, "temperature"),
        ({"inference": {**INFERENCE, "temperature": 1.0}}, "temperature"),
        ({"outputs": {"kind": "smells", "labels": []}}, "aren't known to this version"),
        ({"more": 1}, "doesn't know"),
    ],
)
def test_what_it_may_not_hold(change: dict[str, Any], why: str) -> None:
    value = json.loads(SPEC.to_bytes()) | change
    with pytest.raises(ModelFileError, match=why):
        FileSpec.from_bytes(canonical_json(value))


@pytest.mark.parametrize("dtype", ["object", "void16", "bfloat16", "complex64", "str"])
def test_a_graph_takes_kinds_of_number_that_numpy_has(dtype: str) -> None:
    with pytest.raises(ModelFileError, match="unknown kind of number"):
        TensorSpec.from_json({"name": "x", "dtype": dtype, "shape": ["N"]})
