"""A text to a shorter text that says the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modelwright import metrics
from modelwright.tasks import translation
from modelwright.tasks.task import SampleStats


def _judge(found: Sequence[str], wanted: Sequence[str]) -> SampleStats:
    return {
        "rouge": metrics.rouge_statistics(found, wanted),
        "chrf": metrics.chrf_statistics(found, wanted),
    }


def _judged(tally: SampleStats) -> Mapping[str, float]:
    first, second, longest = tally["rouge"].mean(axis=0).tolist()
    chrf = metrics.chrf(tally["chrf"].sum(axis=0))
    return {"rouge1": first, "rouge2": second, "rouge_l": longest, "chrf": chrf}


def _judged_by(wanted: Sequence[str]) -> str:
    return "ROUGE in runs of letters and digits, and characters of scripts without blanks"


TASK = replace(
    translation.TASK,
    name="summarization",
    judge=_judge,
    judged=_judged,
    judged_by=_judged_by,
)
