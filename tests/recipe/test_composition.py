"""Every rule of composition has a recipe that it catches, and one beside it that passes."""

from __future__ import annotations

import pytest

from modelwright.errors import RecipeError
from modelwright.recipe import check_composition, composition_reference, parse_recipe
from modelwright.recipe.composition import REFUSED, SAID

DIGITS = "version: 1\ndata: {source: digits}\n"
CIFAR = "version: 1\ndata: {source: cifar10}\n"
RESNET = CIFAR + "model: {name: resnet}\n"


def data(text):
    return f"version: 1\ndata: {{{text}}}\n"


LINES = "version: 1\ntask: text-classification\ndata: {source: labelled_lines, path: x}\n"
TABLE = "version: 1\ndata: {source: table, path: x}\n"
SETS = (
    "version: 1\ntask: text-classification\n"
    "data:\n  source: table\n  path: x.jsonl\n  multi_label: true\n"
)
WRITTEN = "version: 1\ntask: language-modeling\ndata: {source: documents, path: x}\n"
BOXES = "version: 1\ntask: object-detection\ndata: {source: boxes, path: x}\n"
# (whole recipe, line, words); line None: it is said, not refused.
CAUGHT = [
    (
        "version: 1\ndata:\n  source: digits\n  sealed: true",
        4,
        "`source: digits` names none",
    ),
    (LINES.replace("x}", "x, sealed: true}"), None, "The data is sealed"),
    (DIGITS + "train: {epochs: null}", 3, "training has no end"),
    (DIGITS + "train: {optimizer: {name: gd}}", None, "this training has about 10 steps"),
    (
        DIGITS + "train:\n  gradient_accumulation: 2\n  optimizer: {name: gd}",
        4,
        "`gradient_accumulation` has no effect",
    ),
    (
        DIGITS + "train:\n  batch_size: 2\n  gradient_accumulation: 4",
        5,
        "a batch of 2 can't be computed in 4",
    ),
    (
        DIGITS + "model: {name: linear}\ntrain:\n"
        "  loss: {name: cross-entropy, label_smoothing: 0.1}",
        5,
        "fitted without `label_smoothing`",
    ),
    (
        DIGITS + "evaluate: {baselines: false}\ntargets: {gain_over_simple: '>= 0'}",
        4,
        "needs what `evaluate.baselines: false` leaves out",
    ),
    (RESNET.replace("resnet", "resnet, stem: small"), 3, "at depth 20 it is so anyway"),
    (DIGITS + "augment: {mixup: 1}\ntrain: {batch_size: 1}", 4, "has nothing to mix"),
    (
        "version: 1\ndata:\n  source: digits\n  unlabelled: more\n",
        4,
        "learns from samples without labels",
    ),
    (
        "version: 1\ndata: {source: digits, unlabelled: more}\naugment: {mixup: 0.2}\n"
        "compress: [{name: distill, teacher: x.mw}]",
        3,
        "those of `data.unlabelled` have none",
    ),
    (DIGITS + "compress: [{name: distill}]", 3, "learn from itself"),
    (
        DIGITS + "compress: [{name: distill, teacher: x.mw, student: {name: mlp}}]",
        None,
        "only what the student is compared with",
    ),
    (
        DIGITS + "train: {batch_size: 16, gradient_accumulation: 4}",
        None,
        "over 4 samples at a time",
    ),
    (LINES + "train: {max_tokens_per_batch: 4096, optimizer: {name: gd}}", 4, "has no effect"),
    (
        LINES + 'model:\n  init: other.mw\n  freeze: ["*"]\n  adapters: {rank: 2}',
        6,
        "`model.freeze` has no effect beside `adapters`",
    ),
    (
        CIFAR + "model:\n  name: timm\n  model: vit_tiny_patch16_224\n  adapters: {rank: 2}",
        6,
        "without `model.weights` it has learnt",
    ),
    (BOXES + "augment: {translate: 4, padding: reflect}", 4, "things that have no box"),
    (SETS + "  separator: ','", 7, "this table holds lists"),
    (
        DIGITS + "train: {optimizer: {name: sgd, momentum: 0, nesterov: true}}",
        3,
        "`nesterov` looks ahead along the momentum",
    ),
    (
        DIGITS + "train: {groups: [{match: '*'}, {match: head.*}]}",
        3,
        "`head.*` (entry 1) is behind",
    ),
    (DIGITS + "train: {groups: [{match: a}, {match: a}]}", 3, "`a` (entry 1) is behind `a`"),
    (DIGITS + "train: {groups: [{match: '*', lr: 0}]}", 3, "nothing would be learned"),
    (data("source: digits, split: {val: 0}") + "train: {patience: 3}", 3, "holds out nothing"),
    (data("source: cifar10, split: {val: 0}"), None, "so the last one is shipped"),
    (
        DIGITS + "train: {patience: 3, select: last}",
        None,
        "Training stops 3 epochs after the best",
    ),
    (
        DIGITS + "train: {patience: 3}",
        None,
        "the `cosine` schedule hasn't brought the rate down",
    ),
    (
        DIGITS + "model: {name: mlp, hidden: [], dropout: 0.1}",
        3,
        "`model.dropout` has no effect: there is no layer in `hidden`",
    ),
    (
        DIGITS + "model: {name: mlp, hidden: [], activation: tanh}",
        3,
        "`model.activation` has no effect",
    ),
    (LINES + "model: {name: bow, ngrams: 1, buckets: 64}", 4, "there are no runs of words"),
    (DIGITS + "train: {patience: 9}", None, "training is over after 10 epochs anyway"),
    (DIGITS + "augment: {padding: zero}", 3, "nothing is shifted"),
    (data("source: cifar10, split: {test: 0.3}"), 2, "`data.split.test` has no effect"),
    (
        LINES.replace("x}", "x, val: y, test: z, split: {seed: 1}}"),
        3,
        "`data.split.seed` has no effect",
    ),
    (data("source: digits, leaks: allow"), 2, "`data.leaks` has no effect"),
    (LINES.replace("x}", "x, leaks: drop_from_train}"), 3, "`data.leaks` has no effect"),
    (
        data("source: table, path: x.parquet, encoding: cp1252"),
        2,
        "Parquet says itself how its texts are encoded",
    ),
    (
        DIGITS + "train: {groups: [{match: a, lr: 0, l1: 0.1}]}",
        3,
        "`l1` of `a` has no effect, whose `lr` of 0",
    ),
    (DIGITS + "train: {groups: [{match: a}]}", 3, "`a` sets nothing"),
    (
        DIGITS + "model: {name: linear, C: 1.0}\ntrain: {budget: 1m}",
        4,
        "`train.budget` has no effect",
    ),
    (DIGITS + "augment: {color_jitter: {}}", 3, "brightness, contrast and saturation are 0"),
    (DIGITS + "model: {name: speednet}", 3, "at least 9 pixels, and these have 8"),
    (
        DIGITS + "model: {name: efficientnet-lite0, pretrained: false}",
        3,
        "at least 32 pixels, and these have 8",
    ),
    (
        DIGITS + "transforms: {color_mode: grayscale}\nmodel: {name: efficientnet-lite0}",
        3,
        "`efficientnet-lite0` are for images in colour",
    ),
    (
        BOXES + "model: {name: detector, backbone: efficientnet-lite0, widths: [8, 16]}",
        4,
        "`model.widths` has no effect on the backbone `efficientnet-lite0`",
    ),
    (
        BOXES + "model: {name: detector, pretrained: false}",
        4,
        "`model.pretrained` has no effect on the backbone `residual`",
    ),
    (RESNET + "train: {unfreeze: {at: 0.5}}", 4, "and this network has none"),
    (
        TABLE + "task: text-classification\nmodel: {name: minilm, adapters: {}}\n"
        "train: {unfreeze: {}}",
        5,
        "and `model.adapters` never does",
    ),
    (
        CIFAR + "model: {name: speednet}\ntrain: {resolution: [{until: 0.5, size: 8}]}",
        4,
        "and these have 8",
    ),
    (
        DIGITS + "model: {name: cnn, blocks: [{filters: 4, pool: 4}, {filters: 4, pool: 4}]}",
        3,
        "block 2 of 2 pools away the last of 8 pixels",
    ),
    (
        CIFAR + "model: {name: mlp}\ntrain: {resolution: [{until: 0.5, size: 16}]}",
        4,
        "is built for",
    ),
    (
        RESNET + "train: {resolution: [{until: 0.5, size: 32}]}",
        4,
        "32 is not below the full size",
    ),
    (
        RESNET + "transforms: {size: [32, 48]}\ntrain: {resolution: [{until: 0.5, size: 16}]}",
        5,
        "makes squares, and the images are 32×48",
    ),
    (
        RESNET + "train: {resolution: [{until: 1, size: 16}]}",
        None,
        "never trains at full size",
    ),
    (
        RESNET + "train: {compile: on, resolution: [{until: 0.5, size: 16}]}",
        None,
        "compiled anew for each size of image, about 2 times",
    ),
    (DIGITS + "train: {compile: on}\nresources: {device: cpu}", None, "needs a C++ compiler"),
    (DIGITS + "augment:\n  translate: 8", 4, "8 pixels on a side of 8"),
    (CIFAR + "augment: {cutout: 40}", 3, "40 pixels on a side of 32"),
    (DIGITS + "augment: {color_jitter: {saturation: 0.2}}", 3, "no effect on grey images"),
    (DIGITS + "augment: {flip: random}", None, "teaches what never occurs"),
    (DIGITS + "inference: {tta: flip_shift}", None, "averages over wrong images"),
    (data("source: folder, path: x, split: {by: time, column: day}"), 2, "no column `day`"),
    *(
        (
            data(f"source: {source}, split: {{by: {by}, column: day}}") + f"task: {task}",
            2,
            f"`{source.partition(',')[0]}` has no column `day`",
        )
        for source, task in (
            ("labelled_lines, path: x", "text-classification"),
            ("parallel_text, path: x, target: y", "translation"),
            ("arrays, path: x.npz", "image-classification"),
        )
        for by in ("time", "group")
    ),
    *(
        (
            data(f"source: documents, path: x, split: {{by: {by}}}") + "task: language-modeling",
            2,
            "has no column",
        )
        for by in ("group, column: order", "time, column: day")
    ),
    (data("source: digits, split: {val: 0, test: 0}"), 2, "nothing is held out to measure"),
    (data("source: digits, split: {test: 0}"), None, "measured on validation"),
    (
        DIGITS + "targets: {accuracy: '>= 93'}",
        3,
        "lies between 0 and 1, and its target is >= 93",
    ),
    (
        DIGITS + "targets:\n  f1_macro: '> 0.5'\n  acuracy: '>= 0.9'",
        5,
        "Did you mean `accuracy`?",
    ),
    (
        TABLE + "task: speech-recognition\ntargets: {accuracy: '>= 0.9'}",
        4,
        "`accuracy` doesn't judge transcripts, which this task predicts",
    ),
    (DIGITS + "targets: {size_bytes: '>= 3'}", None, "lower is better"),
    (
        DIGITS + "evaluate: {latency: false}\ntargets: {latency_p95_ms: '<= 5'}",
        4,
        "the target `latency_p95_ms` needs what `evaluate.latency: false` leaves out",
    ),
    (
        DIGITS + "targets: {recall_at_threshold: '>= 0.9'}",
        3,
        "the target `recall_at_threshold` needs a threshold",
    ),
    (
        DIGITS
        + "compress: [{name: quantize, dtype: int8}, {name: prune}, {name: quantize, dtype: int8}]",
        3,
        "`prune` can't follow `quantize`",
    ),
    (
        DIGITS + "targets: {size_ratio: '>= 3'}",
        3,
        "the target `size_ratio` compares the network before and after `compress`",
    ),
    (
        DIGITS + "compress: [{name: prune}, {name: vector-quantize}]",
        3,
        "it can't be done beside `prune`",
    ),
    (
        DIGITS + "compress: [{name: vector-quantize}, {name: quantize, dtype: int8}]",
        3,
        "it can't be done beside `quantize`",
    ),
    (
        data("source: digits, limit: 1000") + "targets: {accuracy: '>= 0.9'}",
        None,
        "leaves at most 1,000 samples",
    ),
    (DIGITS + "train: {optimizer: {name: muon}, weight_decay: 0.1}", None, "sets the length"),
]


