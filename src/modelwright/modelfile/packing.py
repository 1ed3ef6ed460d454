"""From a candidate to a model file: export, prove that the graph answers as the network, write."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modelwright.errors import DataError, ModelFileError
from modelwright.files import Json
from modelwright.ledger import Ledger
from modelwright.modelfile.contents import Contents, Golden, whole_weights, write
from modelwright.modelfile.encoding import Encoded, encode_arrays
from modelwright.modelfile.export import OPSET, Exported, TracedGraph, export
from modelwright.modelfile.inputs import Reader, by_name, check_batch, open_input
from modelwright.modelfile.loading import check_interface
from modelwright.modelfile.manifest import Manifest
from modelwright.modelfile.model import Batch, chunk_samples
from modelwright.modelfile.outputs import FORMS, OutputForm, difference
from modelwright.modelfile.sbom import training_sbom
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN, FileSpec, GraphSpec
from modelwright.modelfile.step_graphs import NetworkGraph, step_graphs
from modelwright.modelfile.tensors import Arrays
from modelwright.run import environment as run_environment

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate

_GOLDEN_BYTES = 1 << 18
_MIN_GOLDEN, _MAX_GOLDEN = 2, 8


@dataclass(frozen=True, slots=True)
class PackReport:
    """What was written, and how far the graph's outputs are from the network's."""

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
    traced: Mapping[str, TracedGraph]
    """The graphs without weights, by their names."""


def write_model(
    path: Path,
    candidate: Candidate,
    *,
    golden_inputs: Batch | None = None,
    probes: Batch | None = None,
    recipe: str = "",
    data_card: Mapping[str, Json] | None = None,
    environment: Mapping[str, Json] | None = None,
    sbom: Mapping[str, Json] | None = None,
    ledger: Ledger | None = None,
    tolerance: float | None = None,
    codecs: Mapping[str, str] | None = None,
    traced: Mapping[str, TracedGraph] | None = None,
) -> PackReport:
    """Export a candidate's network and write it as a model file; the candidate isn't changed.

    Args:
        path: the file; it is written aside, then renamed.
        candidate: the network with its task, input, labels, architecture, inference and lineage.
        golden_inputs: at least two samples, kept in the file with the network's outputs. Without
            them synthetic samples are kept, so that nobody's data is in the file.
        probes: more samples on which graph and network are compared; they aren't kept.
        recipe: the recipe's text.
        data_card: what the model was trained on: counts and fingerprints, never samples.
        environment: the versions that wrote it; by default those of this process.
        sbom: the software that it was trained with; by default that of this process.
        ledger: evidence that is known already.
        tolerance: the largest difference allowed between the graph's outputs and the network's;
            by default the candidate's.
        codecs: the codec (`zstd`) of each weight that is stored encoded, by the weight's name; by
            default the candidate's.
        traced: the graphs of the same network before it was trained, from its earlier report: those
            that still fit it aren't traced again.

    Raises:
        ModelFileError: the network can't be exported, or the graph's outputs differ from its own.
        DataError: golden inputs or probes aren't what the network takes, or too few.
        RequestError: there is no such weight or codec.
        ResourceError: the disk is full, or the file can't be written; `path` is as it was.
    """
    from modelwright.models.lora import merged

    # A file holds plain weights: what adapters add is part of them.
    candidate = replace(candidate, network=merged(candidate.network))
    tolerance = candidate.tolerance if tolerance is None else tolerance
    codecs = candidate.codecs if codecs is None else codecs
    reader = open_input(candidate.input.to_json(), candidate.assets)
    golden_samples = _golden_samples(golden_inputs, reader)
    batch = None if probes is None else _checked_samples(probes, reader)
    proven = _prove(candidate, reader, golden_samples, batch, tolerance, codecs, traced or {})
    contents = replace(
        _contents(candidate, proven, golden_samples, tolerance),
        recipe=recipe,
        data_card=dict(data_card or {}),
        environment=dict(environment) if environment is not None else run_environment(),
        sbom=dict(training_sbom() if sbom is None else sbom),
        ledger=ledger if ledger is not None else Ledger(),
    )
    manifest, file_bytes = write(Path(path), contents)
    return _report(Path(path), manifest, file_bytes, contents, proven)


def _report(
    path: Path, manifest: Manifest, file_bytes: int, contents: Contents, proven: _Proven
) -> PackReport:
    return PackReport(
        path=path,
        digest=manifest.digest,
        size_bytes=manifest.size_bytes,
        file_bytes=file_bytes,
        parameters=contents.parameters,
        multiply_adds=contents.multiply_adds,
        largest_difference=proven.largest_difference,
        golden_samples=_num_samples(contents.golden.inputs),
        traced={name: graph.traced for name, graph in proven.exported.items()},
    )


@dataclass(frozen=True, slots=True)
class _Proven:
    """Graphs that answer as the network does, with the weights that a file holds."""

    exported: Mapping[str, Exported]
    stored: Arrays
    spec: FileSpec
    samples: int
    """How many samples the main graph was compared on."""
    largest_difference: float


def _prove(
    candidate: Candidate,
    reader: Reader,
    golden_samples: Arrays,
    probes: Arrays | None,
    tolerance: float,
    codecs: Mapping[str, str],
    traced: Mapping[str, TracedGraph],
) -> _Proven:
    """Export a network's graphs, and prove that they answer as it does."""
    graphs = [
        NetworkGraph(
            name=MAIN,
            module=candidate.network,
            within="",
            inputs=reader.tensors,
            outputs=FORMS[candidate.output_kind],
            samples=golden_samples,
        ),
        *step_graphs(candidate.network),
    ]
    batches = {graph.name: [graph.samples] for graph in graphs}
    if probes is not None:
        batches[MAIN].append(probes)
    try:
        return _proven(candidate, graphs, batches, reader, tolerance, codecs, traced)
    except ModelFileError:
        if not traced:
            raise
        # More than the weights has changed since then, which a new trace shows.
        return _proven(candidate, graphs, batches, reader, tolerance, codecs, {})


