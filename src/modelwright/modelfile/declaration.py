"""Whether what a file declares fits together: task, labels, and the graphs' inputs and outputs.

Whatever decodes answers relies on it: a rank, a kind of number or a size that no network of the
kind has is refused before a graph runs. That a graph gives what is declared is checked at each run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelwright.errors import ModelFileError
from modelwright.kinds import TASK_KINDS, OutputKind
from modelwright.modelfile.generation import ENCODE, STEP
from modelwright.modelfile.inputs import Reader
from modelwright.modelfile.outputs import FORMS, num_answers
from modelwright.modelfile.spec import MAIN, FileSpec, GraphSpec, TensorSpec

_MOST_STATE = 1 << 26
"""The most numbers of a state that a text has for each token."""
_CORNERS = 4
_TOKENS = TensorSpec("tokens", "int64", ("N", "S"))
_PADDING = TensorSpec("padding", "int64", ("N",))
_SOURCE = TensorSpec("source", "int64", ("N", "T"))
_SOURCE_LENGTH = TensorSpec("source_length", "int64", ("N",))


def check_declaration(spec: FileSpec, reader: Reader) -> None:
    """Refuse a file whose declarations don't fit its task, its kinds, its labels and each other.

    Args:
        spec: what it declares.
        reader: of the input that it declares.

    Raises:
        ModelFileError: they don't.
    """
    if reader.tensors != spec.main.inputs:
        raise ModelFileError("the graph's inputs and outputs aren't those that the file declares")
    _check_task(spec, reader)
    _check_views(spec, reader)
    _check_outputs(spec)
    _check_labels(spec)
    _check_step_graphs(spec, reader)


def _check_task(spec: FileSpec, reader: Reader) -> None:
    """Refuse a task that is known and isn't one of these kinds of input and output."""
    kinds = TASK_KINDS.get(spec.task)
    if kinds is None or reader.spec is None:
        return
    if reader.spec.input_kind not in kinds.inputs or spec.output_kind not in kinds.outputs:
        raise ModelFileError(
            f"the task `{spec.task}` isn't one from {reader.spec.input_kind.plural} to "
            f"{spec.output_kind.noun}"
        )


def _check_views(spec: FileSpec, reader: Reader) -> None:
    tta = spec.inference.tta
    if tta not in reader.view_choices:
        raise ModelFileError(f"the test-time augmentation {tta!r:.40} isn't known to this version")
    if tta != "none" and (len(FORMS[spec.output_kind]) > 1 or spec.output_kind.is_generative):
        raise ModelFileError(f"outputs of the kind {spec.output_kind} aren't averaged over views")


def _check_outputs(spec: FileSpec) -> None:
    """Refuse outputs of the main graph that no network of the kind gives."""
    forms, tensors = FORMS[spec.output_kind], spec.main.outputs
    if [form.name for form in forms] != [tensor.name for tensor in tensors]:
        raise ModelFileError(f"the outputs aren't those of the kind {spec.output_kind}")
    for form, tensor in zip(forms, tensors, strict=True):
        if not form.fits(tensor):
            raise ModelFileError(f"{tensor} isn't an output of the kind {spec.output_kind}")
    if spec.output_kind == OutputKind.BOXES:
        scores, boxes = tensors
        if boxes.shape[1:] != (scores.shape[1], _CORNERS):
            raise ModelFileError(
                f"the boxes aren't four corners for each place: the network gives {scores} and "
                f"{boxes}"
            )


def _check_labels(spec: FileSpec) -> None:
    """Refuse labels that are more or fewer than the outputs, or of which two are the same."""
    size, kind = num_answers(spec.output_kind, spec.labels), spec.output_kind
    is_named = kind == OutputKind.REGRESSION and spec.task in TASK_KINDS
    first = spec.main.outputs[0]
    if is_named and len(first.shape) != 2:
        raise ModelFileError(f"{first} isn't an output of the kind {kind}")
    if is_named:
        size = len(spec.labels)
    if size is not None and first.shape[-1] != size:
        raise ModelFileError(
            f"the outputs are more or fewer than the labels: the network gives {first}, and there "
            f"are {len(spec.labels)} labels"
        )
    if len(set(spec.labels)) != len(spec.labels):
        raise ModelFileError("the file names two of its labels alike")
    if kind == OutputKind.CTC and any(len(label) != 1 for label in spec.labels):
        raise ModelFileError("the labels of transcripts aren't single characters")


def _check_step_graphs(spec: FileSpec, reader: Reader) -> None:
    """Refuse graphs that aren't those with which the kind of network generates texts."""
    names = {STEP} if spec.output_kind.is_generative else set()
    if spec.output_kind == OutputKind.SEQ2SEQ:
        names.add(ENCODE)
    if set(spec.graphs) - {MAIN} != names:
        raise ModelFileError("the file's graphs aren't those of its kind of network")
    if not names or reader.spec is None:
        return
    vocabulary = reader.spec.tokenizer.size
    if spec.main.outputs[0].shape[-1] != vocabulary:
        raise ModelFileError(
            f"the network gives {spec.main.outputs[0]}, and the tokenizer has {vocabulary:,} tokens"
        )
    step, encode = spec.graphs[STEP], spec.graphs.get(ENCODE)
    state = step.inputs[-1]
    _check_state(state)
    cache = TensorSpec("cache", "float32", state.shape)
    expected = (_TOKENS, _PADDING, cache) if encode is None else _check_encode(encode, step)
    grown = TensorSpec("grown", "float32", state.shape)
    following = TensorSpec("next", "float32", ("N", vocabulary))
    if step.inputs != expected or not _are_alike(step.outputs, (following, grown)):
        raise ModelFileError("the file's graph `step` takes or gives something else than it should")


def _check_encode(encode: GraphSpec, step: GraphSpec) -> tuple[TensorSpec, ...]:
    """Return what the graph `step` takes after the graph `encode`, which must give it."""
    given = tuple(
        TensorSpec(name, "float32", tensor.shape)
        for name, tensor in zip(("memory", "state"), step.inputs[-2:], strict=False)
    )
    if (
        encode.inputs != (_SOURCE, _SOURCE_LENGTH)
        or len(given) != 2
        or not _are_alike(encode.outputs, given)
    ):
        raise ModelFileError("the file's graph `encode` takes or gives something else than `step`")
    _check_state(given[0])
    return (TensorSpec("tokens", "int64", ("N", 1)), _SOURCE_LENGTH, *given)


def _check_state(tensor: TensorSpec) -> None:
    """Refuse a state of which more than one axis is free, or which is too large to be one."""
    free = [size for size in tensor.shape[1:] if isinstance(size, str)]
    fixed = math.prod(size for size in tensor.shape[1:] if isinstance(size, int))
    if not isinstance(tensor.shape[0], str) or len(free) > 1 or fixed > _MOST_STATE:
        raise ModelFileError(f"{tensor} isn't a state of a text")


def _are_alike(found: Sequence[TensorSpec], expected: Sequence[TensorSpec]) -> bool:
    """Say whether tensors differ in the names of their free sizes at most."""
    return [_unnamed(tensor) for tensor in found] == [_unnamed(tensor) for tensor in expected]


def _unnamed(tensor: TensorSpec) -> tuple[str, str, list[int | None]]:
    sizes = [size if isinstance(size, int) else None for size in tensor.shape]
    return tensor.name, tensor.dtype, sizes
