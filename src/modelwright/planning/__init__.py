"""Forecasts of memory, disk and time, before anything is trained."""

from __future__ import annotations

from modelwright.planning.forecast import Forecast, Workload, forecast

__all__ = ["Forecast", "Workload", "forecast"]
