from __future__ import annotations

import pytest
import torch
from torch import nn

from modelwright.recipe.train import EmaAverage, LookaheadAverage
from modelwright.training.constraints import Ema, Lookahead, build_averaging


def set_to(net, value):
    with torch.no_grad():
        net.weight.fill_(value)


def tiny():
    net = nn.Linear(1, 1, bias=False).double()
    set_to(net, 0.0)
    return net


def test_the_moving_average_is_the_hand_worked_one():
    net = tiny()
    ema = Ema(net, EmaAverage(name="ema", decay=0.5))
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 4.0], start=1):
        set_to(net, value)
        ema.after_step(step, 0.0)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
    with ema.applied():
        assert net.weight.item() == pytest.approx(expected)
    assert net.weight.item() == 4.0


def test_look_ahead_pulls_the_fast_weights_every_few_steps():
    net = tiny()
    ahead = Lookahead(net, LookaheadAverage(name="look-ahead", every=2, decay=0.9, power=1.0))
    set_to(net, 1.0)
    ahead.after_step(1, 0.5)
    assert net.weight.item() == 1.0
    ahead.after_step(2, 0.5)
    assert net.weight.item() == pytest.approx(1.0 - 0.9**2 * 0.5)


def test_averages_cover_the_statistics_of_norms_and_survive_saving():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = Ema(net, EmaAverage(name="ema"))
    net(torch.randn(8, 2))
    ema.after_step(1, 0.0)
    assert "1.running_mean" in ema.state()
    other = Ema(net, EmaAverage(name="ema"))
    other.load_state(ema.state())
    assert all(torch.equal(other.state()[name], value) for name, value in ema.state().items())


def test_the_default_is_no_average():
    assert build_averaging(None, tiny()) == ()
