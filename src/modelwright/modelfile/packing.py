"""From a candidate to a model file: export, prove that the graph answers as the network, write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import DataError, ModelFileError
from modelwright.ledger import Ledger
from modelwright.modelfile.contents import Contents, Golden, whole_weights, write
from modelwright.modelfile.encoding import encode_arrays
from modelwright.modelfile.export import OPSET, Exported, export
from modelwright.modelfile.inputs import by_name, check_batch, open_input
from modelwright.modelfile.loading import check_interface
from modelwright.modelfile.model import chunk_samples
from modelwright.modelfile.outputs import (
    FORMS,
    OutputForm,
    difference,
    num_answers,
)
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN, FileSpec, GraphSpec, TensorSpec
from modelwright.modelfile.step_graphs import step_graphs
from modelwright.modelfile.tensors import Arrays
from modelwright.run import environment as run_environment

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate

TOLERANCE = 1e-4
"""The largest difference of a probability between network and graph, in fp32."""
_GOLDEN_BYTES = 1 << 18
_FEWEST, _MOST = 2, 8

Given = NDArray[Any] | Mapping[str, NDArray[Any]]
"""Samples: the array of the one input, or arrays by the inputs' names, or records with these."""


@dataclass(frozen=True, slots=True)
class PackReport:
    """What was packed, and how well the graph answers as the network does."""

    path: Path
    digest: str
    """The model digest."""
    size_bytes: int
    file_bytes: int
    parameters: int
    multiply_adds: int
    largest_difference: float
    """Between graph and network, over golden samples and probes."""
    golden_samples: int


def write_model(
    path: Path,
    candidate: Candidate,
    *,
    golden_inputs: Given | None = None,
    probes: Given | None = None,
    recipe: str = "",
    data_card: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    ledger: Ledger | None = None,
    tolerance: float = TOLERANCE,
    codecs: Mapping[str, str] | None = None,
) -> PackReport:
    """Export a candidate's network and write it as a model file; the candidate isn't changed.

    Args:
        path: where; written aside, then renamed.
        candidate: the network with its task, input, labels, architecture, views and lineage.
        golden_inputs: at least two samples, kept in the file with the network's answers. Where not
            given they are synthetic, so that no one's data is in the file.
        probes: samples on which graph and network are compared as well; they aren't kept.
        recipe: the recipe's text.
        data_card: what the model was trained on: counts and fingerprints, never samples.
        environment: what it was written with; the libraries' versions where not said.
        ledger: evidence that is known already.
        tolerance: the largest difference allowed between the graph's answers and the network's.
        codecs: the weights that are stored encoded, by name: `zstd`.

    Raises:
        ModelFileError: the network can't be exported, or the graph answers otherwise than it.
        RequestError: there is no such weight or codec.
        ResourceError: the disk is full, or the place can't be written; `path` is as it was.
    """
    from modelwright.models.lora import merged

    declared = candidate.input.to_json()
    # A file holds plain weights: what adapters add is part of them.
    candidate = replace(candidate, network=merged(candidate.network))
    reader = open_input(declared, candidate.assets)
    tensors = reader.tensors
    samples = _samples(golden_inputs, tensors, min_count=_FEWEST)
    if samples is None:
        samples = reader.synthetic(_count(tensors))
    shown = _samples(probes, tensors)
    forms = FORMS[candidate.output_kind]
    exported = export(candidate.network, samples, inputs=tensors, outputs=forms)
    _check_labels(candidate, exported)
    steps = {
        part.name: (
            part,
            export(
                part.module,
                part.samples,
                inputs=part.inputs,
                outputs=part.outputs,
                within=part.within,
            ),
        )
        for part in step_graphs(candidate.network)
    }
    stored, encoded = encode_arrays(exported.weights, codecs or {})
    spec = FileSpec(
        task=candidate.task,
        input=declared,
        output_kind=candidate.output_kind,
        labels=candidate.labels,
        inference=candidate.inference.completed(candidate.output_kind),
        architecture=candidate.architecture,
        graph_steps=_graph_steps(candidate),
        graphs={
            MAIN: GraphSpec(tensors, exported.outputs),
            **{name: GraphSpec(part.inputs, own.outputs) for name, (part, own) in steps.items()},
        },
        shared=exported.shared,
        encoded=encoded,
    )
    answers = exported.answer(samples)
    expected = {form.name: answer for form, answer in zip(forms, answers, strict=True)}
    compared = [samples, *([shown] if shown is not None else [])]
    weights = whole_weights(spec, stored)
    session = Session(exported.graph, weights)
    check_interface(spec, session, reader)
    worst = _prove(spec, session, exported, compared, tolerance)
    for part, own in steps.values():
        found = Session(own.graph, weights).run(part.samples)
        worst = max(worst, _apart(part.outputs, found, own.answer(part.samples), tolerance))
    step = {
        "step": "export",
        "opset": OPSET,
        "samples": sum(len(batch[tensors[0].name]) for batch in compared),
        "largest_difference": worst,
        "tolerance": tolerance,
    }
    contents = Contents(
        spec=spec,
        weights=stored,
        graphs={MAIN: exported.graph, **{name: own.graph for name, (_, own) in steps.items()}},
        recipe=recipe,
        data_card=dict(data_card or {}),
        environment=dict(environment) if environment is not None else run_environment(),
        lineage=(*candidate.lineage, step),
        ledger=ledger if ledger is not None else Ledger(),
        golden=Golden(samples, expected, float(tolerance)),
        parameters=exported.parameters,
        multiply_adds=exported.multiply_adds,
        assets=dict(candidate.assets),
    )
    written = write(Path(path), contents)
    return PackReport(
        path=Path(path),
        digest=written.manifest.digest,
        size_bytes=written.manifest.size_bytes,
        file_bytes=written.file_bytes,
        parameters=exported.parameters,
        multiply_adds=exported.multiply_adds,
        largest_difference=worst,
        golden_samples=len(samples[tensors[0].name]),
    )


