"""Data: sources, the store, splits, the audit, the order of samples, batches."""

from __future__ import annotations

from modelwright.data.dataset import Dataset, Split
from modelwright.data.sampler import Sampler

__all__ = ["Dataset", "Sampler", "Split"]
