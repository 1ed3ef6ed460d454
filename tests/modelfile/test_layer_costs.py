"""What layers cost by their widths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from modelwright.modelfile.layer_costs import SHARES, LayerCosts, layer_costs
from modelwright.models.summary import multiply_adds
from tests.compression.making import split_of
from tests.compression.networks import small


def test_between_layers_between_points_is_a_plane() -> None:
    layer = LayerCosts(16, 32, 512.0, False, 2.0 * np.outer(SHARES, SHARES))
    assert layer.at(16, 32) == (512.0, 2.0)
    products, seconds = layer.at(8, 20)
    assert products == 160.0
    assert seconds == pytest.approx(2.0 * 8 / 16 * 20 / 32)


def test_what_a_layer_costs_is_counted_as_the_summary_counts() -> None:
    candidate = small("efficientnet-lite0")
    inputs = (torch.from_numpy(split_of(candidate).inputs[:1].copy()),)
    counted = layer_costs(candidate.network, inputs)
    whole = sum(item.multiply_adds for item in counted.values())
    assert whole == multiply_adds(candidate.network, *inputs)


def test_times_are_measured_once_and_grow_with_the_widths() -> None:
    candidate, kept = small("mlp"), {}

    def decide(name: str, take: Any) -> Any:
        return kept.setdefault(name, kept[name] if name in kept else take())

    inputs = (torch.from_numpy(split_of(candidate).inputs[:1].copy()),)
    one = layer_costs(candidate.network, inputs, 1, decide)["body.hidden.0"]
    other = layer_costs(candidate.network, inputs, 1, decide)["body.hidden.0"]
    assert np.array_equal(one.seconds, other.seconds)
    assert (one.seconds > 0).all()
    assert (np.diff(one.seconds, axis=0) >= 0).all()
    assert (np.diff(one.seconds, axis=1) >= 0).all()
