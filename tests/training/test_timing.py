"""What a step of the loop takes, by a clock that goes on a second whenever it is read."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest

from modelwright.training import timing
from modelwright.training.build import build_parts, plan_input, trainable
from modelwright.training.distributed import init_distributed
from tests.training import small

TIMER = SimpleNamespace(
    mean_step_s=lambda precision: 6.0, step_s=lambda precision, *, progress: 2.0
)
"""Over all sizes of image a step takes three times as long as in the beginning."""


def step_s(monkeypatch, *, waits=False, **changes):
    spec, data = small.spec(**changes), small.dataset()
    network = trainable(small.candidate(), "cpu")
    parts = build_parts(
        network,
        spec,
        data,
        task=small.TASKS["image-classification", small.OutputKind.SINGLE_LABEL],
        augment=small.AUGMENT,
        seed=1,
        distributed=init_distributed("cpu"),
    )
    asked = plan_input(network, parts, spec, data.train)
    if waits:
        parts = replace(parts, optimizer=SimpleNamespace(waits=lambda progress: True))
    monkeypatch.setattr("time.monotonic", itertools.count().__next__)
    return timing._loop_step_s(network, parts, asked, TIMER)


def test_the_sizes_of_image_that_come_later_count(monkeypatch):
    whole = step_s(monkeypatch)
    assert whole > 1.0  # The clock is read more than once in a step.
    # The size at the start is the full one here, so that both train the same.
    grown = step_s(monkeypatch, resolution=[{"until": 0.5, "size": 6}])
    assert grown == pytest.approx(3.0 * whole)


def test_where_only_the_last_layer_learns_at_first_whole_steps_are_timed(monkeypatch):
    assert step_s(monkeypatch, waits=True) == 6.0
