"""A model file as one value: reading it whole, writing it, and replacing its evidence.

`write(read(x))` gives the bytes of `x` again. Nothing here runs a graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from modelwright.errors import ModelFileError
from modelwright.files import Json, JsonObject
from modelwright.ledger import Evidence, Ledger
from modelwright.modelfile.container import (
    Container,
    FileLike,
    open_container,
    place_of,
    refuse_sealed,
    write_container,
)
from modelwright.modelfile.encoding import check_encoded, decode_arrays
from modelwright.modelfile.graph import external_weights
from modelwright.modelfile.manifest import (
    ARTEFACTS,
    DATA_CARD,
    ENVIRONMENT,
    GOLDEN,
    GRAPHS,
    LANGUAGE_MODEL,
    LEDGER,
    LINEAGE,
    NGRAMS,
    RECIPE,
    SBOM,
    SPEC,
    TOKENIZER,
    WEIGHTS,
    Manifest,
    describe_member,
    member_digest,
    order_members,
)
from modelwright.modelfile.spec import FileSpec
from modelwright.modelfile.strict import check_json_size, json_member, parse_json
from modelwright.modelfile.tensors import (
    FLOATS,
    Arrays,
    dtype_name,
    read_arrays,
    to_float32,
    write_arrays,
)
from modelwright.tasks.inference import Inference
from modelwright.transforms.text import END
from modelwright.transforms.tokenizing import Tokenizer
from modelwright.transforms.word_vectors import nearest_words

_INPUT, _OUTPUT = "inputs.", "outputs."
MODEL = "model/"
_TABLE = "embedding.weight"
"""The weights that are vectors of words, in all our networks."""
ASSETS = tuple(name.removeprefix(MODEL) for name in (TOKENIZER, LANGUAGE_MODEL, NGRAMS))


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs with the outputs that the training network gave for them, by the graph's names."""

    inputs: Arrays
    outputs: Arrays
    tolerance: float
    """How far a runtime's outputs may be from these, as `outputs.difference` measures it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All that a model file holds."""

    spec: FileSpec
    weights: Arrays
    """As they are stored: those that `spec.encoded` names are bytes."""
    graphs: dict[str, bytes]
    """ONNX graphs by their names."""
    recipe: str
    """The recipe's text."""
    data_card: JsonObject
    environment: JsonObject
    sbom: JsonObject | None = None
    """The software that it was trained with, as `sbom.training_sbom` lists it."""
    lineage: tuple[JsonObject, ...]
    ledger: Ledger
    golden: Golden
    parameters: int
    multiply_adds: int
    assets: dict[str, bytes] = field(default_factory=dict)
    """What else decides a prediction, by its name under `model/`: the tokenizer."""
    artefacts: dict[str, bytes] = field(default_factory=dict)
    """What evidence names by digest, by its name under `artefacts/`."""
    signature: bytes | None = None


def write(path: Path, contents: Contents) -> tuple[Manifest, int]:
    """Write a model file aside and rename it; return its manifest and its size in bytes.

    Raises:
        ModelFileError: the parts don't fit together.
        ResourceError: the disk is full, or the place can't be written; `path` is as it was.
    """
    members = {
        SPEC: contents.spec.to_bytes(),
        WEIGHTS: write_arrays(contents.weights, name=WEIGHTS),
        **{f"{GRAPHS}{name}.onnx": graph for name, graph in contents.graphs.items()},
        **{f"{MODEL}{name}": data for name, data in contents.assets.items()},
        RECIPE: _utf8(contents.recipe),
        DATA_CARD: json_member(contents.data_card, name=DATA_CARD),
        ENVIRONMENT: json_member(contents.environment, name=ENVIRONMENT),
        **({} if contents.sbom is None else {SBOM: json_member(contents.sbom, name=SBOM)}),
        LINEAGE: json_member(list(contents.lineage), name=LINEAGE),
        LEDGER: _ledger_bytes(contents.ledger),
        GOLDEN: _golden_bytes(contents.golden),
        **{f"{ARTEFACTS}{name}": data for name, data in contents.artefacts.items()},
    }
    _check_graphs(contents.spec, contents.weights, contents.graphs)
    _check_golden(contents.spec, contents.golden)
    _check_artefacts(contents.ledger, contents.artefacts)
    manifest = Manifest(
        members=tuple(describe_member(name, members[name]) for name in order_members(members)),
        parameters=contents.parameters,
        multiply_adds=contents.multiply_adds,
        tolerance=contents.golden.tolerance,
    )
    return manifest, write_container(path, members, manifest, signature=contents.signature)


