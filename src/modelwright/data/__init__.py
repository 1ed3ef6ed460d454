"""Data: sources, the store, splits, the audit, the order of samples, batches."""

from __future__ import annotations

from modelwright.data.audit import AuditReport, Finding, as_errors
from modelwright.data.dataset import Dataset, Split
from modelwright.data.folder import likely_kind
from modelwright.data.prepare import Prepared, labelled_split, prepare
from modelwright.data.sampler import BucketedSampler, Sampler, padding_share
from modelwright.data.table import guess_table, is_table, is_table_folder

__all__ = [
    "AuditReport",
    "BucketedSampler",
    "Dataset",
    "Finding",
    "Prepared",
    "Sampler",
    "Split",
    "as_errors",
    "guess_table",
    "is_table",
    "is_table_folder",
    "labelled_split",
    "likely_kind",
    "padding_share",
    "prepare",
]
