"""Distillation: a network learns from the answers of others, beside the labels.

It is a training like any other, with an objective of its own (`objectives/distillation.py`): Hinton
et al. 2015, Zhao et al. 2022, Tung and Mori 2019. What teaches, and how it sees the samples, stands
in `initialization/teachers.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from modelwright.compression.prune import keeping_zeros, slower
from modelwright.compression.sensitivity import allowed_drop, both_scores
from modelwright.data import Dataset, Prepared
from modelwright.data.batches import Batch, Batches
from modelwright.data.splits import root
from modelwright.errors import ModelwrightError, RequestError
from modelwright.files import JsonObject
from modelwright.initialization import initialize_model
from modelwright.initialization.teachers import (
    Teacher,
    answering,
    check_views,
    kept_views,
    open_teachers,
    seen_by,
    size_of,
    teacher_scores,
)
from modelwright.kinds import OutputKind
from modelwright.models.building import output_layer
from modelwright.models.candidate import Candidate
from modelwright.recipe import Recipe
from modelwright.recipe.compression import DistillStep
from modelwright.recipe.spec import seconds
from modelwright.recipe.train import TrainSpec
from modelwright.run import Run, RunRequest
from modelwright.tasks import Task
from modelwright.training import Parts, fit
from modelwright.training.answers import Answers, keep_answers
from modelwright.training.build import build_sampler
from modelwright.training.objectives.distillation import (
    SOFTENED,
    Distillation,
    HeadInput,
    decoupled,
    likeness,
)
from modelwright.transforms.ngrams import NgramInput

USUAL_DROP = 0.01
"""What `max_drop: auto` allows where the present network goes on learning."""


def distill(
    candidate: Candidate, step: DistillStep, recipe: Recipe, data: Dataset, run: Run, task: Task
) -> tuple[Candidate, dict[str, Any]]:
    """Return the candidate that has learnt from teachers, and the facts.

    Raises:
        RequestError: a teacher doesn't fit, or has changed since the run began.
        CompressionError: the main metric gets worse by more than `step.max_drop` on validation.
        StoppedError: a stop was requested; the state is saved.
    """
    check_distill(candidate, step)
    student, teachers = begin(candidate, step, recipe, data, run)
    lesson = _same_lesson(teachers, data, run)
    answers, scores = _prepare_answers(teachers, student, recipe, data, run, task)
    metric, allowed = task.select_by, USUAL_DROP if step.student is None else math.inf
    if step.max_drop != "auto":
        allowed = step.max_drop

    views = kept_views(step, recipe.augment, task.output_kind)

    def taught(network: nn.Module, parts: Parts) -> Parts:
        samples, sampler = data.with_unlabelled(), parts.sampler
        if data.unlabelled is not None:
            sampler = build_sampler(recipe.train, samples, parts.seed)
        source = Batches(
            samples,
            augment=recipe.augment,
            seed=parts.seed,
            device=parts.distributed.device,
            num_outputs=len(data.labels) or None,
            views=views,
        )
        places = (run.folder / "teachers" / str(number) for number in range(len(teachers)))
        each = [
            kept or answering(teacher, parts.distributed.device, views, place, len(samples))
            for teacher, kept, place in zip(teachers, answers, places, strict=True)
        ]
        objective = _objective(network, parts, step, teachers, each, len(data.train), task)
        if step.student is None:
            parts = keeping_zeros(candidate)(network, parts)
        return replace(parts, sampler=sampler, source=source, objective=objective)

    learnt, fitted = fit(
        student,
        _train_spec(step, recipe.train, run),
        data,
        run,
        task=task,
        augment=recipe.augment,
        change=taught,
        loss_may_rise=step.student is None,  # It begins near 0 where the teacher is like it.
    )
    compared = both_scores(candidate, learnt, data, run, task)
    if compared is not None:
        taught_by = ", ".join(
            f"{teacher.shown} {score[metric]:.4g}"
            for teacher, score in zip(teachers, scores, strict=True)
        )
        run.say(
            f"`{metric}` on validation is {compared[1]:.4g} after `{run.stage_name}`; of what "
            f"taught it: {taught_by}"
        )
    fix = "Raise `epochs` or `max_drop`, take a larger `student`, or leave the step out"
    drop = allowed_drop(compared, allowed, run, task, fix=fix)
    facts: dict[str, Any] = {
        **lesson,
        "student": None if step.student is None else step.student.name,
        "kind": step.kind,
        "temperature": step.temperature,
        "weight": step.weight,
        "steps": fitted.steps,
        "validation_drop": drop,
    }
    # What taught it in this run belongs to how it was made.
    lineage = learnt.lineage if step.teachers and step.student is not None else candidate.lineage
    return replace(learnt, lineage=lineage, reports=candidate.reports), facts


def check_distill(candidate: Candidate, step: DistillStep) -> None:
    """Refuse a network that gives boxes, or is fitted at once."""
    if candidate.output_kind == OutputKind.BOXES:
        raise RequestError(
            "a network that gives boxes can't be `distill`ed",
            where="compress",
            why="Two detectors answer at other places of an image for the same box, so their "
            "outputs don't belong together one by one",
            fix="Leave the step out; `quantize` makes detectors smaller and faster",
        )
    if step.student is not None:
        if isinstance(candidate.input, NgramInput):
            raise RequestError(
                "no network that learns step by step takes the n-grams of a linear model",
                where="compress",
                why="A `student` takes samples as the network before does",
                fix="Train the student by itself, with the linear model's file as `teacher`",
            )
    elif candidate.architecture["name"] == "linear":
        raise RequestError(
            "a linear model can't go on learning from a `teacher`",
            where="compress",
            why="It is fitted at once, to labels or numbers alone",
            fix="Name a `student`, or leave the step out",
        )


def begin(
    candidate: Candidate, step: DistillStep, recipe: Recipe, data: Dataset, run: Run
) -> tuple[Candidate, list[Teacher]]:
    """Return the student before it learns, and what teaches it; all that doesn't fit is refused.

    Raises:
        RequestError: a teacher can't teach the student.
        ModelwrightError: the student can't be built for this data.
    """
    student = candidate
    if step.student is not None:
        assert isinstance(data.origin, Prepared)
        text = recipe.text.model_copy(update={"vectors": None})
        plain = recipe.model_copy(update={"model": step.student, "text": text})
        try:
            student = initialize_model(RunRequest(plain), data.origin, run)
        except ModelwrightError as error:
            error.where = "compress (distill, student)"
            raise
    teachers = open_teachers(step, candidate, student)
    check_views(teachers, student, step, recipe)
    if step.kind == "features":
        for network in (student.network, *(item.plain for item in teachers)):
            output_layer(network)
    return student, teachers


def _same_lesson(teachers: Sequence[Teacher], data: Dataset, run: Run) -> JsonObject:
    """Return what teaches, which must be what it was before a stop."""
    lesson: JsonObject = {"teachers": [teacher.facts() for teacher in teachers]}
    if data.unlabelled is not None:
        assert isinstance(data.origin, Prepared)
        digests = data.origin.store.fixed("content_digest")[data.origin.unlabelled]
        mark = root(digests, [""] * len(digests))
        lesson["unlabelled"] = {"samples": len(digests), "root": mark}
    before = run.decisions.decide("lesson", lambda: lesson)
    if before != lesson:
        changed = [
            teacher.shown
            for teacher, old in zip(teachers, before["teachers"], strict=True)
            if teacher.facts() != old
        ]
        raise RequestError(
            f"{', '.join(changed) or 'what `data.unlabelled` names'} has changed since this run "
            "began, and `distill` has learnt from it",
            where="compress",
            fix="Put it back as it was, or choose another --name",
        )
    return lesson


def _prepare_answers(
    teachers: Sequence[Teacher],
    student: Candidate,
    recipe: Recipe,
    data: Dataset,
    run: Run,
    task: Task,
) -> tuple[list[Answers | None], list[dict[str, float]]]:
    """Return the kept answers of each teacher that doesn't see batches, and all their scores."""
    parameters, products = size_of(student.network, data.train)
    run.say(f"The student has {parameters:,} parameters and {products:,} multiply-adds a sample")
    answers: list[Answers | None] = []
    scores = []
    for number, teacher in enumerate(teachers):
        view, kept = data, None
        if teacher.network is not None:
            teacher.network.to(run.device)
        if not teacher.sees_alike(student):
            why = "takes samples in its own way" if teacher.network else "can't run in torch"
            run.say(f"{teacher.shown} {why}, so it answers each sample once, without augmentation")
            view = seen_by(teacher, recipe, data, run)
            folder = run.folder / "teachers" / str(number)
            kept = keep_answers(view.with_unlabelled(), teacher.outputs, folder, run)
        answers.append(kept)
        more = teacher.multiply_adds(view.train)
        run.say(
            f"{teacher.shown} has {more:,} multiply-adds, {more / max(products, 1):.3g} times as "
            "many as the student"
        )
        if data.validation is not None:
            scores.append(teacher_scores(teacher, student, view, data, run, task))
    return answers, scores


