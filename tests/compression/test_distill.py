"""Which networks can teach which, and how a step shows what it allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from modelwright import modelfile, models
from modelwright.compression import check_step
from modelwright.compression.distill import begin, check_distill, distill
from modelwright.data import Dataset
from modelwright.errors import RequestError
from modelwright.initialization.teachers import Teacher, check_views, open_teachers, size_of
from modelwright.models.candidate import Candidate
from modelwright.models.modifications import Group, group_weights, modified
from modelwright.recipe import networks, parse_recipe
from modelwright.recipe.compression import DistillStep
from modelwright.recipe.preparation import AudioSpec
from modelwright.tasks import TASKS
from modelwright.transforms import ImageInput
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import train_tokenizer
from tests.compression.making import RECIPE, Said, run_in, split_of
from tests.compression.networks import WORDS, small

BEFORE = DistillStep(name="distill")
READ = parse_recipe(RECIPE, where="recipe")


def teach(teacher: Candidate, student: Candidate, step: DistillStep = BEFORE) -> Teacher:
    """Return a network as the teacher of another one, where nothing speaks against it."""
    teachers = open_teachers(step, teacher, student)
    check_views(teachers, student, step, READ)
    return teachers[0]


def test_a_network_of_the_same_input_sees_what_the_student_sees() -> None:
    teacher = teach(small("resnet"), small("cnn"))
    assert teacher.sees_alike(small("cnn"))
    assert not teacher.sees_alike(replace(small("cnn"), input=ImageInput(24, 24, 3)))


def test_a_student_of_fewer_tokens_still_sees_alike_where_texts_are_generated() -> None:
    teacher = small("decoder")
    assert isinstance(teacher.input, TextInput)
    shorter = replace(teacher, input=replace(teacher.input, max_length=16))
    assert teach(teacher, shorter).sees_alike(shorter)
    with pytest.raises(RequestError, match="each token or frame"):
        teach(shorter, teacher)
    texts = small("bow")
    assert isinstance(texts.input, TextInput)
    cut = replace(texts, input=replace(texts.input, max_length=16))
    assert not teach(texts, cut).sees_alike(cut)


def test_other_tokens_are_refused_where_texts_are_generated() -> None:
    teacher, student = small("decoder"), small("decoder")
    other = TextInput(train_tokenizer(WORDS, kind="character", size=40, lowercase=False), 32)
    kind = teacher.input.to_json()["kind"]
    with pytest.raises(RequestError, match="other tokens") as caught:
        teach(replace(teacher, input=replace(other, kind=kind)), student)
    assert "init" in caught.value.fix
    texts = small("bow")
    teach(replace(texts, input=other), texts)  # Of labels, tokens are the teacher's own.


def test_speech_of_other_steps_is_refused() -> None:
    student, audio = small("conv-ctc"), AudioSpec(n_mels=16)
    spec = networks.ConvCtcModel(name="conv-ctc", channels=8, width=64, layers=1, stride=4)
    network = models.build_network(spec, input=student.input, num_outputs=4, audio=audio)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"it answers \d+ frames, and the student \d+"):
        teach(replace(student, network=network), student)
    teach(small("rnn-ctc"), student)


def test_other_labels_are_named_and_their_order_does_not_matter() -> None:
    student = small("cnn")
    with pytest.raises(RequestError, match="it lacks `c`, and it alone has `d`"):
        teach(replace(student, labels=("a", "b", "d")), student)
    turned = teach(replace(small("cnn", seed=1), labels=("c", "a", "b")), student)
    assert turned.order == (1, 2, 0)
    plain = teach(small("cnn", seed=1), student)
    split, rows = split_of(student), np.arange(4)
    expected = plain.outputs(split, rows)[:, [1, 2, 0]]
    assert np.array_equal(turned.outputs(split, rows), expected)
    speech = small("conv-ctc")
    assert teach(replace(speech, labels=("b", "a", "c")), speech).order == (0, 2, 1, 3)


def test_another_task_is_refused() -> None:
    with pytest.raises(RequestError, match="it predicts one label from texts"):
        teach(small("bow"), small("cnn"))
    with pytest.raises(RequestError, match="task: summarization"):
        teach(replace(small("seq2seq"), task="summarization"), small("seq2seq"))


def test_integers_do_not_learn_and_teach() -> None:
    candidate = small("mlp")
    change = Group(layer="body.hidden.0", bits=8, group=32)
    group_weights(candidate.network, change)
    changed = replace(candidate, architecture=modified(candidate.architecture, change))
    with pytest.raises(RequestError, match="have few bits already"):
        check_step(changed, DistillStep(name="distill", teacher="teacher.mw"))
    student = networks.MlpModel(name="mlp", hidden=(4,))
    check_step(changed, DistillStep(name="distill", student=student))


def test_a_linear_text_model_has_no_student_of_its_input() -> None:
    from modelwright.transforms.ngrams import fit_ngrams

    before = replace(small("bow"), input=fit_ngrams(WORDS, most=50))
    step = DistillStep(name="distill", student=networks.BowModel(name="bow"))
    with pytest.raises(RequestError, match="n-grams"):
        check_distill(before, step)


def test_parameters_and_products_are_counted() -> None:
    candidate = small("mlp")
    inputs, labels = 32 * 32 * 3, 3
    expected = (inputs * 64 + 64 + 64 * labels + labels, inputs * 64 + 64 * labels)
    assert size_of(candidate.network, split_of(candidate)) == expected


def test_features_need_a_last_layer() -> None:
    candidate = small("mlp")
    data = Dataset(split_of(candidate), None, candidate.labels)
    step = DistillStep(name="distill", kind="features")
    bare = replace(candidate, network=candidate.network.body.hidden)
    with pytest.raises(RequestError, match="no last layer"):
        begin(bare, step, READ, data, run_in(Path()))


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory) -> Path:
    """A model file that teaches."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.mw"
    modelfile.write_model(path, small("mlp", seed=1))
    return path


@pytest.mark.parametrize("kind", ["soft-labels", "decoupled", "features"])
def test_a_step_moves_a_network_towards_its_teacher(
    kind: str, teacher_file: Path, tmp_path: Path
) -> None:
    """Without labels (`weight: 1`) less is left of the difference of their probabilities."""
    student, said = small("mlp"), Said()
    data = Dataset(split_of(student), None, student.labels)
    step = DistillStep.model_validate(
        {
            "name": "distill",
            "teacher": str(teacher_file),
            "kind": kind,
            "weight": 1.0,
            "epochs": 20.0,
        }
    )
    text = RECIPE.replace("train: {", "train: {optimizer: {name: adamw, lr: 0.003}, ")
    recipe = parse_recipe(text, where="recipe")
    run = replace(run_in(tmp_path, observe=said), stage_name="distill")
    task = TASKS[student.task, student.output_kind]
    learnt, facts = distill(student, step, recipe, data, run, task)
    rows = np.arange(8)
    taught, before, after = (
        torch.from_numpy(teach(item, student).outputs(data.train, rows)).softmax(1)
        for item in (modelfile.rebuild(teacher_file), student, learnt)
    )
    assert (after - taught).abs().mean() < 0.5 * (before - taught).abs().mean()
    assert facts["kind"] == kind
    assert facts["teachers"] == [{"file": "teacher.mw", "model": modelfile.digest(teacher_file)}]
    assert any("multiply-adds" in note for note in said.notes)
