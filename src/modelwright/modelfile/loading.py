"""Loading a model file to predict from it, and the checks that a file passes before it answers."""

from __future__ import annotations

from collections.abc import Mapping

from modelwright.errors import DataError, ModelFileError
from modelwright.modelfile.container import FileLike, open_container
from modelwright.modelfile.contents import (
    MODEL,
    Golden,
    assets_of,
    read_golden,
    whole_weights,
)
from modelwright.modelfile.generation import (
    STEP,
    GraphStepper,
    TextGenerator,
    check_step_graphs,
)
from modelwright.modelfile.inputs import (
    PromptReader,
    Reader,
    SourceReader,
    check_batch,
    open_input,
)
from modelwright.modelfile.manifest import GRAPHS, LEDGER, RECIPE, SPEC, SPELLING, WEIGHTS
from modelwright.modelfile.model import Model
from modelwright.modelfile.outputs import (
    ANSWERS_BESIDE_LABELS,
    check_outputs,
    difference,
    forms_of,
)
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN, FileSpec
from modelwright.modelfile.strict import parse_json
from modelwright.modelfile.tensors import read_arrays
from modelwright.tasks.speech_recognition import Spelling


def load(file: FileLike, *, threads: int | None = None) -> Model:
    """Load a model file to predict from it; the file isn't needed any more afterwards.

    What is read is checked against its digests, and one golden sample is answered; `verify` checks
    all of both.

    Args:
        file: its path, its bytes, or a binary stream that can seek.
        threads: processor threads to answer with; all that this process may use where not said.

    Raises:
        ModelFileError: it isn't a model file, is damaged or of another format, or doesn't answer
            here as it did where it was written.
    """
    with open_container(file) as container:
        spec = FileSpec.from_bytes(container.read(SPEC))
        weights = whole_weights(spec, read_arrays(container.read(WEIGHTS), name=WEIGHTS))
        session = Session(container.read(f"{GRAPHS}{MAIN}.onnx"), weights, threads=threads)
        ledger = container.read(LEDGER)
        assets = assets_of(container)
        reader = open_input(spec.input, assets)
        check_interface(spec, session, reader)
        check_golden(spec, session, read_golden(container, spec), most=1)
        graphs = {
            name: container.read(f"{GRAPHS}{name}.onnx") for name in spec.graphs if name != MAIN
        }

        def open_stepper() -> GraphStepper:
            sessions = {
                name: Session(graph, weights, threads=threads) for name, graph in graphs.items()
            }
            return GraphStepper(spec.graphs, sessions)

        generator = None
        if isinstance(reader, PromptReader | SourceReader) and STEP in graphs:
            generator = TextGenerator(reader.spec, spec.output_kind, open_stepper)
        return Model(
            spec=spec,
            manifest=container.manifest,
            session=session,
            reader=reader,
            recipe=container.read(RECIPE),
            ledger=ledger,
            file_bytes=container.file_bytes,
            generator=generator,
            spelling=open_spelling(spec, assets),
        )


def open_spelling(spec: FileSpec, assets: Mapping[str, bytes]) -> Spelling | None:
    """Return how a file's texts are spelled, where it says so.

    Raises:
        ModelFileError: it is no spelling, or of other letters than the network's.
    """
    data = assets.get(SPELLING.removeprefix(MODEL))
    if data is None:
        return None
    spelling = Spelling.from_json(parse_json(data, name=SPELLING))
    if spec.output_kind != "frames" or spelling.model.letters != spec.labels:
        raise ModelFileError(f"`{SPELLING}` is of other letters than the network's")
    return spelling


def check_interface(spec: FileSpec, session: Session, reader: Reader) -> None:
    """Refuse a graph whose inputs and outputs aren't those that the file declares.

    Raises:
        ModelFileError: they aren't.
    """
    declared = (
        [tensor.name for tensor in spec.main.inputs],
        [tensor.name for tensor in spec.main.outputs],
    )
    if session.names() != declared or reader.tensors != spec.main.inputs:
        raise ModelFileError("the graph's inputs and outputs aren't those that the file declares")
    if spec.views not in reader.view_choices:
        raise ModelFileError(f"the views {spec.views!r:.40} aren't known to this version")
    forms = forms_of(spec.output_kind)
    if spec.views != "none" and len(forms) > 1:
        raise ModelFileError(f"outputs of the kind {spec.output_kind} aren't averaged over views")
    if [form.name for form in forms] != declared[1]:
        raise ModelFileError(f"the outputs aren't those of a network that gives {spec.output_kind}")
    more = ANSWERS_BESIDE_LABELS.get(spec.output_kind)
    if more is not None and spec.main.outputs[0].shape[-1] != len(spec.labels) + more:
        raise ModelFileError("the outputs are more or fewer than the labels")
    check_step_graphs(spec.graphs, spec.output_kind)


def check_golden(
    spec: FileSpec, session: Session, golden: Golden, *, most: int | None = None
) -> float:
    """Answer the golden samples, and return how far the answers are from the recorded ones.

    Raises:
        ModelFileError: they are farther than the file allows.
    """
    inputs = {name: array[:most] for name, array in golden.inputs.items()}
    try:
        count = check_batch(inputs, spec.main.inputs)
    except DataError as error:
        raise ModelFileError("the golden samples aren't what the model takes") from error
    found = session.run(inputs)
    check_outputs(found, spec.main.outputs, count=count)
    worst = max(
        difference(tensor.name, array, golden.outputs[tensor.name][:most])
        for array, tensor in zip(found, spec.main.outputs, strict=True)
    )
    if not worst <= golden.tolerance:
        raise ModelFileError(
            f"the model answers its golden samples differently here: by {worst:.2g}, where the "
            f"file allows {golden.tolerance:.2g}",
            why="This processor or onnxruntime computes otherwise, or the file was tampered with",
            fix="Try the onnxruntime version that `environment.json` in the file names",
        )
    return worst
