"""Kinds of output: what a graph may give, and how far two answers are apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelwright.errors import ModelFileError
from modelwright.kinds import OutputKind
from modelwright.modelfile import outputs
from modelwright.modelfile.outputs import (
    FORMS,
    OutputForm,
    check_lengths,
    check_outputs,
    num_answers,
)
from modelwright.modelfile.spec import TensorSpec


def test_differences() -> None:
    logits = np.array([[0.0, np.log(3.0)]])  # probabilities 1/4 and 3/4
    moved = np.array([[0.0, 0.0]])
    assert outputs.difference("logits", logits, logits) == 0.0
    assert outputs.difference("logits", moved, logits) == pytest.approx(np.log(3) / (1 + np.log(3)))
    # A shift of all logits changes no probability, yet is no answer of the same network.
    assert outputs.difference("logits", logits + 5, logits) > 1
    assert outputs.difference("values", np.array([[3.0]]), np.array([[1.0]])) == pytest.approx(1.0)
    assert outputs.difference("values", np.array([np.nan]), np.array([1.0])) == np.inf
    assert outputs.difference("values", np.zeros((2, 1)), np.zeros((1, 2))) == np.inf


def test_a_probability_counts_where_logits_hardly_differ() -> None:
    expected = np.array([[0.0, 0.0, 40.0]])
    near = expected + np.array([0.0, 0.0, 0.01])
    assert outputs.difference("values", near, expected) == pytest.approx(0.01 / 41)
    pair, moved = np.array([[0.0, 0.1]]), np.array([[0.0, 0.2]])
    share = outputs.difference("values", moved, pair)
    assert outputs.difference("logits", moved, pair) == pytest.approx(share)
    each = outputs.difference("label_logits", np.array([[0.02]]), np.array([[0.0]]))
    assert each == pytest.approx(0.02)


def test_forms_are_declared_with_their_free_sizes() -> None:
    form = OutputForm("next", {1: "T"})
    assert form.tensor((3, 7, 50)) == TensorSpec("next", "float32", ("N", "T", 50))
    assert [form.name for form in FORMS[OutputKind.BOXES]] == ["scores", "boxes"]
    assert set(FORMS) == set(OutputKind)


DECLARED: dict[OutputKind, list[tuple[int | str, ...]]] = {
    OutputKind.SINGLE_LABEL: [("N", 5)],
    OutputKind.MULTI_LABEL: [("N", 5)],
    OutputKind.REGRESSION: [("N", 2)],
    OutputKind.CTC: [("N", "F", 5), ("N",)],
    OutputKind.SEQ2SEQ: [("N", "S", 50)],
    OutputKind.CAUSAL_LM: [("N", "T", 50)],
    OutputKind.BOXES: [("N", 84, 5), ("N", 84, 4)],
}
"""What the networks of each kind give."""


@pytest.mark.parametrize("kind", OutputKind)
def test_a_file_declares_the_axes_that_networks_of_the_kind_give(kind: OutputKind) -> None:
    for form, shape in zip(FORMS[kind], DECLARED[kind], strict=True):
        tensor = TensorSpec(form.name, form.dtype, shape)
        assert form.fits(tensor)
        if form.rank is not None:
            assert not form.fits(replace(tensor, shape=(*shape, 3)))
            assert not form.fits(replace(tensor, shape=shape[:-1]))
        assert not form.fits(replace(tensor, dtype="float16"))
        for at, size in enumerate(shape):
            other = 7 if isinstance(size, str) else "Q"
            assert not form.fits(replace(tensor, shape=(*shape[:at], other, *shape[at + 1 :])))
    assert FORMS[OutputKind.REGRESSION][0].fits(TensorSpec("values", "float32", ("N", 2, 3)))


def test_a_label_is_an_output_and_so_is_the_blank_of_ctc() -> None:
    assert num_answers(OutputKind.SINGLE_LABEL, ("a", "b")) == 2
    assert num_answers(OutputKind.CTC, ("a", "b")) == 3
    assert num_answers(OutputKind.CAUSAL_LM, ()) is None


SPEC = TensorSpec("logits", "float32", ("N", "T", 2))


def test_an_output_is_no_longer_than_the_longest_input() -> None:
    inputs = {"source": np.zeros((3, 4)), "target": np.zeros((3, 6)), "length": np.zeros(3)}
    for name, size in (("T", 4), ("T", 6), (7, 7)):
        spec = TensorSpec("next", "float32", ("N", name, 2))
        check_lengths([np.zeros((3, size, 2))], [spec], inputs)
    with pytest.raises(ModelFileError, match=r"\[3, 7, 2\] for an input of the length 6"):
        check_lengths([np.zeros((3, 7, 2))], [SPEC], inputs)
    check_lengths([np.zeros((3, 1, 2))], [SPEC], {"length": np.zeros(3)})
    with pytest.raises(ModelFileError, match="of the length 1"):
        check_lengths([np.zeros((3, 2, 2))], [SPEC], {"length": np.zeros(3)})


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (np.zeros((3, 5, 2), np.float64), "gives float64"),
        (np.zeros((2, 5, 2), np.float32), r"gives float32 \[2, 5, 2\]"),
        (np.zeros((3, 5, 3), np.float32), "gives float32"),
        (np.zeros((3, 2), np.float32), "gives float32"),
        ([[1.0]], "gives no array"),
        (np.full((3, 5, 2), np.nan, np.float32), "isn't finite"),
        (np.append(np.zeros(29, np.float32), np.float32(np.inf)).reshape(3, 5, 2), "isn't finite"),
    ],
)
def test_what_a_graph_gives_is_what_is_declared(found: object, why: str) -> None:
    check_outputs([np.zeros((3, 5, 2), np.float32)], [SPEC], count=3)
    with pytest.raises(ModelFileError, match=why):
        check_outputs([found], [SPEC], count=3)