def _prove(
    spec: FileSpec,
    session: Session,
    exported: Exported,
    batches: Sequence[Arrays],
    tolerance: float,
) -> float:
    """Return how far the graph's answers are from the network's.

    Raises:
        ModelFileError: they are too far.
    """
    forms = FORMS[spec.output_kind]
    step, worst = chunk_samples(spec), 0.0
    for batch in batches:
        count = len(batch[spec.main.inputs[0].name])
        for start in range(0, count, step):
            part = {name: array[start : start + step] for name, array in batch.items()}
            worst = max(worst, _apart(forms, session.run(part), exported.answer(part), tolerance))
    return worst


def _check_labels(candidate: Candidate, exported: Exported) -> None:
    """Refuse a network whose answers are more or fewer than the labels.

    Raises:
        ModelFileError: they are.
    """
    size = num_answers(candidate.output_kind, candidate.labels)
    first = exported.outputs[0]
    if size is not None and first.shape[-1] != size:
        raise ModelFileError(
            f"the network gives {first}, and there are {len(candidate.labels)} labels"
        )


def _apart(
    forms: Sequence[OutputForm],
    found: Sequence[NDArray[Any]],
    expected: Sequence[NDArray[Any]],
    tolerance: float,
) -> float:
    """Return the largest difference of a graph's outputs from the network's.

    Raises:
        ModelFileError: it is larger than it may be.
    """
    worst = max(
        difference(form.name, one, other)
        for form, one, other in zip(forms, found, expected, strict=True)
    )
    if not worst <= tolerance:
        raise ModelFileError(
            f"the exported graph answers otherwise than the network: by {worst:.2g}, where "
            f"{tolerance:.2g} is allowed",
            fix="Please report this with the recipe: it is a fault of the export",
        )
    return worst


def _samples(
    given: Given | None, tensors: tuple[TensorSpec, ...], *, min_count: int = 0
) -> Arrays | None:
    """Return what was given by the inputs' names.

    Raises:
        DataError: it isn't what the network takes, or too little.
    """
    if given is None:
        return None
    arrays = {name: array.copy() for name, array in by_name(given, tensors).items()}
    if check_batch(arrays, tensors) < min_count:
        raise DataError(f"golden inputs need at least {min_count} samples")
    return arrays


def _count(tensors: tuple[TensorSpec, ...]) -> int:
    """Return how many golden samples keep the file small."""
    size = sum(
        np.dtype(tensor.dtype).itemsize
        * math.prod(side for side in tensor.shape[1:] if isinstance(side, int))
        for tensor in tensors
    )
    return max(_FEWEST, min(_MOST, _GOLDEN_BYTES // max(1, size)))


def _graph_steps(candidate: Candidate) -> tuple[dict[str, Any], ...]:
    """Return the graph steps as the network declares them; one without any declares none."""
    to_json = getattr(getattr(candidate.network, "steps", None), "to_json", None)
    return tuple(to_json()) if to_json is not None else ()
