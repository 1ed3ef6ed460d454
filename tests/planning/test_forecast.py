from __future__ import annotations

from dataclasses import replace

import pytest

from modelwright.planning import Workload, forecast
from modelwright.recipe import Recipe

WORK = Workload(
    train_samples=1000,
    validation_samples=100,
    all_samples=1200,
    sample_bytes=3072,
    store_bytes=5_000_000,
    parameters=1_000_000,
    activations=50_000,
    multiply_adds=10**8,
    step_s=0.1,
    validation_s=0.5,
    free_disk_bytes=10**10,
    memory_bytes=10**10,
)


def recipe(**train):
    return Recipe.model_validate({"version": 1, "data": {"source": "digits"}, "train": train})


def test_time_is_steps_and_validations():
    found = forecast(recipe(epochs=4, batch_size=100), WORK)
    assert found.steps == 40
    assert found.training_s == pytest.approx(40 * 0.1 + 4 * 0.5)


def test_a_budget_bounds_the_time():
    assert forecast(recipe(epochs=400, budget="10s"), WORK).training_s == 10.0


def test_accumulating_saves_the_memory_of_activations():
    whole = forecast(recipe(batch_size=1000), WORK).memory_bytes
    parts = forecast(recipe(batch_size=1000, gradient_accumulation=10), WORK).memory_bytes
    assert whole - parts == pytest.approx(900 * 50_000 * 4 * 2.5)


def test_too_little_memory_disk_or_time_is_said():
    poor = replace(WORK, memory_bytes=1, free_disk_bytes=1)
    found = forecast(recipe(budget="1s", batch_size=10), poor).warnings
    assert [word in text for word, text in zip(("memory", "disk", "pass"), found, strict=True)] == [
        True,
        True,
        True,
    ]


def test_full_batch_descent_takes_one_step_an_epoch():
    assert forecast(recipe(epochs=7, optimizer={"name": "gd"}), WORK).steps == 7


def test_measured_memory_takes_the_place_of_the_formula():
    measured = replace(WORK, before_bytes=2 * 10**8, peak_bytes=10**9)
    found = forecast(recipe(epochs=1), measured).memory_bytes
    assert found > 10**9 + 1100 * 3072 + 4_000_000
    more = replace(measured, peak_bytes=10**9 + 10**8)
    assert forecast(recipe(epochs=1), more).memory_bytes - found == 10**8


def test_fewer_than_three_epochs_in_a_budget_are_said():
    for budget, is_said in (("4s", True), ("5s", False)):  # An epoch of 10 steps takes 1.5 s.
        text = " ".join(forecast(recipe(budget=budget, batch_size=100), WORK).warnings)
        assert ("holds about" in text) == is_said
    asked = recipe(budget="4s", epochs=2, batch_size=100)  # No more are asked for.
    assert forecast(asked, WORK).warnings == ()
