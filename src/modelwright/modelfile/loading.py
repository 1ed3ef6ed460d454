"""Loading a model file to predict from it, and the checks that a file passes before it answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelwright.errors import DataError, ModelFileError
from modelwright.kinds import OutputKind
from modelwright.modelfile.container import Container, FileLike, open_container
from modelwright.modelfile.contents import MODEL, Golden, assets_of, parse_golden, weights_of
from modelwright.modelfile.declaration import check_declaration
from modelwright.modelfile.generation import STEP, GraphStepper, TextGenerator
from modelwright.modelfile.inputs import PromptReader, Reader, SourceReader, check_batch, open_input
from modelwright.modelfile.manifest import GOLDEN, GRAPHS, LANGUAGE_MODEL, LEDGER, RECIPE, SPEC
from modelwright.modelfile.model import Model
from modelwright.modelfile.outputs import check_outputs, difference
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN, FileSpec, GraphSpec
from modelwright.modelfile.strict import parse_json
from modelwright.modelfile.tensors import Arrays
from modelwright.tasks.speech_recognition import CharacterLM

if TYPE_CHECKING:
    from modelwright.security.trust import Policy


def reload(path: str, digest: str, threads: int | None) -> Model:
    """Load a model file in another process, which must be the one that was loaded in the first.

    Raises:
        ModelFileError: it isn't there, or predicts otherwise than that one.
    """
    model = load(path, threads=threads)
    if model.digest != digest:
        raise ModelFileError(
            "this file has changed since the model was loaded that was sent here",
            where=path,
            why=f"Its model is {model.digest}, and was {digest}",
            fix="Load it again, and send that",
        )
    return model


def load(
    file: FileLike,
    *,
    threads: int | None = None,
    sandbox: bool = False,
    trust: Policy | str | os.PathLike[str] | None = None,
    identities: Sequence[str] | None = None,
) -> Model:
    """Load a model file to predict from it; the file isn't needed any more afterwards.

    Members are checked against their digests as they are read, and one golden sample is answered;
    `verify` checks all members and samples.

    Args:
        file: its path, its bytes, or a binary stream that can seek.
        threads: the number of processor threads; by default all that this process may use.
        sandbox: run its graphs in a process of their own, with limits on memory and time, for
            files of unknown origin.
        trust: a trust policy, or the file of one: the file must be signed by one of its signers.
            By default that of the variable `MODELWRIGHT_TRUST`, if it is set.
        identities: references to what opens a sealed file, `file:PATH` or `env:NAME`; by default
            those that the variable MODELWRIGHT_IDENTITY names.

    Raises:
        ModelFileError: it isn't a model file, is damaged or of another format, or doesn't answer
            here as it did where it was written.
        SignatureError: it isn't signed as the trust policy asks.
        RequestError: the trust policy can't be read, or isn't one.
        SealError: it is sealed, and none of the identities opens it.
    """
    with open_container(file, trust=trust, identities=identities) as container:
        spec = FileSpec.from_bytes(container.read(SPEC))
        weights = weights_of(container, spec)
        open_session = _sandboxed if sandbox else Session
        session = open_session(container.read(f"{GRAPHS}{MAIN}.onnx"), weights, threads=threads)
        assets = assets_of(container)
        graphs = {
            name: container.read(f"{GRAPHS}{name}.onnx") for name in spec.graphs if name != MAIN
        }

        def open_stepper() -> GraphStepper:
            sessions = {
                name: open_session(graph, weights, threads=threads)
                for name, graph in graphs.items()
            }
            for name, opened in sessions.items():
                check_names(spec.graphs[name], opened)
            return GraphStepper(spec.graphs, sessions)

        model = assemble(
            container,
            spec,
            weights=weights,
            assets=assets,
            session=session,
            open_stepper=open_stepper,
            path=Path(file).absolute() if isinstance(file, str | os.PathLike) else None,
            threads=threads,
        )
        tolerance = container.manifest.tolerance
        golden = parse_golden(container.read(GOLDEN), spec, tolerance=tolerance)
        check_golden(spec, session, golden, most=1)
        return model


def assemble(
    container: Container,
    spec: FileSpec,
    *,
    weights: Arrays,
    assets: Mapping[str, bytes],
    session: Session,
    open_stepper: Callable[[], GraphStepper],
    path: Path | None = None,
    threads: int | None = None,
) -> Model:
    """Return the model of an open file, whose declarations fit each other.

    Args:
        container: the open file.
        spec: what it declares.
        weights: its weights by name, decoded.
        assets: what else decides a prediction.
        session: of the graph that answers.
        open_stepper: opens the graphs that generate texts, when the first text is generated.
        path: where the file is, if it is on the disk.
        threads: the number of processor threads that was asked for.
    """
    reader = open_input(spec.input, assets)
    check_interface(spec, session, reader)
    generator = None
    if isinstance(reader, PromptReader | SourceReader) and STEP in spec.graphs:
        assert spec.inference.generate is not None  # `FileSpec` has checked.
        generator = TextGenerator(reader.spec, spec.inference.generate, open_stepper)
    return Model(
        spec=spec,
        manifest=container.manifest,
        session=session,
        reader=reader,
        recipe=container.read(RECIPE),
        ledger=container.read(LEDGER),
        weights=weights,
        path=path,
        threads=threads,
        file_bytes=container.file_bytes,
        generator=generator,
        language_model=open_language_model(spec, assets),
    )


def _sandboxed(graph: bytes, weights: Arrays, *, threads: int | None = None) -> Session:
    from modelwright.modelfile.sandbox import SandboxedSession

    return SandboxedSession(graph, weights, threads=threads)


def open_language_model(spec: FileSpec, assets: Mapping[str, bytes]) -> CharacterLM | None:
    """Return the character model with which a file decodes transcripts, if it has one."""
    data = assets.get(LANGUAGE_MODEL.removeprefix(MODEL))
    if data is None:
        return None
    language_model = CharacterLM.from_json(parse_json(data, name=LANGUAGE_MODEL))
    if spec.output_kind != OutputKind.CTC or language_model.model.characters != spec.labels:
        raise ModelFileError(f"`{LANGUAGE_MODEL}` is of other characters than the network's")
    return language_model


def check_interface(spec: FileSpec, session: Session, reader: Reader) -> None:
    """Refuse a graph whose inputs and outputs aren't those that the file declares."""
    check_names(spec.main, session)
    check_declaration(spec, reader)


