"""Settings without effect: each mark on a section, a setting, a value or a network refuses one."""

from __future__ import annotations

from typing import get_args

import pytest

from modelwright.errors import RecipeError
from modelwright.kinds import ANY_OUTPUT, TASK_KINDS, InputKind, OutputKind
from modelwright.recipe import Recipe, check_composition, parse_recipe, render_config
from modelwright.recipe.recipe import Task
from modelwright.recipe.relevance import check_relevance
from modelwright.recipe.schema import settings_of, variants
from modelwright.recipe.spec import Spec

DIGITS = "version: 1\ndata: {source: digits}\n"
CIFAR = "version: 1\ndata: {source: cifar10}\n"
LINES = "version: 1\ntask: text-classification\ndata: {source: labelled_lines, path: x}\n"
TABLE = "version: 1\ndata: {source: table, path: x}\n"
SETS = (
    "version: 1\ntask: text-classification\n"
    "data:\n  source: table\n  path: x.csv\n  multi_label: true\n"
)
BOXES = "version: 1\ntask: object-detection\ndata: {source: boxes, path: x}\n"
SPEECH = "version: 1\ntask: speech-recognition\ndata: {source: table, path: x}\n"
# (whole recipe, line, words)
REFUSED = [
    # sources, networks and losses of another kind
    (DIGITS + "task: text-classification", 2, "`data.source: digits` is for images, and"),
    (LINES.replace("text", "audio"), 3, "`data.source: labelled_lines` is for texts, and"),
    (DIGITS + "task: regression", 2, "is for predicting one label, and `task: regression`"),
    (LINES.replace("text-classification", "translation"), 3, "predicts texts from texts"),
    (BOXES.replace("boxes, path: x", "digits"), 3, "predicts boxes"),
    (DIGITS + "model: {name: rnn}", 3, "`model.name: rnn` is for texts, and"),
    (LINES + "model: {name: audio-cnn}", 4, "is for recordings, and"),
    (LINES + "model: 'timm:resnet18'", 4, "`model.name: timm` is for images"),
    (SETS + "model: {name: rnn-ctc}", 7, "is for recordings"),
    (BOXES + "model: {name: timm, model: resnet18}", 4, "one label, several labels or numbers"),
    (
        "version: 1\ntask: language-modeling\ndata: {source: documents, path: x}\n"
        "model: {name: bow}",
        4,
        "predicts the next tokens",
    ),
    (SPEECH + "model: {name: audio-cnn}", 4, "predicts transcripts"),
    (
        TABLE + "task: audio-classification\nmodel: {name: rnn-ctc}",
        4,
        "is for predicting transcripts",
    ),
    (BOXES + "model: {name: cnn}", 4, "`model.name: cnn` is for predicting one label"),
    (DIGITS + "model: {name: detector}", 3, "is for predicting boxes"),
    (SPEECH + "train:\n  loss: {name: cross-entropy}", 5, "predicts transcripts"),
    (SETS + "train:\n  loss: {name: cross-entropy}", 8, "predicts several labels"),
    (LINES + "train: {loss: {name: binary-cross-entropy}}", 4, "is for predicting several"),
    (DIGITS + "train:\n  loss:\n    name: mse", 5, "`train.loss.name: mse` is for predicting num"),
    (BOXES + "train: {loss: {name: mse}}", 4, "predicts boxes"),
    (TABLE + "task: regression\ntrain: {loss: {name: cross-entropy}}", 4, "predicts numbers"),
    # sections
    (DIGITS + "text: {max_length: 9}", 3, "`text` is for texts"),
    (LINES + "augment: {flip: random}", 4, "`augment` is for images"),
    (SETS + "augment: {mixup: 0.2}", 7, "`augment` is for images"),
    # settings
    (
        DIGITS + "train: {max_tokens_per_batch: 4096}",
        3,
        "`train.max_tokens_per_batch` is for texts or recordings",
    ),
    (LINES + "train: {resolution: [{until: 0.5, size: 8}]}", 4, "`train.resolution` is for im"),
    (BOXES + "train: {resolution: [{until: 0.5, size: 8}]}", 4, "`train.resolution` is for pr"),
    (BOXES + "augment: {mixup: 1}", 4, "`augment.mixup` is for predicting one label, and"),
    (BOXES + "augment: {cutmix: 1}", 4, "`augment.cutmix` is for"),
    (BOXES + "augment: {cutout: 4}", 4, "`augment.cutout` is for"),
    (TABLE + "task: regression\naugment: {mixup: 1}", 4, "predicts numbers"),
    (
        TABLE.replace("x}", "x, target_columns: [a]}"),
        2,
        "`data.target_columns` is for predicting several labels or numbers",
    ),
    (TABLE.replace("x}", "x, separator: ','}"), 2, "`data.separator` is for predicting several"),
    (SETS.replace("text-classification", "translation"), 6, "`data.multi_label` is for"),
    (
        "version: 1\ntask: speech-recognition\ndata: {source: table, path: x}\n"
        "evaluate: {baselines: false}",
        4,
        "`evaluate.baselines` is for",
    ),
    (
        "version: 1\ntask: translation\ndata: {source: table, path: x}\n"
        "model: {name: transformers, path: y, pooling: mean}",
        4,
        "`model.pooling` is for",
    ),
    (
        "version: 1\ntask: translation\ndata: {source: table, path: x, rename: {a: b}}",
        3,
        "`data.rename` is for",
    ),
    (
        "version: 1\ntask: translation\ndata: {source: table, path: x}\n"
        "train:\n  loss: {name: cross-entropy, class_weights: balanced}",
        5,
        "`train.loss.class_weights` is for predicting one label",
    ),
    (DIGITS + "inference: {language_model: {}}", 3, "is for predicting transcripts"),
    (
        TABLE + "task: regression\ninference: {threshold: {label: sick}}",
        4,
        "`inference.threshold` is for predicting one label",
    ),
    # values
    (LINES + "inference: {tta: flip}", 4, "`inference.tta: flip` is for images"),
    (LINES + "inference: {tta: speeds}", 4, "`inference.tta: speeds` is for recordings"),
    (DIGITS + "inference: {tta: speeds}", 3, "is for recordings, and"),
    (SPEECH + "inference: {tta: speeds}", 4, "predicts transcripts"),
    (BOXES + "inference: {tta: flip}", 4, "predicts boxes"),
    (BOXES + "augment: {flip: alternating}", 4, "`augment.flip: alternating` is for"),
    # what a network brings along
    (
        LINES + "model: {init: other.mw}\ntext:\n  vectors: glove.txt",
        6,
        "`text.vectors` has no effect: `model.init` brings its own",
    ),
    (
        LINES + "model: {init: other.mw}\ntext: {max_length: 9}",
        5,
        "`text.max_length` has no effect",
    ),
    (
        LINES + "model: {name: transformers, path: x}\ntext:\n  vocab_size: 500",
        6,
        "`text.vocab_size` has no effect: `model: transformers` brings its own",
    ),
    (
        CIFAR + "transforms: {normalize: half}\nmodel: {init: other.mw}",
        3,
        "`transforms.normalize` has no effect",
    ),
]


