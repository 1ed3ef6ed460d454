"""How good, how fast and how large a model file is, and whether that meets the targets.

Everything is measured on the file, through the runtime that serves it, and becomes evidence.
"""

from __future__ import annotations

from modelwright.evaluation.access_log import TestSetAccess, record_access
from modelwright.evaluation.baselines import Problem, measure_baselines
from modelwright.evaluation.calibration import fit_temperature, temperature_evidence
from modelwright.evaluation.comparison import (
    PARENT,
    PARENT_GAIN,
    Comparison,
    compare,
    compare_latency,
    compare_sizes,
)
from modelwright.evaluation.gain import GAIN
from modelwright.evaluation.gate import IS_SIMPLE, Verdict, headline, judge
from modelwright.evaluation.labels import DIFFERENCE, WITHOUT_NEAR
from modelwright.evaluation.latency import BATCH, TIMES, Place, hardware, measure_latency, runtime
from modelwright.evaluation.measure import measure
from modelwright.evaluation.measurement import Measurement, sizes
from modelwright.evaluation.threshold import (
    choose_threshold,
    chosen_threshold,
    measure_threshold,
    require_class,
    threshold_evidence,
)

__all__ = [
    "BATCH",
    "DIFFERENCE",
    "GAIN",
    "IS_SIMPLE",
    "PARENT",
    "PARENT_GAIN",
    "TIMES",
    "WITHOUT_NEAR",
    "Comparison",
    "Measurement",
    "Place",
    "Problem",
    "TestSetAccess",
    "Verdict",
    "choose_threshold",
    "chosen_threshold",
    "compare",
    "compare_latency",
    "compare_sizes",
    "fit_temperature",
    "hardware",
    "headline",
    "judge",
    "measure",
    "measure_baselines",
    "measure_latency",
    "measure_threshold",
    "record_access",
    "require_class",
    "runtime",
    "sizes",
    "temperature_evidence",
    "threshold_evidence",
]