def check_names(graph: GraphSpec, session: Session) -> None:
    """Refuse a graph whose inputs and outputs have other names than the file declares."""
    declared = tuple([tensor.name for tensor in part] for part in (graph.inputs, graph.outputs))
    if session.names() != declared:
        raise ModelFileError("the graph's inputs and outputs aren't those that the file declares")


def check_golden(
    spec: FileSpec, session: Session, golden: Golden, *, most: int | None = None
) -> float:
    """Answer the golden samples, and return how far the answers are from the recorded ones."""
    inputs = {name: array[:most] for name, array in golden.inputs.items()}
    try:
        count = check_batch(inputs, spec.main.inputs)
    except DataError as error:
        raise ModelFileError("the golden samples aren't what the model takes") from error
    outputs = session.run(inputs)
    check_outputs(outputs, spec.main.outputs, count=count)
    largest = max(
        difference(tensor.name, array, golden.outputs[tensor.name][:most])
        for array, tensor in zip(outputs, spec.main.outputs, strict=True)
    )
    if not largest <= golden.tolerance:
        raise ModelFileError(
            f"the model answers its golden samples differently here: by {largest:.2g}, where the "
            f"file allows {golden.tolerance:.2g}",
            why="This processor or onnxruntime computes otherwise, or the file was tampered with",
            fix="Try the onnxruntime version that `environment.json` in the file names",
        )
    return largest
