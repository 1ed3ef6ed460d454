from __future__ import annotations

import pytest
from hypothesis import given as sampled
from hypothesis import strategies as st
from torch import nn
from torch._inductor import config as inductor_config

from modelwright.models.decoder import Decoder
from modelwright.models.network import TextFrame
from modelwright.recipe.networks import DecoderModel
from modelwright.recipe.train import TrainSpec
from modelwright.training.plan import (
    PlanInput,
    StepPlan,
    can_compile,
    choose_compile,
    choose_precision,
    choose_steps,
    compile_gain,
    make_plan,
    revise_steps,
    steps_in,
)


def test_progress_is_the_share_of_steps_done():
    plan = StepPlan.of(200)
    assert [plan.progress(step) for step in (0, 50, 200)] == [0.0, 0.25, 1.0]


def test_a_steps_rate_is_that_of_its_middle():
    plan = StepPlan.of(4).revised(2, 8)
    assert [plan.middle(step) for step in (1, 2, 7)] == pytest.approx([0.375, 13 / 24, 23 / 24])
    assert StepPlan.of(1).middle(0) == 0.5


def test_a_revision_keeps_the_progress_made_and_ends_at_one():
    plan = StepPlan.of(100).revised(40, 60)
    assert plan.total == 60
    assert plan.progress(40) == pytest.approx(0.4)
    assert plan.progress(50) == pytest.approx(0.7)
    assert plan.progress(60) == 1.0


def test_steps_before_a_revision_keep_their_progress():
    assert StepPlan.of(100).revised(40, 60).progress(20) == 0.2


@sampled(
    total=st.integers(1, 500),
    revisions=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 400)), max_size=5),
)
def test_progress_never_falls_and_ends_at_one(total, revisions):
    plan, step = StepPlan.of(total), 0
    for ahead, more in revisions:
        if step + ahead >= plan.total:
            break
        step += ahead
        plan = plan.revised(step, step + more)
    along = [plan.progress(at) for at in range(plan.total + 1)]
    assert along == sorted(along)
    assert along[-1] == pytest.approx(1.0)


@sampled(
    budget=st.floats(0.1, 1e5), step=st.floats(1e-6, 10), most=st.none() | st.integers(1, 10_000)
)
def test_the_steps_fit_the_budget(budget, step, most):
    steps = steps_in(budget, step_s=step, overhead_s=0.0, most=most)
    assert steps >= 1
    assert steps == 1 or steps * step <= budget * (1 + 1e-9)
    assert most is None or steps <= most


def test_a_budget_is_fitted_anew_by_the_steps_that_are_left():
    """Points by the first plan alone lay beyond the end once a revision had shortened it."""
    plan = StepPlan.of(875)
    assert plan.points() == [88, 263, 438, 613, 744, 832]
    shorter = plan.revised(88, 389)
    points = shorter.points()
    assert len(points) == 5
    assert all(88 < point < 389 for point in points)
    for share, point in zip((0.3, 0.5, 0.7, 0.85, 0.95), points, strict=True):
        assert shorter.progress(point) >= share - 1e-9 > shorter.progress(point - 1) - 1e-9
    at = points[0]
    assert at not in shorter.revised(at, 300).points()
    assert len(shorter.revised(at, 300).points()) == 4


# -- decisions ------------------------------------------------------------------------------


class Times:
    """Costs that are known, and a list of those that were asked for."""

    def __init__(self, steps, validation=0.0):
        self.steps, self.validation = steps, validation
        self.asked = []

    def step_s(self, precision):
        self.asked.append(precision)
        return self.steps[precision]

    def mean_step_s(self, precision):
        return self.steps[precision]

    def validation_s(self, precision):
        return self.validation


def given(*, at_once=64, steps=1000, device="cpu", gain=0.0, **changes):
    return PlanInput(
        spec=TrainSpec(**{"epochs": 1, **changes}),
        device=device,
        steps_per_epoch=steps,
        at_once=at_once,
        compile_gain=gain,
    )


def chosen(times, **changes):
    costs = Times(times)
    return choose_precision(given(**changes), costs)["precision"], costs.asked


@pytest.fixture(autouse=True)
def a_processor_with_bf16(monkeypatch):
    monkeypatch.setattr("modelwright.training.plan.has_fast_bf16", lambda device: True)


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


def decoder():
    spec = DecoderModel(name="decoder", width=8, layers=1, heads=2, hidden=8)
    return Decoder(spec, TextFrame(9, max_length=8, num_outputs=9))


@pytest.mark.parametrize(
    ("network", "device", "seconds", "expected"),
    [
        (decoder(), "cpu", 1000.0, True),
        (decoder(), "cpu", 100.0, False),
        (nn.Linear(2, 2), "cpu", 10_000.0, False),
        (nn.Linear(2, 2), "cuda:0", 1000.0, True),
    ],
)
def test_compiling_must_save_more_than_it_costs(monkeypatch, network, device, seconds, expected):
    monkeypatch.setattr("modelwright.training.plan.can_compile", lambda: True)
    gain = compile_gain(network, device)
    found = choose_compile(given(device=device, gain=gain), training_s=seconds)
    assert found["compile"] is expected


def test_without_a_compiler_nothing_is_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with inductor_config.patch("cpp.cxx", (None, str(tmp_path / "none"))):
        assert not can_compile()
        found = choose_compile(given(gain=0.15), training_s=1e6)
    assert found == {"compile": False, "why": "there is no C++ compiler that torch can use"}


def steps(costs, *, elapsed=0.0, **changes):
    return choose_steps(given(**changes), costs, "fp32", lambda: elapsed)


def test_without_a_budget_epochs_say_the_number_of_steps_and_nothing_is_measured():
    assert steps(Times({}), epochs=2.5, steps=7, compile="off") == {
        "total": 18,
        "step_s": None,
        "why": "epochs",
    }


def test_a_budget_pays_for_steps_and_validations():
    found = steps(
        Times({"fp32": 0.125}, validation=5.0), epochs=None, budget="100s", elapsed=8.0, steps=40
    )
    # (100 - 8 - 5) s, at 0.125 s a step and 5 s for each 40 of them.
    assert found["total"] == 348
    assert steps(Times({"fp32": 0.1}), epochs=3, budget="1000s", steps=40)["total"] == 120


def test_a_revision_fits_the_steps_that_are_left():
    before = given(epochs=None, budget="100s")
    found = revise_steps(
        StepPlan.of(50), before, lambda name, take: take(), step=10, elapsed_s=40.0
    )
    assert found.total == 10 + 15  # 60 s at 4 s a step
    assert found.progress(10) == pytest.approx(0.2)


def test_decisions_that_were_written_down_are_read_and_nothing_is_measured():
    kept = {
        "precision": {"precision": "bf16"},
        "steps": {"total": 9, "step_s": 0.5},
        "compile": {"compile": False},
    }
    found = make_plan(given(), Times({}), lambda name, take: kept[name], elapsed_s=lambda: 0.0)
    assert (found.precision, found.steps.total, found.is_compiled) == ("bf16", 9, False)
