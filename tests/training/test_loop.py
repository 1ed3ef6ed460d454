"""The loop by itself; what it trains is tested by whole trainings in `test_fit.py`."""

from __future__ import annotations

import itertools

import pytest
import torch

from modelwright.training.build import build_parts, trainable
from modelwright.training.distributed import init_distributed
from modelwright.training.loop import State, Until, train
from modelwright.training.plan import StepPlan
from tests.training import small


def test_progress_is_told_about_twice_a_second_with_the_speed(monkeypatch):
    network = trainable(small.candidate(), "cpu")
    parts = build_parts(
        network,
        small.spec(),
        small.dataset(),
        task=small.TASKS["image-classification", small.OutputKind.SINGLE_LABEL],
        augment=small.AUGMENT,
        seed=1,
        distributed=init_distributed("cpu"),
    )
    told = []

    def on_progress(state, steps_per_s):
        told.append((state.step, steps_per_s, state.loss))

    # The clock goes on by a fifth of a second whenever it is read: once a step.
    monkeypatch.setattr("time.monotonic", itertools.count(0, 0.2).__next__)
    until = Until(9, StepPlan.of(20), stop=lambda: False, on_progress=on_progress)
    state = train(network, parts, State(0, torch.zeros(2)), until)
    assert state.step == 9
    # Nothing is told of the last step, at which the caller acts.
    assert [(step, speed) for step, speed, _ in told] == [
        (3, pytest.approx(5.0)),
        (6, pytest.approx(5.0)),
    ]
    assert all(0.5 < loss < 2.0 for _, _, loss in told)
