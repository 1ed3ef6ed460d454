"""The networks that teach in `distill`: whether they fit, and what they answer.

A teacher that takes samples as the student does sees each batch as the student sees it, augmented
alike (Beyer et al. 2022, `Knowledge distillation: A good teacher is patient and consistent`); where
its answers are short, it gives them once for a few augmented versions of each sample, which come
again. One that takes samples otherwise, or whose layers are int8, answers each training sample
once, as it is. The answers are kept in the folder of the stage.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from modelwright import modelfile
from modelwright.arrays import Array, Ints
from modelwright.data import Dataset, Prepared, Split, prepare_again
from modelwright.data.batches import Batch, Batches
from modelwright.errors import MissingExtraError, ModelFileError, RequestError
from modelwright.files import JsonObject
from modelwright.kinds import VECTOR_OUTPUTS, OutputKind
from modelwright.models.candidate import Candidate
from modelwright.models.summary import multiply_adds
from modelwright.recipe import Recipe
from modelwright.recipe.compression import DistillStep
from modelwright.recipe.preparation import AudioSpec, AugmentSpec, TextSpec, TransformsSpec
from modelwright.run import Progress, Run
from modelwright.tasks import Task
from modelwright.training import validation_scores
from modelwright.training.answers import ViewAnswers, answers_to
from modelwright.transforms.inputs import Input

_VIEWS = 8
"""So many augmented versions of a sample are answered: enough that a student doesn't tire of them,
and few enough that a teacher's passes cost less than the student's steps."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A network that teaches."""

    path: Path | None
    """Its file; `None` of the network before the step."""
    digest: str
    network: nn.Module | None
    """In evaluation mode, its outputs in the order of the student's labels; `None` where only
    onnxruntime can run it."""
    model: modelfile.Model | None
    """Its file, where only onnxruntime can run it."""
    input: Input
    order: tuple[int, ...]
    """The place of each of the student's labels among its own; empty where they are the same."""

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        return _shown(self.path)

    @property
    def plain(self) -> nn.Module:
        """Its network, with its own labels."""
        network = self.network.network if isinstance(self.network, Ordered) else self.network
        assert isinstance(network, nn.Module)
        return network

    def facts(self) -> JsonObject:
        """Return what the model file's lineage says of it."""
        if self.path is None:
            return {"file": None}
        return {"file": self.path.name, "model": self.digest}

    def sees_alike(self, student: Candidate) -> bool:
        """Say whether it can be given the batches that a student learns from."""
        if self.network is None:
            return False
        own, other = self.input.to_json(), student.input.to_json()
        if student.output_kind.is_generative and own["max_length"] >= other["max_length"]:
            own["max_length"] = other["max_length"]  # What is shorter means the same.
        return own == other

    def multiply_adds(self, split: Split) -> int:
        """Return its multiply-adds for a sample of a split that is as it takes them."""
        if self.network is None:
            assert self.model is not None
            return self.model.multiply_adds
        return size_of(self.network, split)[1]

    def outputs(self, split: Split, rows: Ints) -> Array:
        """Return raw outputs `[N, K]` for samples of a split that is as it takes them."""
        if self.network is not None:
            device = next(self.network.parameters()).device
            batch = Batches(split, device=str(device)).at(0, rows)
            with torch.inference_mode():
                found: Array = self.network(*batch.inputs).float().cpu().numpy()
            return found
        assert self.model is not None
        outputs = self.model.outputs(split.gather(rows))
        temperature = self.model.inference.temperature
        if temperature:  # The step divides by its own.
            outputs = outputs * np.array(temperature, outputs.dtype)
        return cast("Array", outputs[:, list(self.order)] if self.order else outputs)


def size_of(network: nn.Module, split: Split) -> tuple[int, int]:
    """Return a network's parameters and its multiply-adds for the first sample of a split."""
    inputs = Batches(split).at(0, np.arange(1)).inputs
    network = copy.deepcopy(network).cpu().eval()
    return sum(item.numel() for item in network.parameters()), multiply_adds(network, *inputs)


