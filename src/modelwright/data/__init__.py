"""Data: sources, the store, splits, the audit, the order of samples, batches."""

from __future__ import annotations

from modelwright.data.audit import AuditReport, Finding, as_errors
from modelwright.data.dataset import Dataset, Split
from modelwright.data.prepare import Prepared, labelled_split, prepare
from modelwright.data.sampler import Sampler
from modelwright.data.table import guess_columns, is_table_folder

__all__ = [
    "AuditReport",
    "Dataset",
    "Finding",
    "Prepared",
    "Sampler",
    "Split",
    "as_errors",
    "guess_columns",
    "is_table_folder",
    "labelled_split",
    "prepare",
]
