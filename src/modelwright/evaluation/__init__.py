"""How good, how fast and how large a model file is, and whether that meets what was asked.

Everything is measured on the file, through the runtime that serves it, and becomes evidence.
"""

from __future__ import annotations

from modelwright.evaluation.access_log import TestSetAccess, read_accesses, record_access
from modelwright.evaluation.baselines import BASELINES, measure_baselines
from modelwright.evaluation.compare import DIFFERENCE, Comparison, answer, compare
from modelwright.evaluation.gate import Verdict, headline, judge
from modelwright.evaluation.latency import BATCH, Place, hardware, measure_latency, runtime
from modelwright.evaluation.measure import (
    WITHOUT_NEAR,
    HasOutputs,
    Measurement,
    Mistake,
    measure,
    sizes,
)
from modelwright.evaluation.scores import Scored, measure_scores, measure_texts
from modelwright.evaluation.simple import (
    average_boxes,
    frequent_tokens,
    label_set_baselines,
    mean_numbers,
)
from modelwright.evaluation.threshold import (
    choose_threshold,
    chosen_threshold,
    measure_threshold,
    require_class,
)

__all__ = [
    "BASELINES",
    "BATCH",
    "DIFFERENCE",
    "WITHOUT_NEAR",
    "Comparison",
    "HasOutputs",
    "Measurement",
    "Mistake",
    "Place",
    "Scored",
    "TestSetAccess",
    "Verdict",
    "answer",
    "average_boxes",
    "choose_threshold",
    "chosen_threshold",
    "compare",
    "frequent_tokens",
    "hardware",
    "headline",
    "judge",
    "label_set_baselines",
    "mean_numbers",
    "measure",
    "measure_baselines",
    "measure_latency",
    "measure_scores",
    "measure_texts",
    "measure_threshold",
    "read_accesses",
    "record_access",
    "require_class",
    "runtime",
    "sizes",
]