class Ordered(nn.Module):
    """A network whose labels are in another order."""

    def __init__(self, network: nn.Module, order: Sequence[int]) -> None:
        super().__init__()
        self.network, self.order = network, list(order)

    def forward(self, *inputs: Tensor) -> Any:
        """Return its outputs in that order."""
        outputs = self.network(*inputs)
        if isinstance(outputs, tuple):
            return outputs[0][..., self.order], *outputs[1:]
        return outputs[..., self.order]


# -- opening and refusing --------------------------------------------------------------------


def open_teachers(step: DistillStep, before: Candidate, student: Candidate) -> list[Teacher]:
    """Return the teachers that a step names: files, or else the network before it.

    Raises:
        RequestError: one of them can't teach this student.
        ModelFileError: one of them is damaged, or no model file.
    """
    if not step.teachers:
        network = copy.deepcopy(before.network)
        return [_teacher(None, "", replace(before, network=network), None, student)]
    return [_opened(Path(name), student) for name in step.teachers]


def _opened(path: Path, student: Candidate) -> Teacher:
    digest = modelfile.digest(path)
    try:
        return _teacher(path, digest, modelfile.rebuild(path), None, student)
    except (ModelFileError, MissingExtraError):  # Its layers are int8, or a library's.
        model = modelfile.load(path)
        return _teacher(path, digest, None, model, student)


def _teacher(
    path: Path | None,
    digest: str,
    candidate: Candidate | None,
    model: modelfile.Model | None,
    student: Candidate,
) -> Teacher:
    if candidate is not None:
        task, kind, labels = candidate.task, candidate.output_kind, candidate.labels
        input = cast("Input", candidate.input)
    else:
        assert model is not None
        task, kind, labels = model.task, model.spec.output_kind, model.labels
        input = model.input
    own = cast("Input", student.input)
    if (task, kind, input.input_kind) != (student.task, student.output_kind, own.input_kind):
        raise _unfit(
            path,
            f"it predicts {kind.noun} from {input.input_kind.plural} (`task: {task}`), and the "
            f"student {student.output_kind.noun} from {own.input_kind.plural} (`task: "
            f"{student.task}`)",
            "Give a model file of the same task",
        )
    order = _order(path, labels, student)
    if kind.is_generative and _tokens(input) != _tokens(own):
        raise _unfit(
            path,
            "it cuts texts into other tokens, so its answers aren't about the student's",
            "Train the student with the teacher's tokenizer: `model: {init: TEACHER.mw}` takes it, "
            "as does `modelwright compress TEACHER.mw` with a `student`",
        )
    network = None
    if candidate is not None:
        network = candidate.network.eval().requires_grad_(False)
        if order:
            network = Ordered(network, order).eval()
    return Teacher(path, digest, network, model, input, order)


def _tokens(input: Any) -> JsonObject:
    declared: JsonObject = {**input.to_json()}
    del declared["max_length"]
    return declared


def _order(path: Path | None, labels: tuple[str, ...], student: Candidate) -> tuple[int, ...]:
    """Return the place of each of the student's labels among the teacher's."""
    if labels == student.labels:
        return ()
    missing = [label for label in student.labels if label not in labels]
    more = [label for label in labels if label not in student.labels]
    if missing or more:
        parts = [
            f"{verb} {', '.join(f'`{label}`' for label in found[:4])}"
            + (", …" if len(found) > 4 else "")
            for verb, found in (("it lacks", missing), ("it alone has", more))
            if found
        ]
        raise _unfit(
            path,
            f"its labels are others: {', and '.join(parts)}",
            "Give a teacher of the same labels, in any order",
        )
    places = tuple(labels.index(label) for label in student.labels)
    if student.output_kind == OutputKind.CTC:  # The blank stays before them.
        return (0, *(place + 1 for place in places))
    return places


def _shown(path: Path | None) -> str:
    return "the network before" if path is None else f"`{path.parent.name}/{path.name}`"


def _unfit(path: Path | None, why: str, fix: str) -> RequestError:
    return RequestError(
        f"{_shown(path)} can't teach this student: {why}", where="compress (distill)", fix=fix
    )


