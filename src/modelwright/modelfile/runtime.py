"""Predicting from a model file through onnxruntime: what is measured and what is served.

Neither torch nor the network is touched. The weights are handed to onnxruntime by name, so the file
holds them once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import DataError, ModelFileError, RequestError
from modelwright.ledger import Ledger
from modelwright.modelfile.container import open_container
from modelwright.modelfile.contents import (
    MODEL,
    Golden,
    assets_of,
    parse_ledger,
    pick_weights,
    read_golden,
    whole_weights,
)
from modelwright.modelfile.inputs import (
    ArraysReader,
    AudioReader,
    ImageReader,
    PromptReader,
    Reader,
    SourceReader,
    TextReader,
    by_name,
    check_batch,
    open_input,
)
from modelwright.modelfile.manifest import (
    GRAPHS,
    LEDGER,
    RECIPE,
    SPEC,
    SPELLING,
    WEIGHTS,
    Manifest,
)
from modelwright.modelfile.outputs import (
    ANSWERS_BESIDE_LABELS,
    check_outputs,
    difference,
    forms_of,
)
from modelwright.modelfile.spec import MAIN, FileSpec
from modelwright.modelfile.strict import parse_json
from modelwright.modelfile.tensors import Arrays, read_arrays
from modelwright.modelfile.writing import STEP, GraphStepper, check_step_graphs, prompts
from modelwright.run import Observe, silent, usable_cores
from modelwright.tasks import Prediction, Task, task_giving
from modelwright.tasks.boxes import framing
from modelwright.tasks.generation import (
    BeamSpec,
    GenerateSpec,
    Ids,
    Piece,
    beam_search,
    collect,
    generate,
)
from modelwright.tasks.speech_recognition import Spelling, spelled
from modelwright.transforms.hf_tokenizer import HFTokenizer
from modelwright.transforms.text import BEGIN
from modelwright.transforms.tokenizing import Tokenizer

CHUNK_BYTES = 1 << 20
"""So many bytes of input are answered at once: 341 images of CIFAR's size, 6 of 224 pixels."""
CHUNK_SAMPLES = 1024
ANSWER_BYTES = 64 << 20
"""So many bytes of answers are held at once: a vocabulary's logits for each token are many."""
WRITTEN_AT_ONCE = 64
"""So many texts are written side by side."""
LONGEST_WRITTEN, TEMPERATURE = 200, 0.8
"""How a language model writes on where nothing is said: so many tokens, drawn so."""
LENGTH_PENALTY = 1.0
"""What beam search favours longer texts by."""

_VIEWS = {"none": 1, "flip": 2, "speeds": 3}
_LIKELY_LENGTH = 4096
"""What a free length is taken to be before inputs are read."""

Batch = NDArray[Any] | Mapping[str, NDArray[Any]]


class Session:
    """A graph with its weights in onnxruntime.

    Args:
        graph: ONNX, naming its weights.
        weights: at least those that it names.
        threads: processor threads; all that this process may use where not said.

    Raises:
        ModelFileError: this onnxruntime can't run the graph.
    """

    def __init__(self, graph: bytes, weights: Arrays, *, threads: int | None = None) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        own = (item for item in vars(state).values() if isinstance(item, type))
        self._errors: tuple[type[Exception], ...] = (
            *(kind for kind in own if issubclass(kind, Exception)),
            RuntimeError,
            ValueError,
        )
        self.threads = threads or usable_cores()
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised, not printed
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        chosen = pick_weights(graph, weights)
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in chosen.values()]
        try:
            if chosen:
                options.add_external_initializers(list(chosen), values)
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except self._errors as error:
            raise ModelFileError(
                f"onnxruntime {onnxruntime.__version__} can't run the graph",
                why=str(error).splitlines()[0][:200],
                fix="Run `modelwright verify` on the file; if it is intact, update onnxruntime",
            ) from error

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the graph's outputs.

        Raises:
            ModelFileError: onnxruntime gave up, for want of memory perhaps.
        """
        try:
            found: list[NDArray[Any]] = self._session.run(None, dict(inputs))
        except self._errors as error:
            raise ModelFileError(
                f"onnxruntime gave up on {_shapes(inputs)}", why=str(error).splitlines()[0][:200]
            ) from error
        return found

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of the inputs and of the outputs."""
        return (
            [node.name for node in self._session.get_inputs()],
            [node.name for node in self._session.get_outputs()],
        )


