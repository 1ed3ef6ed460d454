"""Which network, size of images and number of epochs `new` writes, by given times of an epoch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelwright.scaffold.document import Setting
from modelwright.scaffold.plan import FEWEST_EPOCHS, Proposal, choose

LARGE = Proposal(
    model=Setting("model", "auto"),
    name="a network",
    side=100,
    epochs=80,
    budget="100s",
    batch_size=8,
    lr=0.1,
)
LADDER = tuple(replace(LARGE, side=side) for side in (100, 50, 25))


def timer(seconds_at_100):
    """Return what times an epoch by its pixels, and the sides that it was asked for."""
    asked = []

    def epoch_s(proposal):
        asked.append(proposal.side)
        return seconds_at_100 * proposal.work / 100**2

    return epoch_s, asked


@pytest.mark.parametrize(
    ("seconds_at_100", "side", "epochs"),
    [
        (0.001, 100, 80),
        (1.0, 100, 80),
        (4.0, 100, 20),
        (9.0, 100, 10),
        (10.0, 50, 80),
        (40.0, 25, 80),
    ],
)
def test_the_largest_that_the_budget_holds_ten_epochs_of_is_chosen(seconds_at_100, side, epochs):
    epoch_s, _ = timer(seconds_at_100)
    plan = choose([LADDER], epoch_s)
    assert (plan.proposal.side, plan.proposal.epochs) == (side, epochs)
    assert epoch_s(plan.proposal) * FEWEST_EPOCHS <= 90.0


def test_what_cannot_fit_is_not_timed():
    epoch_s, asked = timer(40.0)
    choose([LADDER], epoch_s)
    assert asked == [25]


def test_a_budget_too_short_for_all_is_said_and_the_quickest_taken():
    epoch_s, _ = timer(960.0)
    plan = choose([LADDER], epoch_s)
    assert (plan.proposal.side, plan.proposal.epochs) == (25, 1)
    assert "Ten epochs of a network at 25 pixels would take about 10 min" in plan.notes[0]
    assert "holds about 1.5" in plan.notes[0]


def test_the_preferred_ladder_may_hold_fewer_epochs_where_these_are_enough():
    tuned = replace(LARGE, name="published", side=25, fewest_epochs=3)
    few, many = timer(320.0)[0], timer(960.0)[0]
    assert choose([(tuned,), LADDER], few).proposal.name == "published"
    assert choose([(tuned,), LADDER], few).proposal.epochs == 3
    assert choose([(tuned,), (replace(LARGE, side=10),)], many).proposal.name == "a network"
