"""The report: one offline HTML file, from the ledger, for people who don't know the field."""

from __future__ import annotations

from modelwright.report.data import Answered, Changed, ReportData, Tried
from modelwright.report.page import write_report
from modelwright.report.pictures import with_boxes

__all__ = ["Answered", "Changed", "ReportData", "Tried", "with_boxes", "write_report"]
