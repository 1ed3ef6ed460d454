"""Model files that declare or give what can't be decoded: `verify` refuses whatever `predict` would
fail on, and `predict` answers or refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelwright import modelfile
from modelwright.errors import ModelFileError, ModelwrightError
from modelwright.ledger import Ledger, exact
from modelwright.modelfile.contents import parse_ledger
from modelwright.modelfile.strict import MOST_VALUES
from tests.attacks.models import (
    KINDS,
    Parts,
    V,
    changed,
    encoding,
    fixed,
    floats,
    golden,
    node,
    sample_for,
    step_inputs,
    stepping,
    tensor,
)
from tests.attacks.running import Outcome, run_command
from tests.modelfile.making import FROZEN, forge

Change = Callable[[Parts], None]


def outcome(path: Path, parts: Parts) -> str | None:
    """Return why `load` or `predict` refuses a file; `None` where it answers."""
    try:
        modelfile.load(path, threads=1).predict(sample_for(parts))
    except ModelwrightError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_each_kind_verifies_and_predicts(kind: str, tmp_path: Path) -> None:
    parts = changed(kind)
    path = parts.write(tmp_path / "m.mw")
    modelfile.verify(path, sandbox=False)
    assert outcome(path, parts) is None


def gives(kind: str, **rows: np.ndarray) -> Change:
    """Let a file give and declare other rows, all else being as it was."""

    def change(parts: Parts) -> None:
        main = parts.graphs["main"]
        outputs = {item["name"]: item for item in main["outputs"]}
        answers = {name: parts.golden[f"outputs.{name}"][0] for name in outputs} | rows
        for name, row in rows.items():
            outputs[name] |= {"dtype": row.dtype.name, "shape": ["N", *row.shape]}
        parts.bytes["main"] = fixed(main["inputs"], **answers)
        parts.golden = golden(main["inputs"], answers)

    return change


def declares(**changes: Any) -> Change:
    return lambda parts: [setattr(parts, name, value) for name, value in changes.items()] and None


def shape_of(graph_name: str, part: str, at: int, *shape: Any) -> Change:
    def change(parts: Parts) -> None:
        parts.graphs[graph_name][part][at]["shape"] = list(shape)

    return change


def labels(*names: str) -> Change:
    def change(parts: Parts) -> None:
        parts.outputs["labels"] = list(names)

    return change


def infers(**changes: Any) -> Change:
    def change(parts: Parts) -> None:
        parts.inference |= changes

    return change


def generates(**changes: Any) -> Change:
    def change(parts: Parts) -> None:
        parts.inference["generate"] |= changes

    return change


def runs(name: str, data: bytes) -> Change:
    def change(parts: Parts) -> None:
        parts.bytes[name] = data

    return change


def steps(value: int) -> Change:
    return gives("recogniser", steps=np.array(value, np.int64))


def given(name: str, row: np.ndarray) -> Change:
    """Let the graph `step` give something else than is declared."""
    made = stepping([node("Identity", ["given"], [name])], given=row)
    return runs("step", made)


def cache(*shape: Any) -> Change:
    def change(parts: Parts) -> None:
        parts.graphs["step"]["inputs"][-1]["shape"] = list(shape)
        parts.graphs["step"]["outputs"][-1]["shape"] = list(shape)

    return change


def frozen_state() -> Change:
    """Let the state never grow."""
    return runs("step", stepping([node("Identity", ["cache"], ["grown"])]))


def doubling_state() -> Change:
    nodes = [
        node("Cast", ["tokens"], ["t"], to=1),
        node("Unsqueeze", ["t", "axes"], ["places"]),
        node("Concat", ["places", "places"], ["pairs"], axis=2),
        node("Concat", ["cache", "cache", "pairs"], ["grown"], axis=4),
    ]
    return runs("step", stepping(nodes))


def other_names() -> Change:
    inputs = step_inputs()
    inputs[1] = tensor("elsewhere", "int64", "N")
    return runs("step", stepping(inputs=inputs))


def transposed() -> Change:
    """Let the network answer rows for columns, where both are as many."""
    rows = np.eye(4, 3, dtype=np.float32)
    return gives("detector", boxes=rows)


REFUSED: dict[str, tuple[str, Change]] = {
    # Ranks and sizes
    "logits of three axes": ("classifier", gives("", logits=np.zeros((4, 4), np.float32))),
    "logits of no axis": ("classifier", gives("", logits=np.array(0, np.float32))),
    "logits fewer than labels": ("classifier", gives("", logits=floats(0, 1))),
    "logits whose number is free": (
        "classifier",
        shape_of("main", "outputs", 0, "N", "K"),
    ),
    "a batch that isn't free": ("classifier", shape_of("main", "outputs", 0, 2, 4)),
    "label logits of three axes": (
        "several_labels",
        gives("", label_logits=np.zeros((3, 3), np.float32)),
    ),
    "more numbers than names": ("numbers", gives("", values=floats(1, 2, 3))),
    "fewer numbers than names": ("numbers", gives("", values=floats(1))),
    "numbers without names": ("numbers", labels()),
    "numbers of one axis": ("numbers", gives("", values=np.array(1, np.float32))),
    # Kinds of number
    "logits of whole numbers": ("classifier", gives("", logits=np.arange(4))),
    "logits of truth": ("classifier", gives("", logits=np.ones(4, bool))),
    "logits of double precision": ("classifier", gives("", logits=np.zeros(4))),
    "numbers of half precision": ("numbers", gives("", values=np.zeros(2, np.float16))),
    "steps of 32 bits": ("recogniser", gives("", steps=np.array(5, np.int32))),
    # Labels
    "labels of one name": ("classifier", labels("a", "a", "a", "a")),
    "no labels": ("classifier", labels()),
    "characters of several letters": ("recogniser", labels("ab", "c", "d")),
    # Boxes
    "boxes of five corners": ("detector", gives("", boxes=np.zeros((3, 5), np.float32))),
    "boxes of one corner": ("detector", gives("", boxes=np.zeros((3, 1), np.float32))),
    "boxes of two axes": ("detector", gives("", boxes=floats(1, 2, 3, 4))),
    "more boxes than scores": ("detector", gives("", boxes=np.zeros((500, 4), np.float32))),
    "fewer boxes than scores": ("detector", gives("", scores=np.zeros((500, 2), np.float32))),
    "boxes that are transposed": ("detector", transposed()),
    "scores of two axes": ("detector", gives("", scores=floats(3, 3))),
    "scores of four axes": ("detector", gives("", scores=np.zeros((3, 3, 2), np.float32))),
    # Transcripts
    "steps beyond the frames": ("recogniser", steps(2**62)),
    "steps below 0": ("recogniser", steps(-3)),
    "steps of two axes": ("recogniser", gives("", steps=np.array([5, 5]))),
    "frames of two axes": ("recogniser", gives("", frames=floats(1, 2, 3, 4))),
    # Tasks and settings
    "another kind of input": ("texts", declares(task="image-classification")),
    "another kind of output": ("classifier", declares(task="object-detection")),
    "a task of texts": ("classifier", declares(task="translation")),
    "numbers as a classification": ("numbers", declares(task="image-classification")),
    "views of texts": ("texts", infers(tta="flip")),
    "views of boxes": ("detector", infers(tta="flip")),
    "a threshold of no label": ("classifier", infers(threshold={"label": "z", "probability": 0.5})),
    "a temperature of numbers": ("numbers", infers(temperature=[1.0])),
    "temperatures fewer than labels": ("several_labels", infers(temperature=[1.0])),
    "a temperature of 0": ("classifier", infers(temperature=[0.0])),
    "generation of labels": ("classifier", infers(generate={"max_new_tokens": 4})),
    "no generation of texts": ("storyteller", infers(generate=None)),
    "endless generation": ("storyteller", generates(max_new_tokens=10**9)),
    "no new tokens": ("storyteller", generates(max_new_tokens=0)),
    "endless beams": ("translator", generates(num_beams=10**6)),
    "no beams": ("translator", generates(num_beams=0)),
    # Steps
    "a step of no batch": ("storyteller", given("next", np.zeros((0, V), np.float32))),
    "a step of another batch": ("storyteller", given("next", np.zeros((5, V), np.float32))),
    "a step of no tokens": ("storyteller", given("next", np.zeros((2, 0), np.float32))),
    "a step of more tokens": ("storyteller", given("next", np.zeros((2, V + 1), np.float32))),
    "a step of three axes": ("storyteller", given("next", np.zeros((2, 1, V), np.float32))),
    "a step of no axis": ("storyteller", given("next", np.zeros((), np.float32))),
    "a step of whole numbers": ("storyteller", given("next", np.zeros((2, V), np.int64))),
    "a step of truth": ("storyteller", given("next", np.zeros((2, V), bool))),
    "a step of double precision": ("storyteller", given("next", np.zeros((2, V)))),
    "a step that isn't a number": ("storyteller", given("next", np.full((2, V), np.nan, "f4"))),
    "a step to infinity": ("storyteller", given("next", np.full((2, V), np.inf, "f4"))),
    "a step to nowhere": ("storyteller", given("next", np.full((2, V), -np.inf, "f4"))),
    "a step of other names": ("storyteller", other_names()),
    "a state that never grows": ("storyteller", frozen_state()),
    "a state that doubles": ("storyteller", doubling_state()),
    "a state of one axis": ("storyteller", cache("N")),
    "a state of many free axes": ("storyteller", cache("N", "L", 2, "H", "P", "W")),
    "a state of gigabytes": ("storyteller", cache("N", 2**20, 2, 2, "P", 2**9)),
    "a state beyond all memory": ("storyteller", cache("N", 2**30, 2**30, 2**30, 2**30, 16)),
    "a state of seventy axes": ("storyteller", cache("N", *[1] * 70)),
    "a declared step of other tokens": ("storyteller", shape_of("step", "outputs", 0, "N", V + 1)),
    "a text of another vocabulary": (
        "storyteller",
        shape_of("main", "outputs", 0, "N", "T", V + 1),
    ),
    "a memory of no axis": ("translator", runs("encode", encoding(memory=np.float32(0)))),
    "a memory of another batch": (
        "translator",
        runs("encode", encoding(memory=np.zeros((9, 1, 1), np.float32))),
    ),
    "a memory of gigabytes": (
        "translator",
        runs("encode", encoding(memory=np.zeros((2, 5000, 1), np.float32))),
    ),
    "a state of another batch": (
        "translator",
        runs("encode", encoding(state=np.zeros((9, 1), np.float32))),
    ),
    "a state of whole numbers": (
        "translator",
        runs("encode", encoding(state=np.zeros((2, 1), np.int64))),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_decoded_is_refused(name: str, tmp_path: Path) -> None:
    kind, change = REFUSED[name]
    parts = changed(kind)
    change(parts)
    path = parts.write(tmp_path / "m.mw")
    with pytest.raises(ModelFileError):
        modelfile.verify(path, sandbox=False)
    assert outcome(path, parts) is not None


@pytest.mark.parametrize("value", [3e38, -3e38, 1e-45])
@pytest.mark.parametrize("kind", ["classifier", "several_labels", "numbers", "detector"])
def test_extreme_outputs_are_answered(kind: str, value: float, tmp_path: Path) -> None:
    parts = changed(kind)
    names = [item["name"] for item in parts.graphs["main"]["outputs"]]
    rows = {name: parts.golden[f"outputs.{name}"][0] for name in names}
    gives("", **{name: np.full_like(row, value) for name, row in rows.items()})(parts)
    path = parts.write(tmp_path / "m.mw")
    modelfile.verify(path, sandbox=False)
    answers = modelfile.load(path, threads=1).predict(sample_for(parts))
    numbers = [item.get("probability", item.get("value")) for item in answers]
    assert all(np.isfinite(number) for number in numbers)


def test_frames_are_no_more_than_samples(tmp_path: Path) -> None:
    """A search over a thousand times the recording's frames would take a thousand times as long."""
    parts = changed("recogniser")
    gives("", frames=np.zeros((9000, 4), np.float32))(parts)
    parts.graphs["main"]["outputs"][0]["shape"] = ["N", "F", 4]
    path = parts.write(tmp_path / "m.mw")
    with pytest.raises(ModelFileError, match="for an input of the length"):
        modelfile.verify(path, sandbox=False)
    assert outcome(path, parts) is not None


