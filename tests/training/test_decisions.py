from __future__ import annotations

import pytest
from torch import nn

from modelwright.models.decoder import Decoder
from modelwright.recipe.train import TrainSpec
from modelwright.training import decisions
from modelwright.training.decisions import (
    can_compile,
    choose_compile,
    choose_precision,
    compile_gain,
)


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


def decoder():
    return Decoder(
        9, width=8, layers=1, heads=2, kv_heads=2, hidden=8, max_length=8, tied=True, dropout=0.0
    )


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
    monkeypatch.setattr(decisions, "can_compile", lambda: True)
    gain = compile_gain(network, device)
    found = choose_compile(TrainSpec(), training_s=seconds, device=device, gain=gain)
    assert found["compile"] is expected


def test_without_a_compiler_nothing_is_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, str(tmp_path / "none")))
    assert not can_compile()
    found = choose_compile(TrainSpec(), training_s=1e6, device="cpu", gain=0.15)
    assert found == {"compile": False, "why": "there is no C++ compiler that torch can use"}
