from __future__ import annotations

import pytest

from modelwright.recipe.train import TrainSpec
from modelwright.training import decisions
from modelwright.training.decisions import choose_precision


def chosen(times, *, at_once=64, steps=1000, device="cpu", **changes):
    asked = []

    def timer(name):
        asked.append(name)
        return times[name]

    found = choose_precision(
        TrainSpec(**changes), timer, device, at_once=at_once, training_s=lambda s: s * steps
    )
    return found["precision"], asked


@pytest.fixture(autouse=True)
def a_processor_with_bf16(monkeypatch):
    monkeypatch.setattr(decisions, "has_fast_bf16", lambda device: True)


def test_the_faster_format_wins_by_a_tenth():
    assert chosen({"fp32": 1.0, "bf16": 0.5}) == ("bf16", ["fp32", "bf16"])
    assert chosen({"fp32": 1.0, "bf16": 0.95}) == ("fp32", ["fp32", "bf16"])


def test_nothing_is_measured_where_the_recipe_says_it():
    assert chosen({}, precision="bf16") == ("bf16", [])


def test_a_short_training_isnt_measured_in_bf16():
    assert chosen({"fp32": 0.001, "bf16": 0.0001}) == ("fp32", ["fp32"])


def test_single_samples_never_pass_in_bf16_unless_asked():
    assert chosen({"fp32": 1.0, "bf16": 0.1}, at_once=1) == ("fp32", [])
    assert chosen({"fp32": 1.0, "bf16": 0.1}, at_once=1, device="cuda")[0] == "bf16"
