"""Numbers as answers, and as text."""

from __future__ import annotations

import numpy as np

from modelwright.kinds import OutputKind
from modelwright.tasks import TASKS


def test_numbers_have_names_where_there_are_several():
    task = TASKS["regression", OutputKind.REGRESSION]
    assert task.describe(np.array([2.5, -1.0]), ["width", "height"]) == "width 2.5, height -1"
    assert task.describe(np.array([1 / 3]), ["width"]) == "0.333333"
    (answer,) = task.decode(np.array([[2.5, -1.0]]), ["width", "height"], 1)
    assert answer == [{"label": "width", "value": 2.5}, {"label": "height", "value": -1.0}]
