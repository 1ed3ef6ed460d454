"""The gate: the recipe's targets against the ledger, and the headline figures.

A target is met by the point value of test evidence (validation only where there is no test split).
It is *proven* when the 95 % bound meets it too, on enough samples that no choice was made by, and,
where it is a time, on this hardware.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from operator import ge, gt, le, lt

from modelwright.errors import nearest
from modelwright.evaluation.gain import GAIN
from modelwright.evaluation.intervals import is_bounded
from modelwright.evaluation.latency import QUANTILES
from modelwright.files import Json, JsonObject
from modelwright.ledger import Evidence, Ledger
from modelwright.recipe.targets import FEWEST_SAMPLES, METRICS, parse_target

IS_SIMPLE = "it is the simple method"
"""Why a model that is the best simple method proves nothing by not being worse than it."""

_COMPARE: dict[str, Callable[[float, float], bool]] = {">=": ge, ">": gt, "<=": le, "<": lt}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one target."""

    metric: str
    target: str
    """As the recipe has it: `>= 0.93`."""
    bound: float
    value: float | None = None
    """The measured figure; `None` where nothing was measured."""
    low: float | None = None
    high: float | None = None
    passed: bool = False
    proven: bool = False
    why: str = ""
    """Why it isn't met, or isn't proven; else empty."""

    @property
    def outcome(self) -> str:
        """The verdict in a word or two; `why` says more."""
        if not self.passed:
            return "missed"
        if self.why == IS_SIMPLE:
            return "met"
        return "met, proven" if self.proven else "met, not proven"

    def to_json(self) -> JsonObject:
        """Return the verdict as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Json]) -> Verdict:
        """Read what `to_json` returned; keys of a later version are passed over."""
        known = {field.name for field in fields(Verdict)}
        return Verdict(**{key: item for key, item in value.items() if key in known})


def judge(targets: Mapping[str, str], ledger: Ledger, *, hardware: str) -> tuple[Verdict, ...]:
    """Judge every target, such as `{"accuracy": ">= 0.93"}`, in the order of the recipe.

    `hardware` is this machine, as `latency.hardware` names it.
    """
    return tuple(_judge(metric, text, ledger, hardware) for metric, text in targets.items())


def headline(ledger: Ledger) -> dict[str, dict[str, float]]:
    """Return the model's figures over all samples by metric: value, bounds and sample count."""
    by_metric: dict[str, Ledger] = {}
    for record in ledger:
        by_metric.setdefault(record.metric, Ledger()).append(record)
    records = {metric: _held_out(metric, of_it, hardware="") for metric, of_it in by_metric.items()}
    return {
        metric: {"value": record.value, "low": record.low, "high": record.high, "n": record.n}
        for metric, record in records.items()
        if record is not None
    }


def _judge(metric: str, text: str, ledger: Ledger, hardware: str) -> Verdict:
    sign, bound = parse_target(text)
    record = _held_out(metric, ledger, hardware=hardware)
    if record is None or math.isnan(record.value):
        why = _missing(metric, ledger) if record is None else "the measured value isn't a number"
        return Verdict(metric=metric, target=text, bound=bound, why=why)
    meets = _COMPARE[sign]
    passed = meets(record.value, bound)
    limit = record.low if sign.startswith(">") else record.high
    why = _doubt(record, hardware)
    if not passed:
        why = f"measured {_short(record.value)}, {_short(abs(record.value - bound))} from the bound"
    elif not why and not meets(limit, bound):
        why = f"the 95 % interval reaches to {_short(limit)}"
    return Verdict(
        metric=metric,
        target=text,
        bound=bound,
        value=record.value,
        low=record.low,
        high=record.high,
        passed=passed,
        proven=passed and not why,
        why=why,
    )


def _held_out(metric: str, ledger: Ledger, *, hardware: str) -> Evidence | None:
    """Return the newest record that may be judged: test before validation, this hardware first."""
    records = [
        record
        for record in ledger
        if (record.metric, record.subject, record.slice) == (metric, "model", "")
        and record.split != "train"
    ]
    tested = [record for record in records if record.split != "validation"] or records
    here = [record for record in tested if _is_timed(metric) and record.hardware == hardware]
    return next(reversed(here or tested), None)


def _doubt(record: Evidence, hardware: str) -> str:
    """Say why evidence proves nothing here, whatever its interval; empty where it may."""
    if _is_timed(record.metric) and record.hardware != hardware:
        return f"unproven here: measured on {record.hardware or 'unknown hardware'}"
    if _is_timed(record.metric) and record.basis == "derived":
        return f"unproven: told by the profile of {record.hardware}, not measured there"
    share = QUANTILES.get(record.metric)
    if share is not None and not is_bounded(share, record.n):
        return f"{record.n} answers are too few to bound it"
    if record.metric == GAIN and record.basis == "derived":
        return IS_SIMPLE
    if record.split == "validation":
        return "measured on the validation split, which also chose the epoch"
    if record.split and record.n < fewest_samples(record.metric):
        return f"{record.n} samples are too few to say"
    if record.split and record.low == record.high:
        return "nothing varies in these samples, so no interval is known"
    return ""


def fewest_samples(metric: str) -> int:
    """Return from how many samples on the intervals of a metric are known to hold."""
    return METRICS[metric].fewest_samples if metric in METRICS else FEWEST_SAMPLES


def _missing(metric: str, ledger: Ledger) -> str:
    if any(record.metric == metric and record.subject == "model" for record in ledger):
        return "measured on training samples or on a part of the samples only"
    if _is_timed(metric):
        return "not measured: the recipe leaves time out (`evaluate.latency: false`)"
    known = dict.fromkeys(record.metric for record in ledger if record.subject == "model")
    return f"not measured. {nearest(metric, known)}" if known else "nothing was measured"


def _is_timed(metric: str) -> bool:
    return metric in METRICS and METRICS[metric].is_timed


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.4g}"