def _proven(
    candidate: Candidate,
    graphs: Sequence[NetworkGraph],
    batches: Mapping[str, Sequence[Arrays]],
    reader: Reader,
    tolerance: float,
    codecs: Mapping[str, str],
    traced: Mapping[str, TracedGraph],
) -> _Proven:
    """Export the graphs, and compare each with the network on its batches.

    Raises:
        ModelFileError: a graph can't be exported, or its outputs differ.
    """
    exported = {graph.name: export(graph, traced.get(graph.name)) for graph in graphs}
    stored, encoded = encode_arrays(exported[MAIN].weights, codecs)
    spec = _file_spec(candidate, graphs, exported, encoded)
    weights = whole_weights(spec, stored)
    sessions = {name: Session(item.traced.graph, weights) for name, item in exported.items()}
    check_interface(spec, sessions[MAIN], reader)
    largest_difference = max(
        _difference(sessions[graph.name], exported[graph.name], graph.outputs, part, tolerance)
        for graph in graphs
        for batch in batches[graph.name]
        for part in _parts(batch, chunk_samples(spec))
    )
    samples = sum(map(_num_samples, batches[MAIN]))
    return _Proven(exported, stored, spec, samples, largest_difference)


def _contents(
    candidate: Candidate, proven: _Proven, golden_samples: Arrays, tolerance: float
) -> Contents:
    """Return what a file holds of the model itself."""
    main = proven.exported[MAIN]
    step = {
        "step": "export",
        "opset": OPSET,
        "samples": proven.samples,
        "largest_difference": proven.largest_difference,
        "tolerance": tolerance,
    }
    answers = zip(main.outputs, main.answer(golden_samples), strict=True)
    golden_outputs = {tensor.name: array for tensor, array in answers}
    return Contents(
        spec=proven.spec,
        weights=proven.stored,
        graphs={name: graph.traced.graph for name, graph in proven.exported.items()},
        recipe="",
        data_card={},
        environment={},
        lineage=(*candidate.lineage, step),
        ledger=Ledger(),
        golden=Golden(golden_samples, golden_outputs, float(tolerance)),
        parameters=main.parameters,
        multiply_adds=main.multiply_adds,
        assets=dict(candidate.assets),
    )


def _file_spec(
    candidate: Candidate,
    graphs: Sequence[NetworkGraph],
    exported: Mapping[str, Exported],
    encoded: dict[str, Encoded],
) -> FileSpec:
    steps_to_json = getattr(getattr(candidate.network, "steps", None), "to_json", tuple)
    return FileSpec(
        task=candidate.task,
        input=candidate.input.to_json(),
        output_kind=candidate.output_kind,
        labels=candidate.labels,
        inference=candidate.inference.completed(candidate.output_kind),
        architecture=candidate.architecture,
        graph_steps=tuple(steps_to_json()),
        graphs={
            graph.name: GraphSpec(graph.inputs, exported[graph.name].outputs) for graph in graphs
        },
        shared=exported[MAIN].shared,
        encoded=encoded,
    )


def _difference(
    session: Session,
    exported: Exported,
    outputs: Sequence[OutputForm],
    batch: Arrays,
    tolerance: float,
) -> float:
    """Return the largest difference between a graph's outputs and the network's."""
    largest = max(
        difference(form.name, of_graph, of_network)
        for form, of_graph, of_network in zip(
            outputs, session.run(batch), exported.answer(batch), strict=True
        )
    )
    if not largest <= tolerance:
        raise ModelFileError(
            f"the exported graph answers otherwise than the network: by {largest:.2g}, where "
            f"{tolerance:.2g} is allowed",
            fix="Please report this with the recipe: it is a fault of the export",
        )
    return largest


def _parts(batch: Arrays, size: int) -> Iterator[Arrays]:
    for start in range(0, _num_samples(batch), size):
        yield {name: array[start : start + size] for name, array in batch.items()}


def _num_samples(batch: Arrays) -> int:
    return len(next(iter(batch.values())))


def _golden_samples(inputs: Batch | None, reader: Reader) -> Arrays:
    """Return the golden inputs, or a few synthetic ones that keep the file small."""
    if inputs is not None:
        samples = _checked_samples(inputs, reader)
        if _num_samples(samples) < _MIN_GOLDEN:
            raise DataError(f"golden inputs need at least {_MIN_GOLDEN} samples")
        return samples
    sample_bytes = sum(
        np.dtype(tensor.dtype).itemsize
        * math.prod(size for size in tensor.shape[1:] if isinstance(size, int))
        for tensor in reader.tensors
    )
    count = _GOLDEN_BYTES // max(1, sample_bytes)
    return reader.synthetic(max(_MIN_GOLDEN, min(_MAX_GOLDEN, count)))


def _checked_samples(samples: Batch, reader: Reader) -> Arrays:
    arrays = {name: array.copy() for name, array in by_name(samples, reader.tensors).items()}
    check_batch(arrays, reader.tensors)
    return arrays
