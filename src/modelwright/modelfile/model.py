"""A loaded model file: reading inputs, running the graph, averaging views, decoding.

Evaluation and serving both use it; torch isn't needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright.arrays import Array, Doubles, Floats
from modelwright.errors import DataError, ModelFileError, RequestError
from modelwright.kinds import OutputKind
from modelwright.ledger import Ledger
from modelwright.modelfile.contents import parse_ledger
from modelwright.modelfile.generation import TextGenerator
from modelwright.modelfile.inputs import Reader, Sample, all_read, by_name, check_batch
from modelwright.modelfile.manifest import Manifest
from modelwright.modelfile.outputs import FORMS, PROBABILITIES, check_lengths, check_outputs
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import FileSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, silent
from modelwright.tasks import TASKS, Prediction, Task
from modelwright.tasks.boxes import framing
from modelwright.tasks.classification import with_threshold
from modelwright.tasks.generation import Piece
from modelwright.tasks.inference import Inference
from modelwright.tasks.sampling import SamplingConfig
from modelwright.tasks.speech_recognition import CharacterLM, with_language_model

if TYPE_CHECKING:
    from torch import nn

CHUNK_BYTES = 1 << 20
"""Bytes of input in one pass: 341 images of CIFAR's size, 6 of 224 pixels."""
CHUNK_SAMPLES = 1024
ANSWER_BYTES = 64 << 20
"""Bytes of outputs of one pass: a vocabulary's logits for each token are many."""

_VIEWS = {"none": 1, "flip": 2, "speeds": 3, "flip_shift": 6}
_LIKELY_LENGTH = 4096
"""The value of a free length before inputs are read."""

_SHOWN = 8
"""So many labels are shown of a model."""

Batch = Array | Mapping[str, Array]
"""The array of the only input, or arrays by the inputs' names, or an array of records."""