def check_views(
    teachers: Sequence[Teacher], student: Candidate, step: DistillStep, recipe: Recipe
) -> None:
    """Refuse teachers that would have to see a batch, and take samples in another way.

    Raises:
        RequestError: there is one.
    """
    for teacher in teachers:
        if teacher.sees_alike(student):
            if student.output_kind == OutputKind.CTC:
                _check_frames(teacher, student)
            continue
        why = (
            "its layers can't run in torch"
            if teacher.network is None
            else "it takes samples of another size, length or form than the student"
        )
        if student.output_kind not in VECTOR_OUTPUTS:
            raise _unfit(
                teacher.path,
                f"{why}, and answers to each token or frame aren't kept",
                "Give a teacher with the same input, before `quantize`",
            )
        if step.kind == "features":
            raise _unfit(
                teacher.path,
                f"{why}, and `kind: features` compares the samples of a batch",
                "Write `kind: soft-labels`",
            )
        if recipe.augment.mixup or recipe.augment.cutmix:
            raise _unfit(
                teacher.path,
                f"{why}, so it never sees the mixed images of `mixup` and `cutmix`",
                "Leave them out of `augment`, or give a teacher with the same input",
            )


def _check_frames(teacher: Teacher, student: Candidate) -> None:
    """Refuse a teacher of speech that answers at other steps of a recording."""
    from modelwright.modelfile.inputs import open_input

    samples = open_input(student.input.to_json(), student.assets).synthetic(1)
    inputs = [torch.from_numpy(array) for array in samples.values()]
    assert teacher.network is not None
    with torch.inference_mode():
        own, other = (
            int(item(*inputs)[1][0]) for item in (student.network.eval(), teacher.network)
        )
    if own != other:
        raise _unfit(
            teacher.path,
            f"of one recording it answers {other} frames, and the student {own}",
            "Give the student the teacher's `stride`",
        )


# -- answers ---------------------------------------------------------------------------------


def kept_views(step: DistillStep, augment: AugmentSpec, output_kind: OutputKind) -> int | None:
    """Return how many versions of each sample are answered; `None` where no answer is kept.

    Mixed images have other partners in each epoch, features are those of a batch, and the answers
    to each token or frame would take too much room.
    """
    if output_kind not in VECTOR_OUTPUTS or step.kind == "features":
        return None
    if augment.mixup or augment.cutmix:
        return None
    return _VIEWS if augment.varies_images else 1


def answering(
    teacher: Teacher, device: str, views: int | None, folder: Path, samples: int
) -> Callable[[Batch], Any]:
    """Return what answers the batches of so many samples; with `views`, each view of one once."""
    assert teacher.network is not None
    network = teacher.network.to(device).eval()

    @torch.no_grad()
    def answer(batch: Batch) -> Any:
        return network(*batch.inputs)

    return answer if views is None else ViewAnswers(answer, folder, samples)


def seen_by(teacher: Teacher, recipe: Recipe, data: Dataset, run: Run) -> Dataset:
    """Return the same samples as a teacher takes them."""
    assert isinstance(data.origin, Prepared)
    plain = {"transforms": TransformsSpec(), "text": TextSpec(), "audio": AudioSpec()}

    def quietly(progress: Progress) -> None:
        if not progress.note:  # Of the data all is said already.
            run.observe(progress)

    taken = recipe.model_copy(update=plain)
    return prepare_again(data.origin, taken, like=teacher.input, observe=quietly).dataset()


def teacher_scores(
    teacher: Teacher, student: Candidate, view: Dataset, data: Dataset, run: Run, task: Task
) -> dict[str, float]:
    """Return a teacher's scores on the validation split; `view` is the data as it takes it."""
    assert data.validation is not None
    if teacher.sees_alike(student):
        assert teacher.network is not None
        alone = replace(student, network=teacher.network)
        return validation_scores(alone, data, run, task=task)
    assert view.validation is not None
    rows = np.arange(len(view.validation))
    outputs = answers_to(view.validation, rows, teacher.outputs)
    names = (*data.labels, *data.validation.unknown)
    return dict(task.compute(task.sample_stats(outputs, data.validation.targets, names)))
