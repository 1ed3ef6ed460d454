"""Which network `model: auto` trains beside linear models, by the seconds of an epoch."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from modelwright.kinds import InputKind
from modelwright.pipeline import network_choice
from modelwright.pipeline.network_choice import EpochTimes, NetworkChoice, default_beside
from modelwright.recipe import parse_recipe
from modelwright.recipe.finetuning import PUBLISHED_MODELS, finetuned
from modelwright.run import RunRequest

TEXT = "version: 1\ndata: {{source: folder, path: x}}\ntrain: {{{}}}\n"


def times(tuned_s, default_s, *, sides=(None,), train="budget: 10m", samples=5_000):
    default = RunRequest(parse_recipe(TEXT.format(train), where="recipe.yaml"))
    model = PUBLISHED_MODELS["efficientnet-lite0"]
    spec = finetuned(default.recipe.train, model, samples=50_000)
    recipe = default.recipe.model_copy(update={"model": model, "train": spec})
    asked = replace(default, recipe=recipe)
    return EpochTimes(asked, default, sides, tuned_s, default_s, samples)


@pytest.mark.parametrize(
    ("tuned_s", "default_s", "chosen"),
    [
        (10.0, 1.0, "efficientnet-lite0"),
        (44.0, 1.0, "efficientnet-lite0"),  # 90 of 100 s hold two epochs.
        (46.0, 1.0, "auto"),
        (100.0, 1000.0, "efficientnet-lite0"),  # Neither has the time that it needs.
        (1000.0, 100.0, "auto"),
    ],
)
def test_the_published_network_is_taken_where_two_epochs_fit(tuned_s, default_s, chosen):
    assert times(tuned_s, default_s).choose(100.0)["chosen"] == chosen


def test_of_many_samples_a_part_of_an_epoch_is_enough():
    assert times(150.0, 1.0, samples=50_000).choose(100.0)["chosen"] == "efficientnet-lite0"
    assert times(250.0, 1.0, samples=50_000).choose(100.0)["chosen"] == "auto"


@pytest.mark.parametrize(("few_s", "timed"), [(150.0, [4]), (30.0, [4, 32])])
def test_whole_batches_are_timed_only_where_few_samples_allow_it(few_s, timed, monkeypatch):
    batches = []

    def epoch_s(request, prepared, *, validated=256):
        if request.recipe.model != "auto":
            batches.append(request.recipe.train.batch_size)
            return few_s
        return 1.0

    monkeypatch.setattr(network_choice, "epoch_s", epoch_s)
    asked = times(1.0, 1.0)
    prepared = SimpleNamespace(input_kind=InputKind.TEXT, rows={"train": range(5_000)})
    found = network_choice._timed(asked.asked, prepared, asked.default, prepared, 1.0, 100.0)
    assert batches == timed
    assert (found.tuned_s, found.default_s) == (few_s, 1.0)


def test_one_epoch_is_enough_where_the_recipe_asks_for_one():
    assert times(80.0, 1.0, train="epochs: 1").choose(100.0)["chosen"] == "efficientnet-lite0"


@pytest.mark.parametrize(("left_s", "side"), [(1000.0, 224), (120.0, 128), (13.0, 64), (5.0, 64)])
def test_images_are_as_large_as_ten_epochs_allow(left_s, side):
    found = times(1.0, 1.0, sides=(224, 128, 64)).choose(left_s)
    assert found["side"] == side
    assert found["epoch_s"][0] == pytest.approx((side / 64) ** 2)


@pytest.mark.parametrize(
    ("default_s", "reserved_s"),
    [
        (0.1, 40 * 0.1 / 0.9),  # 5,000 samples: 40 epochs are the most that is useful.
        (1.0, 20.0),  # A fifth of the time, which holds ten epochs of it, …
        (2.0, 0.0),  # … or none, where it doesn't.
    ],
)
def test_a_part_of_the_time_is_kept_for_a_quick_default_family(default_s, reserved_s):
    assert times(10.0, default_s).reserved(100.0) == pytest.approx(reserved_s, abs=1e-3)


def test_the_published_network_comes_before_what_is_kept():
    kept = times(30.0, 1.0).choose(100.0, 20.0)
    assert (kept["chosen"], kept["reserved_s"]) == ("efficientnet-lite0", 20.0)
    assert kept["held_epochs"][0] == pytest.approx(0.9 * 80 / 30, abs=0.01)
    # With 80 s it would have too few epochs, with 100 s it has enough.
    all_of_it = times(40.0, 1.0).choose(100.0, 20.0)
    assert (all_of_it["chosen"], all_of_it["reserved_s"]) == ("efficientnet-lite0", 0.0)


@pytest.mark.parametrize(
    ("train", "left_s", "reserved_s", "epochs"),
    [
        ("budget: 10m", 12.0, 0.0, 40.0),
        ("budget: 10m", 11.0, 0.0, None),  # Ten epochs of a second don't fit.
        ("budget: 10m", -1.0, 12.0, 40.0),  # They did when the time was kept.
        ("budget: 10m", -7.0, 12.0, None),
        ("budget: 10m, epochs: 2", 11.0, 0.0, 2.0),
        ("budget: 10m, epochs: 2", 0.5, 0.0, None),
        ("epochs: 2", 11.0, 0.0, None),  # There is no budget of which something is left.
    ],
)
def test_the_default_family_is_trained_where_time_is_left(train, left_s, reserved_s, epochs):
    request = RunRequest(parse_recipe(TEXT.format(train), where="recipe.yaml"))
    split = SimpleNamespace(validation=range(10))
    prepared = SimpleNamespace(rows={"train": range(5_000)}, dataset=lambda: split)
    choice = NetworkChoice(request, prepared, "", True, 1.0, reserved_s)
    found = default_beside(choice, request, prepared, left_s=left_s)
    if epochs is None:
        assert found is None
    else:
        assert found is not None
        assert not found.is_published
        assert (found.request.recipe.train.epochs, found.suffix) == (epochs, "-2")
        assert found.request.recipe.train.budget == f"{left_s + reserved_s:.3f}s"