class Model:
    """A loaded model file. `predict` answers; `outputs` gives the network's raw outputs.

    Threads may share a model, and a forked process may go on with it. Pickling one that was loaded
    from a path sends that path and the model's digest, never its weights; at the other end the file
    is loaded, and refused where its model has changed.
    """

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
        weights: Arrays,
        path: Path | None = None,
        threads: int | None = None,
        generator: TextGenerator | None = None,
        language_model: CharacterLM | None = None,
    ) -> None:
        self.spec = spec
        self.manifest = manifest
        self.file_bytes = file_bytes
        self.digest = manifest.digest
        self._session = session
        self._ledger = ledger
        self._reader = reader
        self._recipe = recipe
        self._weights = weights
        self._path = path
        self._asked_threads = threads
        self._generator = generator
        self._language_model = language_model
        self._chunk_samples = chunk_samples(spec)

    def __repr__(self) -> str:
        """Say what it is: task, input, labels, size, and how good it was measured to be."""
        kind, labels = self.spec.output_kind, self.labels
        answers = kind.noun
        if kind.has_classes or kind == OutputKind.REGRESSION:
            shown = ", ".join(labels[:_SHOWN]) + (", …" if len(labels) > _SHOWN else "")
            answers += f" of {len(labels)} ({shown})" if kind.has_classes else f" ({shown})"
        size = self.size_bytes
        sized = f"{size / 1e6:.3g} MB" if size >= 1e6 else f"{size / 1e3:.3g} kB"
        takes = self._reader.describe()
        return f"Model({self.task}: {takes} → {answers}; {sized}; {self._headline()})"

    def _headline(self) -> str:
        task = TASKS.get((self.task, self.spec.output_kind))
        record = None if task is None else self.ledger.find(task.goal[0])
        if record is None:
            return "not measured"
        name = record.metric.replace("_", " ")
        samples = (
            f"{record.n:,} {record.split} samples" if record.split else f"{record.n:,} samples"
        )
        between = f"95 % interval {record.low:.4g}–{record.high:.4g}"
        return f"{name} {record.value:.4g} ({between}, {samples})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the path and the digest, from which another process loads the same file.

        Raises:
            ModelFileError: it was loaded from bytes or a stream.
        """
        from modelwright.modelfile.loading import reload

        if self._path is None:
            raise ModelFileError(
                "a model that was loaded from bytes or a stream can't be sent to another process",
                fix="Load it from a path, which both processes can read",
            )
        return reload, (str(self._path), self.digest, self._asked_threads)

    @property
    def task(self) -> str:
        """The name of the task: `image-classification`."""
        return self.spec.task

    @property
    def scoring(self) -> Task:
        """The task, which decodes outputs with the file's threshold or language model.

        Raises:
            ModelFileError: this version doesn't know the task.
        """
        task = TASKS.get((self.task, self.spec.output_kind))
        if task is None:
            raise ModelFileError(
                f"the task `{self.task}` isn't known to this version", fix="Update modelwright"
            )
        threshold = self.inference.threshold
        if threshold is not None:
            return with_threshold(task, threshold.label, threshold.probability)
        return task if self._language_model is None else with_language_model(self._language_model)

    @property
    def input(self) -> Any:
        """How a sample becomes what the network takes: `ImageInput` for images.

        Raises:
            ModelFileError: the model takes arrays, which the caller prepares.
        """
        if self._reader.spec is None:
            raise ModelFileError("the model takes arrays that the caller has prepared")
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
    def inference(self) -> Inference:
        """The settings that decide an answer beyond the weights."""
        return self.spec.inference

    @property
    def parameters(self) -> int:
        """The number of learnt parameters."""
        return self.manifest.parameters

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one forward pass of one sample, for one view."""
        return self.manifest.multiply_adds

    @property
    def size_bytes(self) -> int:
        """The size of all that decides a prediction: the members under `model/`."""
        return self.manifest.size_bytes

    @property
    def path(self) -> Path | None:
        """The file that it was loaded from; `None` where that was bytes or a stream."""
        return self._path

    @property
    def threads(self) -> int:
        """The number of processor threads."""
        return self._session.threads

    @property
    def ledger(self) -> Ledger:
        """The evidence that the file held when it was loaded."""
        return parse_ledger(self._ledger)

    def predict(self, inputs: Any, *, top: int | None = None, observe: Observe = silent) -> Any:
        """Answer one input, or a list or batch of them.

        Args:
            inputs: for images a path, an image file's bytes, a PIL image, or pixels `[H, W, C]` or
                `[H, W]`; or a list of these; or pixels `[N, H, W, C]` or `[N, H, W]`. For texts a
                text, or the `Path` of a text file; for recordings a path, a file's bytes, or
                samples `[T]` at the model's rate; or a list of these. A list may also be a column
                (pandas, polars, Arrow) or a NumPy array of texts or objects. Tensors of torch's
                have the axes that they have there: `[C, H, W]`, `[N, C, H, W]`, `[C, T]`.
            top: the most answers of each input, best first; by default 5, or all where a sample may
                have several labels.
            observe: called with a note for each text or recording that is truncated.

        Returns:
            For one input a list such as `[{"label": "cat", "probability": 0.97}, …]`, best first;
            for several a list of these. Where a sample may have several labels or none, each answer
            also says whether its label is `"predicted"`. A box `[x1, y1, x2, y2]` is in pixels of
            the original image, turned as EXIF says; all boxes above the score threshold are
            returned, whatever `top` is. A generated text or predicted numbers are one answer.

        Raises:
            DataError: an input can't be read, or isn't what the model takes.
        """
        top = self._at_most(top)
        split = self._reader.split_inputs(inputs)
        answers: list[Any] = []
        for samples in self._chunks(split.items, observe):
            answers += self.answer(samples, top=top)
        return answers[0] if split.is_one else answers

    def predict_proba(self, inputs: Any, *, observe: Observe = silent) -> Doubles:
        """Return the probability of each label, as scikit-learn's method of this name does.

        Args:
            inputs: as `predict` takes them; a single one counts as a list of one.
            observe: called with a note for each text or recording that is truncated.

        Returns:
            An array `[N, K]` whose columns are in the order of `labels`. Where a sample is of one
            label, each row sums to 1; where it may have several, each probability is by itself.

        Raises:
            RequestError: the model doesn't predict labels of whole samples.
            DataError: an input can't be read, or isn't what the model takes.
        """
        kind = self.spec.output_kind
        to_probabilities = PROBABILITIES.get(FORMS[kind][0].name)
        if to_probabilities is None or not kind.has_classes:
            raise RequestError(
                f"a model for `{self.task}` has no probability for each label", fix="Use `predict`"
            )
        rows: list[Floats] = [np.empty((0, len(self.labels)))]
        for samples in self._chunks(self._reader.split_inputs(inputs).items, observe):
            parts = self._parts(self._reader.collate(samples))
            rows += [to_probabilities(outputs) for (outputs,) in parts]
        return np.concatenate(rows)

    def _chunks(self, items: Sequence[Any], observe: Observe) -> Iterator[list[Sample]]:
        """Yield what is read of inputs, so many at once that memory stays bounded."""
        for start in range(0, len(items), self._chunk_samples):
            chunk = items[start : start + self._chunk_samples]
            yield all_read(self._reader.read_each(chunk, first=start, observe=observe))

    def to_torch(self) -> nn.Module:
        """Build the network in torch, with its own copy of the weights, in evaluation mode.

        It takes, as tensors and in the same order, what the graph takes (`spec.main.inputs`: for
        images pixels uint8 `[N, H, W, C]`, for texts `tokens` and `length`), and returns the raw
        outputs (for a classification logits `[N, K]`). Test-time augmentation, the temperature
        and the decision threshold aren't part of it.

        Raises:
            ModelFileError: its architecture isn't known to this version.
            MissingExtraError: torch isn't installed.
        """
        from modelwright.modelfile.torch_runtime import network_of

        return network_of(self.spec, self._weights)

    def read(self, inputs: Any, *, observe: Observe = silent) -> list[Sample | DataError]:
        """Read each input by itself, so that one that can't be read doesn't fail the others.

        Args:
            inputs: one input, or a list or batch of them, as `predict` takes them.
            observe: called with a note for each text or recording that is truncated.

        Returns:
            For each input the sample that `answer` takes, or the error, which names the input.
        """
        return self._reader.read_each(self._reader.split_inputs(inputs).items, observe=observe)

    def answer(
        self, samples: Sequence[Sample], *, top: int | None = None
    ) -> list[list[Prediction]]:
        """Answer samples that `read` has returned, as one batch; see `predict`."""
        top = self._at_most(top)
        if not samples:
            return []
        answers = self.answer_batch(self._reader.collate(samples), top=top)
        if self.spec.output_kind == OutputKind.BOXES:
            return [self._in_image(*pair) for pair in zip(answers, samples, strict=True)]
        return answers

    def answer_batch(
        self, batch: Arrays, *, top: int | None = None, max_new_tokens: int | None = None
    ) -> list[list[Prediction]]:
        """Answer what the graph takes; boxes are in pixels of the network's input.

        Args:
            batch: the arrays by the graph's names.
            top: the most answers of each sample.
            max_new_tokens: the most tokens of a generated text, where the file allows more.
        """
        if self._generator is not None:
            count = len(batch[self.spec.main.inputs[0].name])
            texts = self._generator.write(batch, count, max_new_tokens=max_new_tokens)
            return [[{"text": text}] for text in texts]
        top = self._at_most(top)
        answers: list[list[Prediction]] = []
        for outputs in self._parts(batch):
            raw = outputs if len(outputs) > 1 else outputs[0]
            answers += self.scoring.decode(raw, self.labels, top)
        return answers

    def _at_most(self, top: int | None) -> int:
        if top is None:
            top = self.scoring.top or len(self.labels)
        if top < 1:
            raise RequestError(f"`top` is how many answers to give, at least 1; got {top}")
        return top

    def _in_image(self, answers: list[Prediction], sample: Sample) -> list[Prediction]:
        """Return boxes in pixels of the original image, where the sample was read from one."""
        if sample.size is None:
            return answers
        width, height = sample.size
        frame = framing(self.input, width=width, height=height)
        return [{**item, "box": frame.to_image(np.array(item["box"])).tolist()} for item in answers]

    def generate(
        self, inputs: Any, config: SamplingConfig | None = None, *, observe: Observe = silent
    ) -> Iterator[Piece]:
        """Sample texts token by token, and yield each piece as soon as it is known.

        The result depends on the seed and on the prompt alone, not on the rest of the batch.

        Args:
            inputs: a text or several: prompts of a language model, or source texts.
            config: how tokens are drawn; by default as the file says.
            observe: called with a note for each text that is truncated.

        Raises:
            RequestError: the model generates no texts.
            DataError: an input can't be read.
        """
        if self._generator is None:
            raise RequestError(f"a model for `{self.task}` generates no texts")
        samples = all_read(self.read(inputs, observe=observe))
        return self._generator.sample(self._reader.collate(samples), config)

    def outputs(self, inputs: Batch, /) -> Any:
        """Return the network's outputs; a tuple where it has several.

        They are averaged over the views, and logits are divided by the temperature.

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
                np.empty((0, *_fixed(tensor.shape[1:], 1)), tensor.dtype)
                for tensor in self.spec.main.outputs
            )
            return empty if len(empty) > 1 else empty[0]
        parts = list(self._parts(batch))
        joined = tuple(joined_outputs(items) for items in zip(*parts, strict=True))
        return joined if len(joined) > 1 else joined[0]

    def _parts(self, batch: Arrays) -> Iterator[tuple[Array, ...]]:
        """Answer a batch in parts of about `CHUNK_BYTES`, whatever its lengths."""
        count = len(batch[self.spec.main.inputs[0].name])
        sample = sum(array.nbytes for array in batch.values()) // max(count, 1)
        max_length = max((array.shape[1] for array in batch.values() if array.ndim > 1), default=1)
        answer = sum(
            4 * math.prod(_fixed(tensor.shape[1:], max_length)) for tensor in self.spec.main.outputs
        )
        views = _VIEWS[self.inference.tta]
        step = min(CHUNK_SAMPLES, CHUNK_BYTES // max(1, sample), ANSWER_BYTES // max(1, answer))
        step = max(1, step // views)
        for start in range(0, count, step):
            yield self._answer({name: array[start : start + step] for name, array in batch.items()})

    def _answer(self, batch: Arrays) -> tuple[Array, ...]:
        """Return the outputs of one chunk: all its views in one pass, then their weighted mean."""
        views, weights = self._reader.views(batch, self.inference.tta)
        if len(views) == 1:
            answered = self._run(views[0])
        else:
            (outputs,) = self._run(
                {name: np.concatenate([view[name] for view in views]) for name in batch}
            )
            by_view = outputs.reshape(len(views), -1, *outputs.shape[1:])
            answered = (np.tensordot(weights, by_view, axes=1).astype(np.float32),)
        if not self.inference.temperature:
            return answered
        (logits,) = answered
        return (logits / np.array(self.inference.temperature, logits.dtype),)

    def _run(self, batch: Arrays) -> tuple[Array, ...]:
        outputs = self._session.run(batch)
        count = len(batch[self.spec.main.inputs[0].name])
        check_outputs(outputs, self.spec.main.outputs, count=count)
        check_lengths(outputs, self.spec.main.outputs, batch)
        return tuple(outputs)


def joined_outputs(parts: Sequence[Array]) -> Array:
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


def chunk_samples(spec: FileSpec) -> int:
    """Return how many samples to answer at once, so that memory stays bounded."""
    views = _VIEWS[spec.inference.tta]
    sample = sum(
        math.prod(_fixed(tensor.shape[1:], _LIKELY_LENGTH)) * np.dtype(tensor.dtype).itemsize
        for tensor in spec.main.inputs
    )
    return max(1, min(CHUNK_SAMPLES, CHUNK_BYTES // max(1, sample)) // views)


def _fixed(shape: tuple[int | str, ...], free: int) -> list[int]:
    """Return the sizes of a shape, with the number `free` in place of free ones."""
    return [size if isinstance(size, int) else free for size in shape]