def read(file: FileLike) -> Contents:
    """Read a whole model file, checking every byte.

    Raises:
        ModelFileError: it isn't one, is damaged, or is of another format.
    """
    with open_container(file) as container:
        return read_contents(container)


def _read_unchecked(path: Path | str) -> Contents:
    """Read a file that may not be trusted, to give it another signature."""
    with open_container(path, is_checked=False) as container:
        return read_contents(container)


def read_contents(container: Container) -> Contents:
    """Read all members of an open file, checking every byte."""
    manifest, members = container.manifest, {}
    for member in manifest.members:
        members[member.name] = container.read(member.name)
        container.check_crc32(member.name, members[member.name])
    spec = FileSpec.from_bytes(members[SPEC])
    weights = read_arrays(members[WEIGHTS], name=WEIGHTS)
    graphs = {Path(name).stem: members[name] for name in members if name.startswith(GRAPHS)}
    _check_graphs(spec, weights, graphs)
    golden = parse_golden(members[GOLDEN], spec, tolerance=manifest.tolerance)
    ledger = parse_ledger(members[LEDGER])
    artefacts = {
        name.removeprefix(ARTEFACTS): data
        for name, data in members.items()
        if name.startswith(ARTEFACTS)
    }
    _check_artefacts(ledger, artefacts)
    return Contents(
        spec=spec,
        weights=weights,
        graphs=graphs,
        recipe=_text(members[RECIPE]),
        data_card=_object(members[DATA_CARD], DATA_CARD),
        environment=_object(members[ENVIRONMENT], ENVIRONMENT),
        sbom=_object(members[SBOM], SBOM) if SBOM in members else None,
        lineage=parse_lineage(members[LINEAGE]),
        ledger=ledger,
        golden=golden,
        parameters=manifest.parameters,
        multiply_adds=manifest.multiply_adds,
        assets={name: members[f"{MODEL}{name}"] for name in ASSETS if f"{MODEL}{name}" in members},
        artefacts=artefacts,
        signature=container.signature,
    )


def assets_of(container: Container) -> dict[str, bytes]:
    """Return what else decides a prediction, by its name under `model/`."""
    names = {member.name for member in container.manifest.members}
    return {name: container.read(f"{MODEL}{name}") for name in ASSETS if f"{MODEL}{name}" in names}


def with_ledger(
    path: Path | str, ledger: Ledger, *, artefacts: Mapping[str, bytes] | None = None
) -> None:
    """Replace the evidence of a model file; the model, and so its digest, stays the same.

    Args:
        path: the file.
        ledger: the evidence, with the digests of the artefacts that it names (`member_digest`).
        artefacts: what it names and the file doesn't hold yet, by name. Artefacts of the file that
            no evidence names any more are left out.

    Raises:
        ModelFileError: the file is damaged, or signed: new evidence would break the signature; or
            an artefact that the evidence names is missing or another one.
        ResourceError: the disk is full, or the file can't be written; it is as it was.
    """
    contents = _read_unsigned(path)
    named = {name for record in ledger for name in record.artefacts}
    kept = {name: data for name, data in contents.artefacts.items() if name in named}
    write(Path(path), replace(contents, ledger=ledger, artefacts={**kept, **(artefacts or {})}))


def with_inference(path: Path | str, inference: Inference) -> None:
    """Replace what decides a model file's answers beyond the weights: it is another model then.

    Its evidence is removed, since it describes the former model.

    Raises:
        ModelFileError: the file is damaged or signed.
        ResourceError: the disk is full, or the file can't be written; it is as it was.
    """
    contents = _read_unsigned(path)
    spec = replace(contents.spec, inference=inference)
    write(Path(path), replace(contents, spec=spec, ledger=Ledger(), artefacts={}))


_UNSEALED = "What is changed in it would be written unsealed"


def _read_unsigned(path: Path | str) -> Contents:
    refuse_sealed(path, why=_UNSEALED)
    contents = read(path)
    if contents.signature is not None:
        raise ModelFileError(
            "the model file is signed, and what is new in it would break the signature",
            where=str(path),
            fix="Change it before signing",
        )
    return contents


def with_signature(path: Path | str, signature: bytes | None) -> None:
    """Write a signature into a model file in place of the one it has, or remove it (`None`).

    The signature isn't verified. All other bytes stay as they are, so that a signature over the
    manifest covers every byte but its own.

    Raises:
        ModelFileError: the file is damaged, or the signature is empty or too long.
        ResourceError: the disk is full, or the file can't be written; it is as it was.
    """
    refuse_sealed(path, why=_UNSEALED)
    write(Path(path), replace(_read_unchecked(path), signature=signature))


