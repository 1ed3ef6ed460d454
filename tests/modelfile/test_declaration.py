"""What a file may declare of its graphs and labels: nothing but what its kind of network has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from modelwright.errors import ModelFileError
from modelwright.kinds import OutputKind
from modelwright.modelfile.declaration import check_declaration
from modelwright.modelfile.inputs import Reader, open_input
from modelwright.modelfile.spec import FileSpec, GraphSpec, TensorSpec
from modelwright.tasks.beam_search import BeamSearchConfig
from modelwright.tasks.inference import Inference
from modelwright.tasks.sampling import SamplingConfig
from tests.modelfile.inputs.declared import ASSETS, DECLARED, TEXT

V = TEXT.tokenizer.size
MEMORY, STATE = (
    TensorSpec("memory", "float32", ("N", "T", 6)),
    TensorSpec("state", "float32", ("N", 2, "P", 5)),
)
NEXT = TensorSpec("next", "float32", ("N", V))
LENGTH = TensorSpec("source_length", "int64", ("N",))


def of_text_from_text() -> tuple[FileSpec, Reader]:
    reader = open_input(DECLARED["source"], ASSETS)
    graphs = {
        "main": GraphSpec(reader.tensors, (TensorSpec("next", "float32", ("N", "S", V)),)),
        "encode": GraphSpec((TensorSpec("source", "int64", ("N", "T")), LENGTH), (MEMORY, STATE)),
        "step": GraphSpec(
            (TensorSpec("tokens", "int64", ("N", 1)), LENGTH, MEMORY, STATE),
            (NEXT, replace(STATE, name="grown")),
        ),
    }
    return of("translation", OutputKind.SEQ2SEQ, graphs, BeamSearchConfig()), reader


def of_a_language_model() -> tuple[FileSpec, Reader]:
    reader = open_input(DECLARED["prompt"], ASSETS)
    cache = replace(STATE, name="cache")
    tokens = TensorSpec("tokens", "int64", ("N", "S"))
    graphs = {
        "main": GraphSpec(reader.tensors, (TensorSpec("next", "float32", ("N", "T", V)),)),
        "step": GraphSpec(
            (tokens, TensorSpec("padding", "int64", ("N",)), cache),
            (NEXT, replace(STATE, name="grown")),
        ),
    }
    return of("language-modeling", OutputKind.CAUSAL_LM, graphs, SamplingConfig()), reader


def of(
    task: str,
    kind: OutputKind,
    graphs: dict[str, GraphSpec],
    generate: BeamSearchConfig | SamplingConfig | None,
) -> FileSpec:
    return FileSpec(
        task=task,
        input={},
        output_kind=kind,
        labels=(),
        inference=Inference(generate=generate),
        architecture={},
        graphs=graphs,
        graph_steps=(),
        shared={},
        encoded={},
    )


CASES = {"seq2seq": of_text_from_text, "language model": of_a_language_model}


def changes(tensor: TensorSpec) -> Iterator[TensorSpec]:
    """Yield tensors that differ in one thing from what a network has."""
    yield replace(tensor, name="other")
    yield replace(tensor, dtype="float16" if tensor.dtype == "float32" else "int32")
    yield replace(tensor, shape=(*tensor.shape, 3))
    yield replace(tensor, shape=tensor.shape[:-1])
    for at, size in enumerate(tensor.shape):
        other = 7 if isinstance(size, str) else size + 1
        yield replace(tensor, shape=(*tensor.shape[:at], other, *tensor.shape[at + 1 :]))


@pytest.mark.parametrize("case", CASES)
def test_any_change_of_a_tensor_is_refused(case: str) -> None:
    spec, reader = CASES[case]()
    check_declaration(spec, reader)
    refused = 0
    for name, graph in spec.graphs.items():
        for side in ("inputs", "outputs"):
            tensors = getattr(graph, side)
            for at in range(len(tensors)):
                others = [tensors[:at] + tensors[at + 1 :]]
                others += [
                    (*tensors[:at], changed, *tensors[at + 1 :]) for changed in changes(tensors[at])
                ]
                for wrong in others:
                    graphs = {**spec.graphs, name: replace(graph, **{side: wrong})}
                    with pytest.raises(ModelFileError):
                        check_declaration(replace(spec, graphs=graphs), reader)
                    refused += 1
    assert refused > 40


@pytest.mark.parametrize("case", CASES)
def test_names_of_free_sizes_are_free_where_graphs_name_their_own(case: str) -> None:
    spec, reader = CASES[case]()
    grown = replace(STATE, name="grown", shape=("N", 2, "Q", 5))
    step = replace(spec.graphs["step"], outputs=(NEXT, grown))
    check_declaration(replace(spec, graphs={**spec.graphs, "step": step}), reader)


@pytest.mark.parametrize("case", CASES)
def test_graphs_that_are_missing_or_too_many_are_refused(case: str) -> None:
    spec, reader = CASES[case]()
    wrong = [{**spec.graphs, "more": spec.graphs["step"]}]
    wrong += [
        {name: graph for name, graph in spec.graphs.items() if name != left_out}
        for left_out in spec.graphs
        if left_out != "main"
    ]
    for graphs in wrong:
        with pytest.raises(ModelFileError, match="graphs aren't those of its kind"):
            check_declaration(replace(spec, graphs=graphs), reader)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (("a", "b"), ""),
        (("a", "bc"), "single characters"),
        (("", "b"), "single characters"),
        (("ab", "cd"), "single characters"),
        (("a", "a"), "alike"),
        (("a", "b", "c"), "more or fewer than the labels"),
    ],
)
def test_transcripts_are_of_single_characters(labels: tuple[str, ...], why: str) -> None:
    reader = open_input(DECLARED["audio"], {})
    frames = TensorSpec("frames", "float32", ("N", "F", 3))  # A blank beside two characters.
    main = GraphSpec(reader.tensors, (frames, TensorSpec("steps", "int64", ("N",))))
    spec = of("speech-recognition", OutputKind.CTC, {"main": main}, None)
    spec = replace(spec, labels=labels)
    if not why:
        check_declaration(spec, reader)
        return
    with pytest.raises(ModelFileError, match=why):
        check_declaration(spec, reader)


@pytest.mark.parametrize(
    ("shape", "is_state"),
    [
        (("N", 2, "P", 5), True),
        (("N", 5), True),
        (("N", "P", "Q"), False),
        (("N", 1 << 13, "P", 1 << 13), True),
        (("N", (1 << 13) + 1, "P", 1 << 13), False),
    ],
)
def test_a_state_grows_along_one_axis_and_is_bounded(
    shape: tuple[int | str, ...], is_state: bool
) -> None:
    spec, reader = of_a_language_model()
    step = spec.graphs["step"]
    inputs = (*step.inputs[:2], TensorSpec("cache", "float32", shape))
    step = GraphSpec(inputs, (NEXT, TensorSpec("grown", "float32", shape)))
    changed = replace(spec, graphs={**spec.graphs, "step": step})
    if is_state:
        check_declaration(changed, reader)
    else:
        with pytest.raises(ModelFileError, match="isn't a state of a text"):
            check_declaration(changed, reader)
