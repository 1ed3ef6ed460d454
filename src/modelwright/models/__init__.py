"""Networks: one module a family, built from the recipe's section `model`."""

from __future__ import annotations

from modelwright.models.building import build

__all__ = ["build"]