def read_weights(file: FileLike) -> Arrays:
    """Return the weights of a model file by their names in the network.

    Raises:
        ModelFileError: it isn't one, is damaged, or is of another format.
    """
    with open_container(file) as container:
        return weights_of(container, FileSpec.from_bytes(container.read(SPEC)))


def recipe_text(file: FileLike) -> str:
    """Return the recipe that a model file was made by, as text.

    Raises:
        ModelFileError: it isn't a model file, is damaged, or is of another format.
    """
    with open_container(file) as container:
        return _text(container.read(RECIPE))


def data_card(file: FileLike) -> JsonObject:
    """Return a file's record of the data that it was made from: counts and digests of splits.

    Raises:
        ModelFileError: it isn't a model file, is damaged, or is of another format.
    """
    with open_container(file) as container:
        return _object(container.read(DATA_CARD), DATA_CARD)


def weights_of(container: Container, spec: FileSpec) -> Arrays:
    """Return the weights of an open file by their names in the network, decoded."""
    return whole_weights(spec, read_arrays(container.read(WEIGHTS), name=WEIGHTS))


def neighbours(file: FileLike, word: str, *, count: int = 10) -> list[tuple[str, float]]:
    """Return the words whose vectors in a model of texts lie nearest to a word's, with cosines.

    Raises:
        ModelFileError: it isn't a model file, is damaged, or has no vectors of words.
        RequestError: the word has no vector.
    """
    with open_container(file) as container:
        spec = FileSpec.from_bytes(container.read(SPEC))
        tokenizer_bytes = assets_of(container).get(TOKENIZER.removeprefix(MODEL))
        table = weights_of(container, spec).get(_TABLE)
    is_matrix = table is not None and table.ndim == 2 and dtype_name(table) in FLOATS
    if tokenizer_bytes is None or table is None or not is_matrix:
        raise ModelFileError("this model has no vectors of words", where=place_of(file))
    with np.errstate(over="ignore"):  # What is beyond single precision isn't finite.
        vectors = to_float32(table).astype(np.float64)
    if not np.isfinite(vectors).all():
        raise ModelFileError("the model's vectors of words aren't finite", where=place_of(file))
    tokenizer = Tokenizer.from_bytes(tokenizer_bytes)
    numbers = range(END + 1, min(tokenizer.size, len(table)))
    words = [tokenizer.token(number) for number in numbers]
    known = word.lower() if tokenizer.lowercase else word
    return nearest_words(vectors[END + 1 : tokenizer.size], words, known, count)


def digest(file: FileLike) -> str:
    """Return the model digest of a file: what decides a prediction, nothing else.

    Raises:
        ModelFileError: it isn't a model file, is damaged, or is of another format.
    """
    with open_container(file) as container:
        return container.manifest.digest


def describe(file: FileLike) -> JsonObject:
    """Return what a model file says of itself: its manifest, and what it takes and answers.

    Every member is read, so that a damaged file is refused. A trust policy isn't asked, and what
    the signature says isn't verified.

    Raises:
        ModelFileError: it isn't one, is damaged, or is of another format.
    """
    from modelwright.modelfile.signing import describe_signature

    with open_container(file, is_checked=False) as container:
        manifest = container.manifest
        for member in manifest.members:
            container.check_crc32(member.name, container.read(member.name))
        spec = FileSpec.from_bytes(container.read(SPEC))
        return manifest.to_json() | {
            "digest": manifest.digest,
            "parameters": manifest.parameters,
            "multiply_adds": manifest.multiply_adds,
            "size_bytes": manifest.size_bytes,
            "file_bytes": container.file_bytes,
            "task": spec.task,
            "labels": list(spec.labels),
            "input": spec.input,
            "output_kind": str(spec.output_kind),
            "inference": spec.inference.to_json(),
            "architecture": spec.architecture,
            "graph_steps": list(spec.graph_steps),
            "graphs": {name: graph.to_json() for name, graph in spec.graphs.items()},
            "lineage": list(parse_lineage(container.read(LINEAGE))),
            "evidence": len(parse_ledger(container.read(LEDGER))),
            "signature": container.signature
            and {**describe_signature(container.signature), "verified": False},
        }


def parse_lineage(data: bytes) -> tuple[JsonObject, ...]:
    """Return the steps that led to the model."""
    value = parse_json(data, name=LINEAGE)
    if not isinstance(value, list) or not all(isinstance(step, dict) for step in value):
        raise ModelFileError(f"`{LINEAGE}` isn't a list of steps")
    return tuple(value)


def parse_ledger(data: bytes) -> Ledger:
    """Return the evidence."""
    try:
        return Ledger(Evidence.from_json(record) for record in ledger_lines(data))
    except (TypeError, AttributeError) as error:
        raise ModelFileError(f"`{LEDGER}` holds a line that isn't evidence") from error


