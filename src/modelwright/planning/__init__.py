"""Forecasts of memory, disk and time, and what a search under limits tries and chooses."""

from __future__ import annotations

from modelwright.planning.forecast import Forecast, Workload, forecast
from modelwright.planning.front import LIMITED, Figure, Goal, Point, least_after
from modelwright.planning.study import Study, Trial

__all__ = [
    "LIMITED",
    "Figure",
    "Forecast",
    "Goal",
    "Point",
    "Study",
    "Trial",
    "Workload",
    "forecast",
    "least_after",
]
