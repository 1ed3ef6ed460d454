"""The alarm on unusual queries: told of someone whose questions the model is unsure of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from modelwright.security.roles import Grant, Principal
from modelwright.serving.calls import Call


class Watched:
    """Someone who asks the model `digits`, and what was told of them."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        telemetry = SimpleNamespace(event=lambda name, **what: self.told.append({name: what}))
        self.state: Any = SimpleNamespace(telemetry=telemetry, confidences={})

    def ask(self, confidence: float | None, count: int, who: str = "one") -> None:
        principal = Principal(who, Grant("predictor", "*"), None, None)
        call = Call(None, self.state, principal, "", name="digits")  # type: ignore[arg-type]
        for _ in range(count):
            call.watch({"expected_confidence": 0.95}, [confidence])


def test_questions_that_the_model_is_unsure_of_are_told():
    watched = Watched()
    watched.ask(0.6, 199)
    assert watched.told == []
    watched.ask(0.6, 1)
    told = {"principal": "one", "model": "digits", "confidence": 0.6}
    assert watched.told == [{"unusual_queries": told}]
    watched.ask(0.6, 199)
    assert len(watched.told) == 1  # Once in 200 answers.
    watched.ask(0.6, 1)
    assert len(watched.told) == 2


@pytest.mark.parametrize("confidence", [0.95, 0.8, None])
def test_usual_questions_are_not_told(confidence):
    watched = Watched()
    watched.ask(confidence, 1000)
    assert watched.told == []


def test_those_who_ask_are_told_apart():
    watched = Watched()
    for who in ("one", "two"):
        watched.ask(0.3, 150, who)
    assert watched.told == []


def test_unusual_questions_among_many_usual_ones_are_not_told():
    watched = Watched()
    for _ in range(200):
        watched.ask(0.95, 3)
        watched.ask(0.6, 1)
    assert watched.told == []