def ledger_lines(data: bytes) -> list[Json]:
    """Return the values of the evidence's lines, each a record or not."""
    if data and not data.endswith(b"\n"):
        raise ModelFileError(f"`{LEDGER}` ends within a line")
    check_json_size(data, name=LEDGER)
    return [parse_json(line, name=LEDGER) for line in data.split(b"\n")[:-1]]


def parse_golden(data: bytes, spec: FileSpec, *, tolerance: float) -> Golden:
    """Return the golden samples of a file."""
    arrays = read_arrays(data, name=GOLDEN)
    if not all(name.startswith((_INPUT, _OUTPUT)) for name in arrays):
        raise ModelFileError(f"`{GOLDEN}` holds an array that is neither input nor output")
    inputs, outputs = (
        {name.removeprefix(kind): arrays[name] for name in arrays if name.startswith(kind)}
        for kind in (_INPUT, _OUTPUT)
    )
    golden = Golden(inputs, outputs, tolerance)
    _check_golden(spec, golden)
    return golden


def _golden_bytes(golden: Golden) -> bytes:
    inputs = {_INPUT + name: array for name, array in golden.inputs.items()}
    outputs = {_OUTPUT + name: array for name, array in golden.outputs.items()}
    return write_arrays(inputs | outputs, name=GOLDEN)


def _check_golden(spec: FileSpec, golden: Golden) -> None:
    for tensors, arrays in ((spec.main.inputs, golden.inputs), (spec.main.outputs, golden.outputs)):
        counts = {len(array) if array.ndim else 0 for array in arrays.values()}
        if {tensor.name for tensor in tensors} != set(arrays) or len(counts) != 1 or 0 in counts:
            raise ModelFileError(f"`{GOLDEN}` doesn't hold a sample of each input and output")
    if len(next(iter(golden.inputs.values()))) != len(next(iter(golden.outputs.values()))):
        raise ModelFileError(f"`{GOLDEN}` holds another number of inputs than of outputs")


def _check_graphs(spec: FileSpec, weights: Arrays, graphs: Mapping[str, bytes]) -> None:
    if set(spec.graphs) != set(graphs):
        raise ModelFileError(f"`{SPEC}` and the graphs don't agree on {sorted(spec.graphs)}")
    check_encoded(weights, spec.encoded)
    # Which weights there are is known without decoding any.
    whole = weights | {name: _weight(weights, other) for name, other in spec.shared.items()}
    for graph in graphs.values():
        pick_weights(graph, whole)


def _check_artefacts(ledger: Ledger, artefacts: Mapping[str, bytes]) -> None:
    """Refuse artefacts that aren't those which the evidence names, more of them or fewer."""
    digests = {name: member_digest(data) for name, data in artefacts.items()}
    named = {item for record in ledger for item in record.artefacts.items()}
    for name, expected in sorted(named):
        if name not in digests:
            raise ModelFileError(f"evidence names the artefact {name[:80]!r}, which isn't there")
        if digests[name] != expected:
            raise ModelFileError(f"the artefact {name[:80]!r} isn't the one that evidence names")
    for name in sorted(digests.keys() - {name for name, _ in named}):
        raise ModelFileError(f"no evidence names the artefact {name[:80]!r}")


def whole_weights(spec: FileSpec, weights: Arrays) -> Arrays:
    """Return stored weights decoded, with those that are another one's under both names."""
    decoded = decode_arrays(weights, spec.encoded)
    return decoded | {name: _weight(decoded, other) for name, other in spec.shared.items()}


def pick_weights(graph: bytes, weights: Arrays) -> Arrays:
    """Return the weights that a graph asks for."""
    return {name: _weight(weights, name) for name in external_weights(graph)}


def _weight(weights: Arrays, name: str) -> Any:
    if name not in weights:
        raise ModelFileError(f"`{WEIGHTS}` has no `{name[:80]}`, which is needed")
    return weights[name]


def _ledger_bytes(ledger: Iterable[Evidence]) -> bytes:
    lines = (json_member(record.to_json(), name=LEDGER) + b"\n" for record in ledger)
    data = b"".join(lines)
    check_json_size(data, name=LEDGER)
    return data


def _object(data: bytes, name: str) -> JsonObject:
    value = parse_json(data, name=name)
    if not isinstance(value, dict):
        raise ModelFileError(f"`{name}` isn't an object")
    return value


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ModelFileError(f"`{RECIPE}` can't be written as UTF-8") from error


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ModelFileError(f"`{RECIPE}` isn't UTF-8") from error