RULES = (*REFUSED, *SAID)


def rules_that_catch(text, words):
    """Return the rules that catch a recipe and say these words."""
    recipe = parse_recipe(text, where="recipe.yaml")
    return [
        rule
        for rule in RULES
        if (detail := rule.applies(recipe)) and words in rule.message.format(detail)
    ]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (
            DIGITS + "model: {name: cnn, pooling: average, blocks: [{filters: 8, pool: 1}]}",
            "no block has a `pool` above 1",
        ),
        (
            "version: 1\ntask: translation\ndata: {source: parallel_text, path: x}\n"
            "model: {name: seq2seq, kind: lstm, heads: 2}",
            "a `lstm` has no heads",
        ),
        (DIGITS + "train: {schedule: {name: step, at: [], factor: 0.5}}", "`at` names no point"),
        (
            DIGITS + "train: {schedule: {name: trapezoid, cooldown: 0.0, final: 0.5}}",
            "the rate doesn't fall",
        ),
        (DIGITS + "train: {groups: [{match: a, until: 1.0}]}", "above 0 and below 1"),
        (
            SETS.replace("x.jsonl", "x.csv") + "  target_columns: [a, b]\n  separator: ';'",
            "`separator` has no effect beside `target_columns`",
        ),
        (
            SETS + "  target_columns: [a, b]\n  label: c",
            "`label` has no effect beside `target_columns`",
        ),
        (WRITTEN + "generate: {temperature: 0, top_k: 5}", "`top_k` has no effect"),
        (WRITTEN + "generate: {temperature: 0, seed: 5}", "`seed` has no effect"),
        (WRITTEN + "generate: {top_k: 1, top_p: 0.5}", "`top_p` has no effect"),
        (WRITTEN + "generate: {top_k: 1, temperature: 2}", "`top_k: 1` takes the most probable"),
        (
            WRITTEN + "generate: {num_beams: 1, length_penalty: 2}",
            "`num_beams: 1` compares no texts",
        ),
    ],
)
def test_a_setting_that_another_of_its_section_leaves_without_effect_is_refused(recipe, words):
    with pytest.raises(RecipeError, match=words):
        parse_recipe(recipe, where="recipe.yaml")


