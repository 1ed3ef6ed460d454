"""Reading: what is well-formed reads as meant; `--set` and `--site` edit the document first."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelwright.errors import RecipeError
from modelwright.recipe import Draft, Recipe, load_recipe, parse_recipe
from modelwright.recipe.data import FolderData
from modelwright.recipe.networks import ResnetModel
from modelwright.recipe.train import AdamwOptimizer, MuonOptimizer, SgdOptimizer

DIGITS = "version: 1\ndata: {source: digits}\n"


def parse(text, *overrides, base=DIGITS, **options):
    return parse_recipe(base + text, where="recipe.yaml", overrides=overrides, **options)


def test_the_shortest_recipe_is_all_defaults():
    assert parse("") == Recipe(version=1, data={"source": "digits"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("1.e-3", 0.001),
        (".001", 0.001),
        ("+0.001", 0.001),
        ("0.001", 0.001),
        ("1", 1.0),
        ("1_000", 1000.0),
    ],
)
def test_numbers_are_those_of_yaml_1_2(text, value):
    rate = parse(f"train: {{optimizer: {{name: sgd, lr: {text}}}}}").train.optimizer.lr
    assert rate == value
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    ("text", "value"), [("012", 12), ("0x10", 16), ("0o17", 15), ("50_000", 50_000), ("-0", 0)]
)
def test_whole_numbers_are_those_of_yaml_1_2(text, value):
    assert parse(f"seed: {text}").seed == value


def test_on_and_off_are_words():
    assert parse("train: {compile: off}").train.compile == "off"


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
def test_truth_has_three_spellings(text):
    assert parse(f"evaluate: {{latency: {text}}}").evaluate.latency is True


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + DIGITS.encode(),
        DIGITS.replace("\n", "\r\n").encode(),
        DIGITS.encode("utf-16"),
        b"\xfe\xff" + DIGITS.encode("utf-16-be"),
        b"# caf\xc3\xa9\n" + DIGITS.encode(),
        b"%YAML 1.2\n---\n" + DIGITS.encode(),
        b'{"version": 1, "data": {"source": "digits"}}',
    ],
    ids=["bom", "crlf", "utf-16", "utf-16-be", "utf-8", "directive", "json"],
)
def test_text_is_read_however_it_was_saved(tmp_path, data):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data)
    assert load_recipe(path) == parse("")


def test_a_tag_may_be_left_to_quotes():
    assert parse("model: {init: !!str 12}").model.init == "12"


# --set


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train.epochs=3", lambda r: r.train.epochs == 3),
        ("train.epochs = 3", lambda r: r.train.epochs == 3),
        (
            "train.optimizer.lr=1e-3",
            lambda r: r.train.optimizer == SgdOptimizer(name="sgd", lr=1e-3),
        ),
        ("train.optimizer={name: adamw}", lambda r: isinstance(r.train.optimizer, AdamwOptimizer)),
        ("train.optimizer.name=muon", lambda r: isinstance(r.train.optimizer, MuonOptimizer)),
        ("model.name=resnet", lambda r: isinstance(r.model, ResnetModel)),
        ("model={name: cnn, head: [64, 32]}", lambda r: r.model.head == (64, 32)),
        ("train.patience=", lambda r: r.train.patience is None),
        ("inference.tta=flip_shift", lambda r: r.inference.tta == "flip_shift"),
        ("data.split.val=0", lambda r: r.data.split.val == 0),
        ("targets.accuracy=>= 0.9", lambda r: r.targets == {"accuracy": ">= 0.9"}),
        ("targets.accuracy=>=0.9", lambda r: r.targets == {"accuracy": ">=0.9"}),
        ("targets.size_bytes=<= 3_000", lambda r: r.targets == {"size_bytes": "<= 3_000"}),
        ('targets.size_bytes="<= 3_000"', lambda r: r.targets == {"size_bytes": "<= 3_000"}),
        ("model={init: a=b.mw}", lambda r: r.model.init == "a=b.mw"),
        ("resources.threads=2", lambda r: r.resources.threads == 2),
    ],
)
def test_set_takes_any_setting(override, read):
    assert read(parse("", override))


def test_set_makes_the_section_that_the_default_is():
    assert parse("", "train.optimizer.lr=0.5").train.optimizer == SgdOptimizer(name="sgd", lr=0.5)


def test_set_keeps_what_stands_beside():
    recipe = parse("train: {epochs: 5, batch_size: 64}", "train.epochs=7")
    assert (recipe.train.epochs, recipe.train.batch_size) == (7, 64)


def test_set_reaches_into_lists():
    recipe = parse(
        "model: {name: cnn, blocks: [{filters: 8}, {filters: 9}]}", "model.blocks.1.filters=4"
    )
    assert [block.filters for block in recipe.model.blocks] == [8, 4]


def test_the_last_set_holds():
    assert parse("", "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epohcs=3", "`train.epohcs` is not a setting of `train`. Did you mean `epochs`?"),
        (
            "train.epochs=many",
            '`train.epochs` must be a number above 0 and at most 100,000; received "many"',
        ),
        ("train.epochs", "this sets nothing"),
        ("=3", "this sets nothing"),
        ("train..epochs=3", "this sets nothing"),
        ("train.epochs.x=3", "`train.epochs` must be a number"),
        ("seed.x.y=3", "`seed` must be a whole number of at least 0; received a section"),
        ("model.blocks.0.filters=3", "`model.blocks` isn't in the recipe, so it has no entry 0"),
        ("data.source.0=3", '`data.source` is "digits", not a section'),
        ("seed=[1", "Close the bracket"),
        ("model.init=*x", "refers to another place"),
        ("seed=!!int 3", "the YAML tag `!!int` is not read"),
    ],
)
def test_a_wrong_set_names_itself(override, words):
    with pytest.raises(RecipeError) as caught:
        parse("", override)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"--set {override}: ")


def test_a_wrong_index_names_the_right_ones():
    with pytest.raises(RecipeError) as caught:
        parse("model: {name: cnn, blocks: [{filters: 8}]}", "model.blocks.1.filters=4")
    assert "has no entry `1`. Its entries are numbered: 0 to 0" in str(caught.value)


# --site


@pytest.fixture
def site(tmp_path):
    def write(text):
        path = tmp_path / "site.yaml"
        path.write_text(text)
        return path

    return write


FOLDER = "version: 1\ndata: {source: folder}\n"


def test_a_site_says_where_and_leaves_the_digest(site):
    here = parse("", base=FOLDER, site=site("resources: {threads: 1}\ndata: {path: /here}"))
    there = parse("", base=FOLDER, site=site("version: 1\ndata: {path: /there}"))
    assert isinstance(here.data, FolderData)
    assert (here.data.path, here.resources.threads) == ("/here", 1)
    assert here.result_digest() == there.result_digest()
    assert parse("seed: 1", base=FOLDER, site=site("data: {path: /here}")).result_digest() != (
        here.result_digest()
    )


def test_the_data_of_the_recipe_itself_is_in_the_digest(site):
    written = [
        parse("", base=f"version: 1\ndata: {{source: folder, path: {path}}}\n").result_digest()
        for path in ("a", "b")
    ]
    assert written[0] != written[1]
    overridden = [
        parse("", f"data.path={path}", base=FOLDER, site=site("data: {path: c}")).result_digest()
        for path in ("a", "b")
    ]
    assert overridden == written


def test_set_goes_over_a_site(site):
    recipe = parse("", "resources.threads=3", site=site("resources: {threads: 1, device: cpu}"))
    assert (recipe.resources.threads, recipe.resources.device) == (3, "cpu")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("train: {epochs: 3}", 1, "`train` belongs in the recipe, not in a site file"),
        ("data:\n  path: x\n  leaks: allow", 3, "`data.leaks` belongs in the recipe"),
        ("resources:\n  threds: 3", 2, "`resources.threds` is not a setting of `resources`"),
        ("resources: 3", 1, "`resources` must be a section"),
        ("version: 2", 1, "`version` must be `1`"),
        ("data: x", 1, "`data` belongs in the recipe"),
        ("[1]", 1, "a recipe is made of sections"),
        ("resources: {threads: 0}", 1, "a whole number from 1 to 4,096; received 0"),
    ],
)
def test_a_site_is_as_strict(site, text, line, words):
    with pytest.raises(RecipeError) as caught:
        parse("", site=site(text))
    assert words in str(caught.value)
    assert caught.value.where.endswith(f"site.yaml:{line}")


# Files


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "digits.yaml").write_text(DIGITS)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "digit.yaml")
    assert "there is no such recipe. Did you mean `digits.yaml`?" in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "nowhere" / "digits.yaml")


def test_a_folder_is_shown_the_way(tmp_path):
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path)
    assert "this is a folder, not a recipe. Write a recipe for it with: modelwright new" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + bytes(50), "a model file or a ZIP"),
        (b"# " + b"x" * (1 << 20), "larger than 1 MiB"),
        (b"version: 1\n# caf\xe9\n", "isn't text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "isn't text in UTF-8"),
        (b"\xff\xfea", "isn't text in UTF-8"),
        (bytes(100), "holds a character that no text has"),
    ],
    ids=["zip", "huge", "latin-1", "png", "half utf-16", "zeros"],
)
def test_what_is_no_text_is_refused(tmp_path, data, words):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_a_path_that_no_file_can_have_is_refused(name):
    with pytest.raises(RecipeError):
        load_recipe(name)


def test_a_dict_reads_as_the_same_recipe_as_its_yaml():
    settings = {
        "version": 1,
        "data": {"source": "folder", "path": Path("photos")},
        "transforms": {"size": (24, 32)},
        "train": {"epochs": 3, "compile": "off", "budget": None},
        "targets": {"accuracy": ">= 0.9"},
    }
    text = (
        "version: 1\ndata: {source: folder, path: photos}\ntransforms: {size: [24, 32]}\n"
        'train: {epochs: 3, compile: off, budget: ~}\ntargets: {accuracy: ">= 0.9"}\n'
    )
    draft = Draft.from_settings(settings)
    assert draft.recipe() == parse_recipe(text, where="recipe.yaml")
    overridden = Draft.from_settings(settings).recipe(overrides=["train.epochs=5"])
    assert overridden.train.epochs == 5


def test_a_dict_within_itself_is_refused():
    settings = {"version": 1}
    settings["data"] = settings
    with pytest.raises(RecipeError, match="nested too deeply"):
        Draft.from_settings(settings)
