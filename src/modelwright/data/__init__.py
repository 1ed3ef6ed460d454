"""Data: sources, the store, splits, the audit, the order of samples, batches."""

from __future__ import annotations

from modelwright.data.dataset import Dataset, Split
from modelwright.data.findings import AuditReport, Finding, as_errors
from modelwright.data.overlap import Overlap, RunSplits, run_splits
from modelwright.data.prepare import Labelled, Prepared, labelled_split, prepare, prepare_again
from modelwright.data.sampler import BatchSampler, BucketedSampler, Sampler, padding_share
from modelwright.data.unlabelled import Unlabelled, unlabelled_split

__all__ = [
    "AuditReport",
    "BatchSampler",
    "BucketedSampler",
    "Dataset",
    "Finding",
    "Labelled",
    "Overlap",
    "Prepared",
    "RunSplits",
    "Sampler",
    "Split",
    "Unlabelled",
    "as_errors",
    "labelled_split",
    "padding_share",
    "prepare",
    "prepare_again",
    "run_splits",
    "unlabelled_split",
]
