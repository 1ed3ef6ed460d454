"""A model as plain ONNX files, for those who want only that: no evidence, no checks, no host steps.

Each graph becomes one file with its weights inside, beside the tokenizer or vocabulary where there
is one, the declaration as JSON, and a README that says what the graph takes and gives, and what is
left to the program that calls it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from modelwright.errors import ModelFileError, RequestError, require
from modelwright.files import folder_aside, write_bytes
from modelwright.modelfile.contents import Contents, pick_weights, read, whole_weights
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.loading import check_golden
from modelwright.modelfile.origin import describe_origin
from modelwright.modelfile.outputs import FORMS
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN, GraphSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import model_name
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
    _check_free(folder)
    contents = read(path)
    with folder_aside(folder) as aside:
        _write_folder(aside, contents, path.name)
        written = sorted(item.name for item in aside.iterdir())
    return [folder / name for name in written]


def export_triton(path: Path | str, folder: Path | str) -> list[Path]:
    """Write a model file as a model repository of Triton Inference Server's, with a README.

    Requests are put together to batches where the first axis of all tensors is that of the samples.

    Returns:
        The files that were written: in a folder of the model's name its `config.pbtxt`, the graph
        as `1/model.onnx`, and what else `export_onnx` writes.

    Raises:
        ModelwrightError: as `export_onnx`, and where the model has several graphs.
    """
    path, folder = Path(path), Path(folder)
    _check_free(folder)
    contents = read(path)
    if len(contents.graphs) > 1:
        raise RequestError(
            f"this model answers by {len(contents.graphs)} graphs in turn, and Triton runs one",
            where=str(path),
            fix="`modelwright serve` writes texts; --to onnx writes every graph",
        )
    # What it is called is also the name of a folder.
    name = re.sub(r"[^\w.-]+", "-", model_name(path), flags=re.ASCII).strip("-.") or "model"
    with folder_aside(folder) as aside:
        home = aside / name
        (home / "1").mkdir(parents=True)
        _write_folder(home, contents, path.name, form="triton", place="1/")
        write_bytes(home / "config.pbtxt", _triton_config(name, contents.spec.main).encode())
        written = sorted(item.relative_to(aside) for item in aside.rglob("*") if item.is_file())
    return [folder / name for name in written]


_MAX_BATCH = 32
"""The most samples that Triton puts together; `max_batch_size` of `config.pbtxt`."""
_TRITON_TYPES = {"bool": "BOOL", "bfloat16": "BF16", "object": "STRING"}
_TRITON_TYPES |= {f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)}


def _triton_config(name: str, graph: GraphSpec) -> str:
    """Return `config.pbtxt`; its fields are those of Triton's `ModelConfig`."""
    tensors = (*graph.inputs, *graph.outputs)
    firsts = {tensor.shape[0] if tensor.shape else None for tensor in tensors}
    is_batched = len(firsts) == 1 and isinstance(firsts.pop(), str)
    parts = [f'name: "{name}"', 'backend: "onnxruntime"']
    parts.append(f"max_batch_size: {_MAX_BATCH if is_batched else 0}")
    for side, listed in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in listed:
            shape = tensor.shape[1:] if is_batched else tensor.shape
            sizes = [size if isinstance(size, int) else -1 for size in shape]
            dims = ", ".join(map(str, sizes or [1]))
            kind = _TRITON_TYPES.get(tensor.dtype, tensor.dtype.upper())
            lines = [f"name: {json.dumps(tensor.name)}", f"data_type: TYPE_{kind}"]
            lines += [f"dims: [ {dims} ]"] + ([] if sizes else ["reshape { shape: [ ] }"])
            parts.append(f"{side} {{\n" + "".join(f"  {line}\n" for line in lines) + "}")
    return "\n".join([*parts, *(["dynamic_batching { }"] if is_batched else [])]) + "\n"


def _check_free(folder: Path) -> None:
    if folder.exists():
        raise RequestError(
            "there is something here already", where=str(folder), fix="Name a new folder"
        )
    require("onnx", extra="train", purpose="to write ONNX files")


def _write_folder(
    folder: Path, contents: Contents, name: str, *, form: str = "onnx", place: str = ""
) -> None:
    """Write the graphs at a place inside a folder, and what belongs to them beside."""
    files = {
        graph: f"{place}{'model' if graph == MAIN else graph}.onnx" for graph in contents.graphs
    }
    weights = whole_weights(contents.spec, contents.weights)
    for graph, file in files.items():
        _write_graph(folder / file, contents.graphs[graph], weights)
    session = Session((folder / files[MAIN]).read_bytes(), {})
    check_golden(contents.spec, session, contents.golden)
    for asset, data in _assets(contents).items():
        write_bytes(folder / asset, data)
    declaration = {
        key: value
        for key, value in contents.spec.to_json().items()
        if key in ("task", "input", "outputs", "inference", "graph_steps", "graphs")
    }
    text = json.dumps(declaration, indent=2, ensure_ascii=False) + "\n"
    write_bytes(folder / DECLARATION, text.encode())
    write_bytes(folder / README, _readme(contents, name, form, files).encode())


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


def _readme(contents: Contents, name: str, form: str, files: dict[str, str]) -> str:
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
        form=form,
        files=files,
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