VECTORS = {
    "of no axis": np.zeros((), np.float32),
    "of one axis": np.zeros(50, np.float32),
    "of three axes": np.zeros((50, 2, 2), np.float32),
    "of truth": np.ones((50, 4), bool),
    "of whole numbers": np.full((50, 4), 2**64 - 1, np.uint64),
    "for two words": np.ones((2, 4), np.float32),
    "for no word": np.zeros((0, 4), np.float32),
    "of no number": np.zeros((500, 0), np.float32),
    "that aren't numbers": np.full((50, 4), np.nan, np.float32),
    "of one infinite number": np.where(np.arange(50)[:, None] == 9, np.inf, np.ones((50, 4))),
    "beyond single precision": np.full((50, 4), 1e308),
    "of no length": np.zeros((50, 4), np.float16),
}


@pytest.mark.parametrize("name", VECTORS)
def test_odd_vectors_of_words_are_refused(name: str, tmp_path: Path) -> None:
    parts = changed("texts")
    parts.weights = {"embedding.weight": VECTORS[name]}
    path = parts.write(tmp_path / "m.mw")
    modelfile.verify(path, sandbox=False)
    with pytest.raises(ModelwrightError):
        modelfile.neighbours(path, "cat")


def test_large_vectors_of_words_have_neighbours(tmp_path: Path) -> None:
    parts = changed("texts")
    parts.weights = {"embedding.weight": np.full((50, 4), 3e38, np.float32)}
    path = parts.write(tmp_path / "m.mw")
    assert modelfile.neighbours(path, "cat", count=1)[0][1] == pytest.approx(1)


def test_the_lines_of_a_ledger_are_bounded_together() -> None:
    line = b'{"metric":[' + b"1," * (MOST_VALUES // 2) + b"1]}\n"
    with pytest.raises(ModelFileError, match="holds more than"):
        parse_ledger(line * 2)


def test_evidence_of_many_metrics_is_shown_in_bounded_memory(tmp_path: Path) -> None:
    names = ["m" * 400_000, *(f"m{at}" for at in range(5_000))]
    ledger = Ledger([exact(name, 1.0, method="counted") for name in names])
    change = {"ledger.jsonl": ledger.to_bytes(), "artefacts/curve.svg": None}
    forge(tmp_path / "m.mw", FROZEN, change=change)
    ended = run_command(["evaluate", "m.mw"], folder=tmp_path)
    assert ended.outcome == Outcome.ANSWERED, ended
