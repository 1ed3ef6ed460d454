"""Attack and words: whatever stands in a recipe, the answer is a `RecipeError` that helps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.errors import RecipeError
from modelwright.recipe import Recipe, parse_recipe, render_config
from modelwright.recipe.document import MAX_DEPTH, MAX_NODES
from modelwright.recipe.reference import _flow

DIGITS = "version: 1\ndata: {source: digits}\n"


def fault(text):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, where="recipe.yaml")
    return str(caught.value)


def refusal(text, *overrides):
    """What a recipe is refused with, blank where it is read; any other error is a fault of ours."""
    try:
        parse_recipe(text, where="recipe.yaml", overrides=overrides)
    except RecipeError as error:
        return str(error)
    return ""


SECTIONS = [
    # misspelt, misplaced and unknown keys
    ("train: {epohcs: 3}", 3, "`train.epohcs` is not a setting of `train`. Did you mean `epochs`?"),
    (
        "model:\n  name: resnet\n  widht: 3",
        5,
        "`model.widht` is not a setting of `resnet`. Did you mean `width`?",
    ),
    (
        "model: {name: cnn, blocks: [{filters: 3,\n  kernal: 3}]}",
        4,
        "`model.blocks.0.kernal` is not a setting of `model.blocks.0`. Did you mean `kernel`?",
    ),
    ("epochs: 3", 3, "`epochs` is not a setting of a recipe. It is a setting of `train`"),
    (
        "train: {optimizer: {name: gd, nesterov: true}}",
        3,
        "`train.optimizer.nesterov` is not a setting of `gd`. It is a setting of",
    ),
    ("quantize: {bits: 8}", 3, "`quantize` is not a setting of a recipe. Use one of `version`"),
    ("1: 2", 3, "`1` is not a setting of a recipe"),
    ("<<: {seed: 3}", 3, "`<<` is not a setting of a recipe"),
    ('"\\e[31m": 1', 3, "`·[31m` is not a setting"),
    ("train: {averge: {name: ema}}", 3, "Did you mean `average`?"),
    # wrong kinds of section
    ("model: resnet", 3, "Write `model: {name: resnet}`"),
    ("model: resnet18", 3, "Did you mean `resnet`?"),
    ("model: ./other.mw", 3, "Write `model: {init: ./other.mw}`"),
    ("model: {name: resnot}", 3, '`model.name` can\'t be "resnot". Did you mean `resnet`?'),
    ("model: {}", 3, "`model.name` is missing. Use one of `linear`, `mlp`, `cnn`, `resnet`, "),
    ("model:\n  depth: 20", 3, "`model.name` is missing"),
    ("model: {name: [x]}", 3, "`model.name` can't be a list"),
    ("model: {name: null}", 3, "`model.name` is missing"),
    ("model: {init: 3}", 3, "`model.init` must be text; received 3. Put it in quotes"),
    ("model: {init: a, freeze: [1]}", 3, "`model.freeze.0` must be text; received 1"),
    ("model: {init: a, widht: 1}", 3, "`model.widht` is not a setting of `init`"),
    ("model: {name: mlp, init: a}", 3, "`model.init` is not a setting of `mlp`"),
    ("train: {optimizer: adam}", 3, "Did you mean `adamw`?"),
    ("train: {loss: mse}", 3, "Write `train.loss: {name: mse}`"),
    ("train: {loss: {name: hubber}}", 3, "Did you mean `huber`?"),
    (
        "train: {loss: {name: huber,\n  delta: -1}}",
        4,
        "`train.loss.delta` must be a number above 0",
    ),
    ("train: 3", 3, "`train` must be a section; received 3"),
    ("train: []", 3, "`train` must be a section; received an empty list"),
    ("train:", 3, "received nothing. Give it settings, or remove the line"),
    ("train: {groups: {match: x}}", 3, "`train.groups` must be a list"),
    ("train: {average: {decay: 0.9}}", 3, "`train.average.name` is missing"),
    ("targets: [1]", 3, "`targets` must be a section of names and values; received a list"),
    # wrong values
    ("train: {epochs: abc}", 3, 'must be a number above 0 and at most 100,000; received "abc"'),
    ("train: {epochs: '3'}", 3, "Write the number without quotes"),
    ("train: {epochs: true}", 3, "received true"),
    ("train: {epochs: 0}", 3, "received 0"),
    ("train: {epochs: [3]}", 3, "received a list"),
    ("train: {epochs: {a: 3}}", 3, "received a section"),
    (
        "train: {batch_size: 1e3}",
        3,
        "a whole number from 1 to 1,000,000; received 1000.0. Write `1000`",
    ),
    ("train: {batch_size: null}", 3, "received nothing"),
    ("train: {l1: .nan}", 3, "`train.l1` must be a number from 0 to 10; received .nan"),
    ("train: {l1: -.inf}", 3, "received -.inf"),
    ("train: {budget: 600}", 3, "Write the unit: `600s` for seconds"),
    ("train: {budget: 5 minutes}", 3, "'5 minutes' is not a duration; write 90s, 10m, 1.5h or 2d"),
    ("train: {budget: 0m}", 3, "is not a duration"),
    ("train: {compile: true}", 3, "must be `auto`, `on` or `off`; received true. Write `on`"),
    ("train: {precision: fp31}", 3, "Did you mean `fp32`?"),
    ("evaluate: {latency: no}", 3, 'must be `true` or `false`; received "no". Write `false`'),
    ("evaluate: {latency: 1}", 3, "must be `true` or `false`; received 1"),
    ("model: {name: resnet, depth: '20'}", 3, "Write it without quotes: `20`"),
    ("inference: {tta: 5}", 3, "must be `none`, `flip`, `flip_shift` or `speeds`; received 5"),
    ("seed: -1", 3, "`seed` must be a whole number of at least 0; received -1"),
    ("seed: 99999999999999999999", 3, "`seed` must be a whole number"),
    ("seed: " + "9" * 5000, 3, "has too many digits"),
    (
        "transforms: {size: [8]}",
        3,
        "a list of 2, each a whole number from 4 to 1,024 or `auto`; received a list",
    ),
    (
        "transforms: {size: [8, big]}",
        3,
        '`transforms.size.1` must be a whole number from 4 to 1,024; received "big"',
    ),
    (
        "transforms: {size: 2}",
        3,
        "`transforms.size` must be a whole number from 4 to 1,024, a list",
    ),
    ("augment: {crop: {scale: [0.9, 0.1]}}", 3, "`augment.crop`: write the smaller figure first"),
    ("augment: {crop: yes}", 3, "`augment.crop` must be a section of `scale`, `ratio`"),
    ("targets: {accuracy: 0.9}", 3, 'Write `">= 0.9"` or `"<= 0.9"`'),
    ("targets: {accuracy: high}", 3, "'high' is not a target"),
    ("targets: {accuracy: >= 0.9}", 3, 'Put the target in quotes: accuracy: ">= 0.93"'),
    ("targets:\n  accuracy: >= 0.9", 4, "Put the target in quotes"),
    (
        "train: {schedule: {name: trapezoid, warmup: 0.6, cooldown: 0.6}}",
        3,
        "`warmup` and `cooldown` together are more than the whole training",
    ),
    (
        "train: {resolution: [{until: 0.5, size: 16}, {until: 0.5, size: 24}]}",
        3,
        "each step's `until` must be above the one before",
    ),
    # YAML that isn't, or shouldn't be
    ("train:\n\tepochs: 1", 4, "a tab stands where blanks belong. Indent with blanks"),
    ("train: {epochs: 3", 3, "Close the bracket or quote that is opened here"),
    ("task: 'x", 3, "Close the bracket or quote that is opened here"),
    ("task: a: b", 3, "a second colon"),
    ("  seed: 1", 3, "recipe.yaml:3"),
    ("task: @x", 3, "Put quotes around the value"),
    ("task: *x", 3, "`*x` refers to another place"),
    (
        "task: !!python/object:os.system x",
        3,
        "the YAML tag `!!python/object:os.system` is not read",
    ),
    ("train: !x {epochs: 3}", 3, "the YAML tag `!x` is not read"),
    ("? [1, 2]\n: 3", 3, "a setting's name must be a word"),
    (": 3", 3, "a setting's name must be a word"),
    (
        "seed: 1\nseed: 2",
        4,
        "`seed` stands twice in one section. It stands at recipe.yaml:3 already",
    ),
    ("train: {epochs: 1, epochs: 2}", 3, "`epochs` stands twice"),
    ("---\nseed: 1", 3, "a second document starts here"),
    ("seed: " + "[" * 100_000, 3, "this is nested too deeply"),
    ("seed: " + "{a: " * 100_000, 3, "this is nested too deeply"),
    ("seed:\n" + "".join(" " * n + "- \n" for n in range(1, 200)), 28, "nested too deeply"),
    ("seed: [" + "1," * (MAX_NODES + 1) + "]", 3, f"more than {MAX_NODES:,} entries"),
    ("task: " + "x" * 900_000, 3, "`task` must be `image-classification`, "),
    ("x" * 900_000 + ": 1", 3, "recipe.yaml"),
    ("task: \x1b[31m", 3, "a character that no text has"),
]


@pytest.mark.parametrize(
    ("text", "line", "words"), SECTIONS, ids=[text[:40] for text, _, _ in SECTIONS]
)
def test_a_fault_names_line_reason_and_way_out(text, line, words):
    said = fault(DIGITS + text)
    assert words in said
    assert said.startswith(f"recipe.yaml:{line}: ")
    assert len(said) < 700


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "recipe.yaml: this is empty. Begin with `version: 1`"),
        ("# only a comment\n", "recipe.yaml: this is empty"),
        ("---\n", "this is empty"),
        ("~", "this is empty"),
        ("[1, 2]", "recipe.yaml:1: a recipe is made of sections, and this is a list"),
        ("hello", 'and this is "hello"'),
        ("3", "and this is 3"),
        ("<!DOCTYPE html><html></html>", "this is HTML or XML, not a recipe"),
        ("version: 2\ndata: {source: digits}", "recipe.yaml:1: `version` must be `1`; received 2"),
        ("version: '1'\ndata: {source: digits}", "Write it without quotes: `1`"),
        ("version: 1.0\ndata: {source: digits}", "`version` must be `1`; received 1.0"),
        ("data: {source: digits}", "recipe.yaml: `version` is missing. Begin the recipe with"),
        ("version: 1", "recipe.yaml: `data` is missing. It must be a section with `source`"),
        ("version: true\ndata: {source: digits}", "`version` must be `1`; received true"),
        ("version: 1\ndata:", "`data` must be a section with `source`"),
        ("version: 1\ndata: digits", "Write `data: {source: digits}`"),
        ("version: 1\ndata: ./photos", "Write `data: {source: folder, path: ./photos}`"),
        ("version: 1\ndata: a.csv", "Write `data: {source: table, path: a.csv}`"),
        ("version: 1\ndata: {source: ./photos}", "Write `source: folder` and `path: ./photos`"),
        ("version: 1\ndata: {source: t.parquet}", "Write `source: table` and `path: t.parquet`"),
        ("version: 1\ndata: {source: cifar}", "Did you mean `cifar10`?"),
        ("version: 1\ndata: {path: x}", "`data.source` is missing. Use one of `digits`"),
        (
            "version: 1\ndata:\n  source: folder",
            "recipe.yaml:2: `data.path` is missing. It must be",
        ),
        ("version: 1\ndata: {sorce: digits}", "`data.source` is missing"),
        (
            "version: 1\ndta: {source: digits}",
            "recipe.yaml:2: `dta` is not a setting of a recipe. Did",
        ),
        (
            "version: 1\ntask: regression\n"
            "data: {source: table, path: a.csv, target_columns: [a, b, a]}",
            "recipe.yaml:3: `data.target_columns`: `a` stands here twice",
        ),
        (
            "version: 1\ndata: {source: table, path: a.csv, split: {by: group}}",
            "recipe.yaml:2: `data.split`: `by: group` needs `column`",
        ),
        (
            "version: 1\ndata: {source: table, path: a.csv, split: {column: patient}}",
            "`column` has no effect without `by: group` or `by: time`",
        ),
        ("%YAML 1.1\n---\nversion: 1", "a recipe is YAML 1.2"),
    ],
)
def test_a_document_that_is_no_recipe(text, words):
    assert words in fault(text)


def test_several_faults_are_told_and_the_rest_counted():
    said = fault(DIGITS + "train:\n  epochs: 0\n  l1: x\n  l2: y\n  batch_size: no\n  epoch: 3")
    # The unknown key comes first: it may be why another is missing.
    assert said.startswith("recipe.yaml:8: `train.epoch` is not a setting of `train`")
    assert "Also: recipe.yaml:4: `train.epochs` must be" in said
    assert said.endswith("2 more.")


def test_depth_is_enough_for_every_recipe():
    recipe = Recipe(version=1, data={"source": "digits"}, train={"groups": [{"match": "*"}]})
    depth = max(len(line) - len(line.lstrip()) for line in render_config(recipe).splitlines())
    assert depth // 2 + 3 < MAX_DEPTH


WHOLE = render_config(
    Recipe(
        version=1,
        data={"source": "table", "path": "a.csv"},
        train={"loss": {"name": "huber"}, "average": {"name": "ema"}, "groups": [{"match": "x"}]},
        targets={"accuracy": ">= 0.9"},
    )
)
ROWS = [row for row in WHOLE.splitlines() if row and not row.lstrip().startswith("#")]
JUNK = st.one_of(
    st.sampled_from(
        ["", "~", "[", "{", "}", "- ", "? ", ": ", "'", '"', "&a ", "*a", "!!x ", "|", ">"]
    ),
    st.sampled_from(["\t", "\r", "\x85", "\u2028", "\ufeff", "\x00", "\ud7ff", "%", "@", "`", "#"]),
    st.text(max_size=5),
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_recipe_is_read_or_refused(data):
    rows = list(ROWS)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(rows) - 1))
        row = rows[at]
        cut = data.draw(st.integers(0, len(row)))
        junk = data.draw(JUNK)
        rows[at] = data.draw(
            st.sampled_from([row[:cut] + junk, row[:cut] + junk + row[cut:], junk])
        )
    said = refusal("\n".join(rows))
    assert said == "" or said.startswith("recipe.yaml")
    assert said.isprintable()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "source", "init", "path", "lr", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def _paths(value, path=""):
    if isinstance(value, dict):
        for key, item in value.items():
            inner = f"{path}.{key}".lstrip(".")
            yield inner
            yield from _paths(item, inner)


PATHS = sorted(_paths(parse_recipe(WHOLE, where="").document()))


@settings(max_examples=300, deadline=None)
@given(path=st.sampled_from(PATHS), value=VALUES)
def test_any_value_anywhere_is_read_or_refused(path, value):
    override = f"{path}={_flow(value)}"
    assert refusal(WHOLE, override).isprintable()
