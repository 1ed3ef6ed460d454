"""Copying a model by asking it: what is easily copied, what can't be, and what is told."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelwright.data.dataset import Split
from modelwright.errors import DataError
from modelwright.evaluation.extraction import Asked, Attack, Protection, ask, copies, told
from modelwright.kinds import InputKind, OutputKind
from modelwright.serving.worker import Guard
from modelwright.tasks.inference import Threshold

SIDE, LABELS = 6, ("a", "b", "c", "d")
NONE, ROUNDED, TOP, BOTH = (
    Protection("none"),
    Protection("rounded", digits=1),
    Protection("top", top=1),
    Protection("both", digits=1, top=1),
)
NOISE = 0.05
"""Of agreements on 200 samples, averaged over three attackers."""
Answers = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass
class Oracle:
    """Answers by a function of what it is asked."""

    answer: Answers
    kind: InputKind = InputKind.IMAGE
    output_kind: OutputKind = OutputKind.SINGLE_LABEL
    threshold: Threshold | None = None
    labels: tuple[str, ...] = LABELS
    asked: list[NDArray[Any]] = field(default_factory=list)

    @property
    def spec(self) -> Any:
        return SimpleNamespace(output_kind=self.output_kind)

    @property
    def input(self) -> Any:
        return SimpleNamespace(input_kind=self.kind)

    @property
    def inference(self) -> Any:
        return SimpleNamespace(threshold=self.threshold)

    def outputs(self, inputs: NDArray[Any]) -> NDArray[Any]:
        self.asked.append(inputs)
        return self.answer(inputs)


def flat(inputs: NDArray[Any]) -> NDArray[np.float32]:
    return inputs.reshape(len(inputs), -1).astype(np.float32) / np.float32(255)


def linear(num_outputs: int = len(LABELS)) -> Answers:
    weights = np.random.default_rng(7).normal(0, 0.5, (SIDE * SIDE, num_outputs))
    return lambda inputs: (flat(inputs) - 0.5) @ weights


def at_random(inputs: NDArray[Any]) -> NDArray[Any]:
    """Return logits that depend on each sample, and on nothing that can be learnt of it."""
    seeds = [zlib.crc32(row.tobytes()) for row in inputs]
    return np.stack([np.random.default_rng(seed).normal(0, 3, len(LABELS)) for seed in seeds])


def attack(model: Oracle, *, count: int = 600, queries: int = 256, seed: int = 0) -> Attack:
    pixels = np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 1), dtype=np.uint8)
    samples = Split("unlabelled", pixels, np.arange(count), np.zeros((count, 0)))
    return Attack(
        model=model,  # type: ignore[arg-type]
        samples=samples,
        features=flat,
        texts=lambda rows: [f"sample {row}" for row in rows.tolist()],
        queries=queries,
        seed=seed,
    )


def agreements(model: Oracle, *compared: Protection, **settings: int) -> list[list[float]]:
    found = copies(ask(attack(model, **settings)), compared)
    return [[item.value for item in found[protection.name]] for protection in compared]


def test_a_linear_model_is_copied_within_few_questions():
    found = copies(ask(attack(Oracle(linear()))), [NONE])["none"]
    assert [item.queries for item in found] == [16, 32, 64, 128, 256]
    assert found[0].value < 0.9
    assert all(item.value == 1.0 for item in found[2:])  # More than its 36 weights a label.
    assert all(item.low < item.value <= item.high and item.n == 200 for item in found)
    assert "fitted to probabilities" in found[2].copy


def test_a_random_labeler_is_never_copied():
    asked = ask(attack(Oracle(at_random), queries=512))
    for points in copies(asked, [NONE, ROUNDED, TOP, BOTH]).values():
        assert all(item.low <= asked.chance() for item in points)
        assert all(item.value < asked.chance() + 0.1 for item in points)


def test_protections_never_make_it_easier_beyond_noise():
    found = np.mean(
        [agreements(Oracle(linear()), NONE, ROUNDED, TOP, BOTH, seed=seed) for seed in range(3)], 0
    )
    assert (found[1:] <= found[0] + NOISE).all()
    assert found[3, 2] < found[0, 2]  # 64 questions are enough only where all is told.


def test_two_labels_are_told_whole_by_the_first_one():
    found = agreements(Oracle(linear(2), labels=LABELS[:2]), NONE, TOP)
    assert found[0] == found[1]


def test_the_seed_decides():
    one, same, other = (agreements(Oracle(linear()), TOP, seed=seed) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_what_measures_is_never_asked_nor_mixed_into_a_question():
    model = Oracle(linear())
    asked = ask(attack(model, count=300, queries=500))
    inputs = np.concatenate(model.asked)
    assert (asked.queries, asked.num_mixed, len(inputs)) == (500, 300, 600)
    assert len(asked.answers) == len(inputs)
    assert len(np.unique(inputs[:200], axis=0)) == 200
    held_out = flat(inputs[500:])
    for part in (inputs[:200], inputs[200:500]):
        nearest = ((flat(part)[:, None] - held_out) ** 2).sum(axis=2).min()
        assert nearest > 0.5
    assert asked.confidence(slice(200)) != asked.confidence(slice(200, 500))
    assert ask(attack(model, queries=64)).confidence(slice(64, 64)) is None


def test_texts_are_asked_once_each():
    model = Oracle(linear(), kind=InputKind.TEXT)
    asked = ask(attack(model, count=150, queries=4096))
    assert (asked.queries, asked.num_mixed) == (100, 0)
    assert list(asked.views) == ["words"]
    assert [item.queries for item in copies(asked, [NONE])["none"]] == [16, 32, 64, 100]


def test_recordings_are_seen_by_their_spectra():
    asked = ask(attack(Oracle(linear(), kind=InputKind.AUDIO), queries=64))
    assert list(asked.views) == ["spectra"]


def test_numbers_agree_within_a_tolerance():
    model = Oracle(linear(2), output_kind=OutputKind.REGRESSION)
    asked = ask(attack(model))
    assert asked.first is None
    assert asked.confidence(slice(10)) is None
    assert asked.chance() < 0.1
    assert copies(asked, [NONE])["none"][-1].value == 1.0
    spread = asked.answers.std(axis=0)
    rows = slice(0, 1)
    assert asked.agrees(asked.answers[:1] + 0.09 * spread, rows).all()
    assert not asked.agrees(asked.answers[:1] + [0.0, 0.11] * spread, rows).any()


def test_the_threshold_of_a_file_decides_its_answer():
    plain = ask(attack(Oracle(linear())))
    always = ask(attack(Oracle(linear(), threshold=Threshold("b", 0.0))))
    assert len(set(plain.first.tolist())) == 4
    assert set(always.first.tolist()) == {1}
    assert always.chance() == 1.0


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="149 different samples, and 150"):
        ask(attack(Oracle(linear()), count=149))


@given(
    st.lists(st.floats(-6, 6), min_size=2, max_size=6),
    st.none() | st.integers(0, 6),
    st.none() | st.integers(1, 7),
)
def test_what_is_learnt_is_what_a_server_tells(logits, digits, top):
    shares = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-shares, kind="stable")
    answers = [{"label": int(k), "probability": float(shares[k])} for k in order]
    guarded = Guard(digits, top).apply(answers)
    found = told(shares[None], order[:1], Protection("any", digits, top))[0]
    assert [item["label"] for item in guarded] == order[: len(guarded)].tolist()
    for item in guarded:
        assert found[item["label"]] == pytest.approx(item["probability"], abs=1e-9)
    rest = np.delete(found, [item["label"] for item in guarded])
    assert len(set(rest.tolist())) <= 1  # Nothing of what isn't told is known.


def test_a_view_without_any_difference_teaches_nothing():
    asked = Asked(np.full((60, 2), 0.5), np.arange(60) % 2, 40, 0, {"pixels": np.zeros((60, 3))})
    (found,) = copies(asked, [NONE])["none"][-1:]
    assert found.value == 0.5