@pytest.mark.parametrize(("text", "line", "words"), REFUSED)
def test_a_setting_without_effect_is_refused(text, line, words):
    with pytest.raises(RecipeError) as caught:
        check_composition(parse_recipe(text, where="recipe.yaml"))
    assert words in str(caught.value)
    assert caught.value.where == f"recipe.yaml:{line}"


@pytest.mark.parametrize("text", [DIGITS, LINES, TABLE, SETS, BOXES, SPEECH])
def test_every_default_written_out_is_no_fault(text):
    recipe = parse_recipe(text, where="recipe.yaml")
    again = parse_recipe(render_config(recipe), where="config")
    check_relevance(again)


@pytest.mark.parametrize(
    "text",
    [
        LINES + "model: {name: transformers, path: x}\ntext: {max_length: 64}",
        SETS + "  separator: ';'\n",
        SPEECH + "inference: {language_model: {}}",
        BOXES + "augment: {flip: random}",
    ],
)
def test_a_setting_of_the_kind_passes(text):
    check_relevance(parse_recipe(text, where="recipe.yaml"))


def test_tasks_have_one_home():
    assert get_args(Task) == tuple(TASK_KINDS)


def sections(spec: type[Spec]):
    yield spec
    for setting in settings_of(spec).values():
        for section in variants(setting.kind).values():
            yield from sections(section)


def test_marks_name_kinds_that_some_task_has():
    """A mark that no task fits, or that all do, would be a mistake."""
    pairs = {
        (taken, predicted)
        for kinds in TASK_KINDS.values()
        for taken in kinds.inputs
        for predicted in kinds.outputs
    }
    assert {taken for taken, _ in pairs} == set(InputKind)
    assert {predicted for _, predicted in pairs} == ANY_OUTPUT == set(OutputKind)
    for spec in set(sections(Recipe)):
        marks = [mark for item in settings_of(spec).values() for mark in item.marks]
        for item in (spec, *marks):
            fits = {pair for pair in pairs if pair[0] in item.inputs and pair[1] in item.outputs}
            assert fits, spec
            assert item is spec or fits < pairs, spec
