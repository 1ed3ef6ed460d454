"""Which metrics texts from texts have."""

from __future__ import annotations

import numpy as np
import pytest

from modelwright.kinds import OutputKind
from modelwright.metrics import text as metrics
from modelwright.tasks import TASKS

WRITTEN = ["The cat sat on the mat today.", "A dog ran."]
REFERENCES = ["The cat is on the mat today.", "The dog ran home."]


@pytest.mark.parametrize(
    ("name", "measured"),
    [("translation", {"bleu", "chrf"}), ("summarization", {"rouge1", "rouge2", "rouge_l", "chrf"})],
)
def test_each_task_measures_its_own_goal(name, measured):
    task = TASKS[name, OutputKind.SEQ2SEQ]
    assert task.text_metrics is not None
    stats = task.text_metrics.sample_stats(WRITTEN, REFERENCES)
    found = task.text_metrics.compute(stats)
    assert set(found) == measured
    assert task.goal[0] in measured
    chrf = metrics.chrf(metrics.chrf_statistics(WRITTEN, REFERENCES).sum(axis=0))
    assert found["chrf"] == pytest.approx(float(chrf))
    if name == "translation":
        sums = metrics.bleu_statistics(WRITTEN, REFERENCES, "13a").sum(axis=0)
        assert found["bleu"] == pytest.approx(float(metrics.bleu(sums)))
        assert "`13a`" in task.text_metrics.describe(REFERENCES)
    else:
        rouge = metrics.rouge_statistics(WRITTEN, REFERENCES).mean(axis=0)
        np.testing.assert_allclose([found[each] for each in ("rouge1", "rouge2", "rouge_l")], rouge)
        assert task.text_metrics.describe(REFERENCES).startswith("ROUGE")
