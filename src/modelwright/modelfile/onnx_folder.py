"""A model as plain ONNX files, for those who want only that: no evidence, no checks, no host steps.

Each graph becomes one file with its weights inside, beside the tokenizer or vocabulary where there
is one, the declaration as JSON, and a README that says what the graph takes and gives, and what is
left to the program that calls it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from modelwright.errors import ModelFileError, RequestError, require
from modelwright.files import folder_aside, write_bytes
from modelwright.modelfile.contents import Contents, pick_weights, read
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.loading import check_golden
from modelwright.modelfile.origin import describe_origin
from modelwright.modelfile.outputs import FORMS
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN
from modelwright.modelfile.tensors import Arrays
from modelwright.transforms.ngrams import NgramInput

if TYPE_CHECKING:
    import onnx

README, DECLARATION, VOCABULARY = "README.md", "model.json", "vocabulary.json"
_LABELS_SHOWN = 100
_LARGEST = (1 << 31) - (1 << 20)
"""The most bytes of weights: a Protocol Buffers message holds 2 GB."""


def export_onnx(path: Path | str, folder: Path | str) -> list[Path]:
    """Write a model file's graphs as plain ONNX files in a folder, with a README.

    The main graph is loaded again and answers the golden samples before the folder gets its name.

    Returns:
        The files that were written.

    Raises:
        ModelFileError: it isn't a model file, the plain graph answers differently, or the weights
            are more than 2 GB, which one ONNX file can't hold.
        RequestError: there is something at `folder` already.
        ResourceError: the disk is full, or the folder can't be written.
        MissingExtraError: onnx isn't installed.
    """
    path, folder = Path(path), Path(folder)
    if folder.exists():
        raise RequestError(
            "there is something here already", where=str(folder), fix="Name a new folder"
        )
    require("onnx", extra="train", purpose="to write ONNX files")
    contents = read(path)
    with folder_aside(folder) as aside:
        for name, graph in contents.graphs.items():
            _write_graph(aside / f"{_file_name(name)}", graph, contents.weights)
        session = Session((aside / _file_name(MAIN)).read_bytes(), {})
        check_golden(contents.spec, session, contents.golden)
        for name, data in _assets(contents).items():
            write_bytes(aside / name, data)
        declaration = {
            key: value
            for key, value in contents.spec.to_json().items()
            if key in ("task", "input", "outputs", "inference", "graph_steps", "graphs")
        }
        text = json.dumps(declaration, indent=2, ensure_ascii=False) + "\n"
        write_bytes(aside / DECLARATION, text.encode())
        write_bytes(aside / README, _readme(contents, path.name).encode())
        written = sorted(item.name for item in aside.iterdir())
    return [folder / name for name in written]


def _file_name(graph: str) -> str:
    return "model.onnx" if graph == MAIN else f"{graph}.onnx"


def _write_graph(file: Path, graph: bytes, weights: Arrays) -> None:
    """Write a graph with its weights inside."""
    import onnx

    model = onnx.load_model_from_string(graph)
    chosen = pick_weights(graph, weights)
    for tensor in _tensors(model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        tensor.raw_data = chosen[tensor.name].tobytes()
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    if sum(array.nbytes for array in chosen.values()) >= _LARGEST:
        raise ModelFileError(
            "the weights are more than one ONNX file can hold (2 GB)",
            where=file.name,
            fix="Use the model file itself",
        )
    write_bytes(file, model.SerializeToString(deterministic=True))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the initializers of a graph and of those within its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _assets(contents: Contents) -> dict[str, bytes]:
    """Return what the host steps need, in forms that other programs read."""
    reader = open_input(contents.spec.input, contents.assets)
    if not isinstance(reader.spec, NgramInput):
        return dict(contents.assets)
    kinds = [
        {
            "analyzer": kind.analyzer,
            "ngram_range": [kind.shortest, kind.longest],
            "ngrams": [kind.text(number) for number in range(len(kind.codes))],
            "idf": [float(value) for value in kind.idf],
        }
        for kind in reader.spec.kinds
    ]
    return {VOCABULARY: json.dumps(kinds, ensure_ascii=False).encode()}


def _readme(contents: Contents, name: str) -> str:
    import onnx

    spec = contents.spec
    declared = spec.inference.to_json()
    settings = {
        key: value
        for key, value in declared.items()
        if key not in ("threshold", "tta", "temperature") and value is not None
    }
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["sample_size"] = lambda size: size if isinstance(size, int) else 1
    text = resources.files("modelwright.modelfile").joinpath("onnx_readme.md.j2").read_text("utf-8")
    steps = [str(step.get("kind", step.get("name", ""))) for step in spec.graph_steps]
    return environment.from_string(text).render(
        spec=spec,
        name=name,
        kind=spec.input["kind"],
        input=open_input(spec.input, contents.assets).spec,
        file_name=_file_name,
        assets=_assets(contents),
        declaration=DECLARATION,
        vocabulary=VOCABULARY,
        steps=[step for step in steps if step],
        domains=sorted(
            {
                item.domain or "ai.onnx": item.version
                for graph in contents.graphs.values()
                for item in onnx.load_model_from_string(graph).opset_import
            }.items()
        ),
        forms=FORMS[spec.output_kind],
        settings=settings and json.dumps(settings, ensure_ascii=False),
        labels=json.dumps(list(spec.labels[:_LABELS_SHOWN]), ensure_ascii=False),
        labels_shown=_LABELS_SHOWN,
        origin=describe_origin(contents.lineage),
    )