class Model:
    """A loaded model file. `predict` answers; `outputs` gives the network's raw outputs."""

    def __init__(
        self,
        *,
        spec: FileSpec,
        manifest: Manifest,
        session: Session,
        reader: Reader,
        recipe: bytes,
        ledger: bytes,
        file_bytes: int,
        open_stepper: Callable[[], GraphStepper] | None = None,
        spelling: Spelling | None = None,
    ) -> None:
        self._spelling = spelling
        self._open_stepper = open_stepper
        self._stepper: GraphStepper | None = None
        self.spec = spec
        self.manifest = manifest
        self.file_bytes = file_bytes
        self.digest = manifest.digest
        self._session = session
        self._ledger = ledger
        self._reader = reader
        self._recipe = recipe
        self._most = chunk_samples(spec)

    @property
    def task(self) -> str:
        """What it predicts from what: `image-classification`."""
        return self.spec.task

    @property
    def scoring(self) -> Task:
        """The task: how answers are read from outputs, by all that the file holds for it.

        Raises:
            ModelFileError: this version doesn't know it.
        """
        task = task_giving(self.task, self.spec.output_kind)
        if task is None:
            raise ModelFileError(
                f"the task `{self.task}` isn't known to this version", fix="Update modelwright"
            )
        return task if self._spelling is None else spelled(self._spelling)

    @property
    def input(self) -> Any:
        """How a sample becomes what the network takes: the host steps, `ImageInput` for images.

        Raises:
            ModelFileError: it has none: the caller prepares the arrays.
        """
        if isinstance(self._reader, ArraysReader):
            raise ModelFileError("the model takes arrays that the caller has prepared")
        assert isinstance(
            self._reader, ImageReader | TextReader | PromptReader | SourceReader | AudioReader
        )
        return self._reader.spec

    @property
    def recipe(self) -> str:
        """The recipe that it was made from, every default written out."""
        return self._recipe.decode()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names, in the order of the outputs."""
        return self.spec.labels

    @property
    def views(self) -> str | int:
        """The test-time averaging: `none`, of images `flip` or 6, of recordings `speeds`."""
        return self.spec.views

    @property
    def parameters(self) -> int:
        """How many numbers the network learnt."""
        return self.manifest.parameters

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one pass of one sample, for one view."""
        return self.manifest.multiply_adds

    @property
    def size_bytes(self) -> int:
        """The bytes of all that decides a prediction: the members under `model/`."""
        return self.manifest.size_bytes

    @property
    def threads(self) -> int:
        """Processor threads that it answers with."""
        return self._session.threads

    @property
    def ledger(self) -> Ledger:
        """The evidence that the file held when it was loaded."""
        return parse_ledger(self._ledger)

    def predict(self, inputs: Any, *, top: int | None = None, observe: Observe = silent) -> Any:
        """Answer one input, or a list or batch of them.

        Args:
            inputs: for images a path, an image file's bytes, a PIL image, or pixels `[H, W, C]` or
                `[H, W]`; or a list of these; or pixels `[N, H, W, C]`. For texts a text, or the
                `Path` of a text file; for recordings a path, a file's bytes, or samples `[T]` at the
                model's rate; or a list of these.
            top: how many answers at most, best first; where not said 5, and of samples that may
                have several labels all.
            observe: told of each text or recording that is longer than what the model takes: as in
                training the end is cut off, and of a text to go on from the beginning.

        Returns:
            For one input a list such as `[{"label": "cat", "probability": 0.97}, …]`, best first;
            for several a list of these. Where a sample may have several labels or none, each
            answer also says whether its label is `"chosen"`. A box `[x1, y1, x2, y2]` is in pixels
            of the image that was handed over, turned as EXIF says; all that are sure enough are
            given, whatever `top` is. Of texts that are written, and of numbers, there is one.

        Raises:
            DataError: an input can't be read, or isn't what the model takes.
        """
        if top is None:
            top = self.scoring.top or len(self.labels)
        if top < 1:
            raise RequestError(f"`top` is how many answers to give, at least 1; got {top}")
        given = self._reader.split_inputs(inputs)
        answers: list[list[Prediction]] = []
        for start in range(0, len(given.items), self._most):
            items = given.items[start : start + self._most]
            if self._open_stepper is not None:
                answers += [[{"text": text}] for text in self._write(items, start, observe)]
                continue
            batch, sizes = self._read(items, start, observe)
            found: list[list[Prediction]] = []
            for outputs in self._parts(batch):
                raw = outputs if len(outputs) > 1 else outputs[0]
                found += self.scoring.decode(raw, self.labels, top)
            answers += found if sizes is None else self._in_images(found, sizes)
        return answers[0] if given.is_one else answers

    def _read(
        self, items: Sequence[Any], first: int, observe: Observe
    ) -> tuple[Arrays, list[tuple[int, int]] | None]:
        """Return a batch; where answers are places in images, also the images' sizes."""
        if self.spec.output_kind == "boxes" and isinstance(self._reader, ImageReader):
            return self._reader.read_sized(items, first=first)
        return self._reader.read(items, first=first, observe=observe), None

    def _in_images(
        self, found: list[list[Prediction]], sizes: Sequence[tuple[int, int]]
    ) -> list[list[Prediction]]:
        """Return boxes in pixels of the images as they were handed over."""
        frames = [framing(self.input, width=width, height=height) for width, height in sizes]
        return [
            [{**item, "box": frame.to_image(np.array(item["box"])).tolist()} for item in of_image]
            for of_image, frame in zip(found, frames, strict=True)
        ]

    def generate(
        self, inputs: Any, how: GenerateSpec | None = None, *, observe: Observe = silent
    ) -> Iterator[Piece]:
        """Write texts token by token, and yield each piece as soon as it is known.

        What is drawn depends on the seed of `how` and on what is gone on from, not on the texts
        beside it: a text has the same answer alone, in any batch, and twice in one. Another seed
        gives another.

        Args:
            inputs: a text or several: what a language model goes on from, or what the text is
                written from.
            how: how tokens are drawn.
            observe: told of each text that is longer than what the model takes.

        Raises:
            RequestError: the model doesn't write.
            DataError: an input can't be read.
        """
        return self._draw(self._reader.split_inputs(inputs).items, how, 0, observe)

    def _draw(
        self, items: Sequence[Any], how: GenerateSpec | None, first: int, observe: Observe
    ) -> Iterator[Piece]:
        writer = self._writer()
        begun, tokens, numbers = self._begin(items, first, observe)
        return generate(
            writer,
            begun,
            tokens,
            spec=how or GenerateSpec(max_new_tokens=LONGEST_WRITTEN, temperature=TEMPERATURE),
            decode=self._tokenizer().decode,
            samples=numbers,
            rooms=self._rooms(tokens),
        )

    def _rooms(self, tokens: Ids) -> list[int] | None:
        """Return how many tokens each prompt `[N, S]` may go on with, where the network is bound.

        The last of them takes no place: nothing is asked behind it.
        """
        places = self._reader.spec.places if isinstance(self._reader, PromptReader) else None
        if places is None:
            return None
        return [places + 1 - int(np.count_nonzero(row)) for row in tokens]

    def _write(self, items: Sequence[Any], first: int, observe: Observe) -> list[str]:
        """Return a text for each item: a language model draws one, others look for the best."""
        if self.spec.output_kind == "tokens":
            pieces = self._draw(items, None, first, observe)
            return [written.text for written in collect(pieces, len(items))]
        begun, tokens, _ = self._begin(items, first, observe)
        found: list[str] = []
        for start in range(0, len(items), WRITTEN_AT_ONCE):
            part = slice(start, start + WRITTEN_AT_ONCE)
            best = beam_search(
                self._writer(),
                {name: array[part] for name, array in begun.items()},
                tokens[part],
                spec=BeamSpec(max_new_tokens=self._longest(), length_penalty=LENGTH_PENALTY),
            )
            found += [self._tokenizer().decode(item.ids) for item in best]
        return found

    def _begin(
        self, items: Sequence[Any], first: int, observe: Observe
    ) -> tuple[Arrays, Ids, list[int]]:
        """Return what a network starts from, its first tokens, and each text's number."""
        batch = self._reader.read(items, first=first, observe=observe)
        if self.spec.output_kind == "tokens":
            rows = [row[: int(np.count_nonzero(row))] for row in batch["tokens"]]
            return (*prompts([[BEGIN, *row.tolist()] for row in rows]), _numbers(rows))
        source = {name: batch[name] for name in ("source", "source_length")}
        rows = [row[:size] for row, size in zip(*source.values(), strict=True)]
        return source, np.full((len(items), 1), BEGIN, np.int64), _numbers(rows)

    def _writer(self) -> GraphStepper:
        if self._open_stepper is None:
            raise RequestError(f"a model for `{self.task}` writes no texts")
        if self._stepper is None:
            self._stepper = self._open_stepper()
        return self._stepper

    def _tokenizer(self) -> Tokenizer | HFTokenizer:
        assert isinstance(self._reader, PromptReader | SourceReader)
        return self._reader.spec.tokenizer

    def _longest(self) -> int:
        assert isinstance(self._reader, PromptReader | SourceReader)
        return self._reader.spec.max_length

    def outputs(self, inputs: Batch, /) -> Any:
        """Return the network's raw outputs, averaged over the views; a tuple where it has several.

        Args:
            inputs: for images pixels uint8 `[N, H, W, C]`; else the arrays by the graph's names,
                or an array of records with these as fields.

        Returns:
            For a classification logits float32 `[N, K]`.

        Raises:
            DataError: the arrays aren't what the model takes.
        """
        tensors = self.spec.main.inputs
        batch = by_name(inputs, tensors)
        count = check_batch(batch, tensors)
        if not count:
            empty = tuple(
                np.empty((0, *_free(tensor.shape[1:])), tensor.dtype)
                for tensor in self.spec.main.outputs
            )
            return empty if len(empty) > 1 else empty[0]
        parts = list(self._parts(batch))
        joined = tuple(joined_outputs(items) for items in zip(*parts, strict=True))
        return joined if len(joined) > 1 else joined[0]

    def _parts(self, batch: Arrays) -> Iterator[tuple[NDArray[Any], ...]]:
        """Answer a batch in parts of about `CHUNK_BYTES`, whatever its lengths."""
        count = len(batch[self.spec.main.inputs[0].name])
        sample = sum(array.nbytes for array in batch.values()) // max(count, 1)
        max_length = max((array.shape[1] for array in batch.values() if array.ndim > 1), default=1)
        answer = sum(
            4
            * math.prod(size if isinstance(size, int) else max_length for size in tensor.shape[1:])
            for tensor in self.spec.main.outputs
        )
        views = _VIEWS.get(str(self.views), 6)
        step = min(CHUNK_SAMPLES, CHUNK_BYTES // max(1, sample), ANSWER_BYTES // max(1, answer))
        step = max(1, step // views)
        for start in range(0, count, step):
            yield self._answer({name: array[start : start + step] for name, array in batch.items()})

    def _answer(self, batch: Arrays) -> tuple[NDArray[Any], ...]:
        """Return the outputs of one chunk: all its views in one pass, then their weighted mean."""
        views, weights = self._reader.views(batch, self.views)
        if len(views) == 1:
            return self._run(views[0])
        (outputs,) = self._run(
            {name: np.concatenate([view[name] for view in views]) for name in batch}
        )
        by_view = outputs.reshape(len(views), -1, *outputs.shape[1:])
        return (np.tensordot(weights, by_view, axes=1).astype(np.float32),)

    def _run(self, batch: Arrays) -> tuple[NDArray[Any], ...]:
        found = self._session.run(batch)
        count = len(batch[self.spec.main.inputs[0].name])
        check_outputs(found, self.spec.main.outputs, count=count)
        return tuple(found)


def _numbers(rows: Sequence[Ids]) -> list[int]:
    """Return a number for each text, by its tokens alone, from which its random figures come."""
    digests = (hashlib.sha256(row.astype("<i8").tobytes()).digest() for row in rows)
    return [int.from_bytes(digest[:8], "little") for digest in digests]


def joined_outputs(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return one output of several chunks, those that are shorter padded with zeros."""
    if len(parts) == 1:
        return parts[0]
    if parts[0].ndim > 1 and len({part.shape[1] for part in parts}) > 1:
        max_length = max(part.shape[1] for part in parts)
        parts = [
            np.pad(part, [(0, 0), (0, max_length - part.shape[1]), *[(0, 0)] * (part.ndim - 2)])
            for part in parts
        ]
    return np.concatenate(parts)


def load(path: Path | str, *, threads: int | None = None) -> Model:
    """Load a model file to predict from it.

    What is read is checked against its digests, and one golden sample is answered; `verify` checks
    all of both.

    Args:
        path: the file.
        threads: processor threads to answer with; all that this process may use where not said.

    Raises:
        ModelFileError: it isn't a model file, is damaged or of a newer format, or doesn't answer
            here as it did where it was written.
    """
    path = Path(path)
    with open_container(path) as container:
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

        return Model(
            spec=spec,
            manifest=container.manifest,
            session=session,
            reader=reader,
            recipe=container.read(RECIPE),
            ledger=ledger,
            file_bytes=container.file_bytes,
            open_stepper=open_stepper if STEP in graphs else None,
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


def chunk_samples(spec: FileSpec) -> int:
    """Return how many samples to answer at once, so that memory stays bounded."""
    views = _VIEWS.get(str(spec.views), 6)
    sample = sum(
        math.prod(_likely(tensor.shape[1:])) * np.dtype(tensor.dtype).itemsize
        for tensor in spec.main.inputs
    )
    return max(1, min(CHUNK_SAMPLES, CHUNK_BYTES // max(1, sample)) // views)


def _likely(shape: tuple[int | str, ...]) -> list[int]:
    return [size if isinstance(size, int) else _LIKELY_LENGTH for size in shape]


def _free(shape: tuple[int | str, ...]) -> list[int]:
    return [size if isinstance(size, int) else 1 for size in shape]


def _shapes(inputs: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