@pytest.mark.parametrize(("text", "line", "words"), CAUGHT)
def test_a_pair_is_caught(text, line, words):
    recipe = parse_recipe(text, where="recipe.yaml")
    (rule,) = rules_that_catch(text, words)
    if line is None:
        assert rule in SAID
        assert any(words in note for note in check_composition(recipe))
        return
    assert rule in REFUSED
    with pytest.raises(RecipeError) as caught:
        check_composition(recipe)
    assert words in str(caught.value)
    assert caught.value.where == f"recipe.yaml:{line}"


def test_every_rule_is_tested():
    tested = [rule.pair for text, _, words in CAUGHT for rule in rules_that_catch(text, words)]
    assert set(tested) == {rule.pair for rule in RULES}


@pytest.mark.parametrize(
    "text",
    [
        DIGITS,
        DIGITS
        + "compress: [{name: prune}, {name: quantize, dtype: int8}, "
        + "{name: quantize, dtype: bfloat16}]",
        CIFAR,
        data("source: folder, path: x, split: {val: 0}")
        + "train: {patience: 3, schedule: {name: step}}",
        data("source: folder, path: x, split: {by: group, column: parent}"),
        data("source: table, path: x, split: {by: time, column: day}"),
        data("source: cifar10, split: {val: 0}") + "train: {select: last}",
        data("source: folder, path: x, split: {test: 0}"),
        LINES.replace("x}", "x, val: y, split: {seed: 1}}"),
        LINES.replace("x}", "x, val: y, test: z, limit: 9, split: {seed: 1}}"),
        LINES.replace("x}", "x, test: z, leaks: allow}"),
        CIFAR + "train: {groups: [{match: head.*}, {match: body.*, lr: 0.5}]}",
        DIGITS + "model: {name: linear, C: [1.0, 2.0]}\ntrain: {budget: 1m}",
        CIFAR + "model: {name: speednet}\ntrain: {resolution: [{until: 0.5, size: 16}]}",
        RESNET + "train: {resolution: [{until: 0.5, size: 16}]}",
        CIFAR + "train: {budget: 10m, epochs: null}",
        CIFAR + "train: {budget: 10m, epochs: 10}",
        CIFAR
        + "augment: {flip: alternating, translate: 2, cutout: 12, color_jitter: {saturation: 0.2}}",
        CIFAR + "train: {optimizer: {name: sgd, momentum: 0}}",
        CIFAR + "train: {groups: [{match: head.*}, {match: '*', lr: 0}]}",
        CIFAR + "train: {optimizer: {name: gd}, epochs: 200, batch_size: 500}",
        CIFAR
        + "targets: {accuracy: '>= 0.93', latency_p95_ms: '<= 5', size_bytes: '<= 3_000_000'}",
        CIFAR + "model: {init: other.mw}\ntrain: {resolution: [{until: 0.5, size: 8}]}",
        data("source: table, path: x, rename: {a: b}")
        + "task: speech-recognition\nmodel: {name: conv-ctc}\ntargets: {wer: '<= 0.1'}",
        data("source: folder, path: x") + "task: speech-recognition\nmodel: {name: rnn-ctc}",
        DIGITS + "transforms: {size: 16}\nmodel: {name: speednet}",
        CIFAR + "model: {name: timm, model: vit_tiny_patch16_224, weights: x, adapters: {}}",
        CIFAR + "model: {name: timm, hub: timm/vit_tiny_patch16_224.augreg, adapters: {}}",
        DIGITS + "augment: {color_jitter: {brightness: 0.2}, translate: 1}",
        BOXES + "augment: {flip: random, vertical_flip: true, translate: 4, crop: {}}",
        BOXES + "model: {name: detector}\ntrain: {loss: {name: detection}}",
    ],
)
def test_what_goes_together_passes_without_a_word(text):
    assert check_composition(parse_recipe(text, where="recipe.yaml")) == []


def test_a_refusal_names_the_set_that_caused_it():
    recipe = parse_recipe(DIGITS, where="recipe.yaml", overrides=["train.epochs=null"])
    with pytest.raises(RecipeError) as caught:
        check_composition(recipe)
    assert caught.value.where == "--set train.epochs=null"


def test_every_refusal_has_a_way_out():
    for rule in REFUSED:
        assert rule.settings, rule.pair
        assert rule.fix or rule.message.endswith("{}"), rule.pair


def test_pairs_are_told_apart():
    assert len({rule.pair for rule in RULES}) == len(RULES)


def test_the_table_holds_every_pair():
    table = composition_reference().splitlines()
    assert len(table) == len(RULES) + 2
    assert all(line.count(" | ") == 4 for line in table)
    assert "{" not in composition_reference().replace("`transforms: {size: 16}`", "")
