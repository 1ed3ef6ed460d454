"""Data: sources, the store, splits, the audit, the order of samples, batches."""

from __future__ import annotations

from modelwright.data.audit import AuditReport, Finding, as_errors
from modelwright.data.boxed import guess_boxes, has_boxes
from modelwright.data.dataset import Dataset, Split
from modelwright.data.folder import likely_kind
from modelwright.data.labelled_lines import read_maybe_packed
from modelwright.data.multi_label import are_lists
from modelwright.data.prepare import Prepared, labelled_split, prepare
from modelwright.data.sampler import BatchSampler, BucketedSampler, Sampler, padding_share
from modelwright.data.table import (
    columns_of,
    first_values,
    guess_table,
    is_table,
    is_table_folder,
    no_table,
)
from modelwright.data.transcripts import has_transcripts, holds_transcripts
from modelwright.data.unlabelled import unlabelled_files, unlabelled_texts

__all__ = [
    "AuditReport",
    "BatchSampler",
    "BucketedSampler",
    "Dataset",
    "Finding",
    "Prepared",
    "Sampler",
    "Split",
    "are_lists",
    "as_errors",
    "columns_of",
    "first_values",
    "guess_boxes",
    "guess_table",
    "has_boxes",
    "has_transcripts",
    "holds_transcripts",
    "is_table",
    "is_table_folder",
    "labelled_split",
    "likely_kind",
    "no_table",
    "padding_share",
    "prepare",
    "read_maybe_packed",
    "unlabelled_files",
    "unlabelled_texts",
]
