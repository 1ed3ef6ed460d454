"""The chains that a search may try."""

from __future__ import annotations

import itertools

from modelwright.planning import space


def test_a_trial_that_cuts_more_is_narrower() -> None:
    half = {
        space.NETWORK: "resnet",
        space.PRUNE: "0.5",
        space.DISTILL: "once",
        space.SPARSITY: space.NONE,
        space.NUMBERS: "int8",
    }
    assert space.is_narrower({**half, space.PRUNE: "0.25", space.DISTILL: "twice"}, half)
    assert space.is_narrower(half, {**half, space.PRUNE: space.NONE})
    assert not space.is_narrower(half, half)
    assert not space.is_narrower({**half, space.PRUNE: "0.25", space.NUMBERS: "float16"}, half)


def test_longer_lessons_begin_with_the_shorter_ones() -> None:
    values = space.space(["resnet"], [], lambda _: True)
    trials = [trial for trial in space.first_trials(values) if trial[space.PRUNE] == "0.5"]
    chains = [space.steps(trial, {}, 2.0)[:-1] for trial in trials]
    assert [len(chain) for chain in chains] == [1, 2, 3, 5]  # Channels are cut first.
    assert all(longer[: len(chain)] == chain for chain, longer in itertools.pairwise(chains))
    words = space.title("resnet", space.steps(trials[2], {}, 2.0))
    assert words == "resnet → prune to 0.5 → distill 2 times → int8"