def _objective(
    network: nn.Module,
    parts: Parts,
    step: DistillStep,
    teachers: Sequence[Teacher],
    each: Sequence[Callable[[Batch], Any]],
    labelled: int,
    task: Task,
) -> Distillation:
    """Return the objective of the recipe with the teachers' answers beside the targets."""
    alike = None
    if step.kind == "features":
        own = HeadInput(network)
        others = [HeadInput(item.plain) for item in teachers]

        def alike() -> Tensor:
            return likeness(own(), [other() for other in others])

    return Distillation(
        targets=parts.objective,
        teach=lambda batch: [answer(batch) for answer in each],
        softened=decoupled if step.kind == "decoupled" else SOFTENED[task.output_kind],
        temperature=step.temperature,
        weight=step.weight,
        labelled=labelled,
        alike=alike,
    )


def _train_spec(step: DistillStep, train: TrainSpec, run: Run) -> TrainSpec:
    """Return how the student trains: as the recipe says, for the time that the step says."""
    share, budget = 0.5 if step.student is None else 1.0, None
    if step.epochs != "auto":
        epochs: float | None = float(step.epochs)
    else:
        epochs = train.epochs and max(train.epochs * share, 1.0)
        budget = train.budget and f"{seconds(train.budget) * share:.3f}s"
    # Teachers take images of full size; those of a student's layers that a group or `unfreeze`
    # names are another network's.
    update: dict[str, Any] = {"resolution": (), "unfreeze": None}
    update |= {"epochs": epochs, "budget": budget}
    if step.student is None and epochs is not None:
        update["optimizer"] = slower(train, epochs)
    if step.student is not None and train.groups:
        run.say(
            "`train.groups` names parameters of the first network, and isn't taken for a student"
        )
        update["groups"] = ()
    return train.model_copy(update=update)
