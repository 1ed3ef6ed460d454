"""Data of reports: small measurements of a pretended model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.data import Split
from modelwright.evaluation import DIFFERENCE, Place, judge, measure
from modelwright.kinds import InputKind, OutputKind
from modelwright.ledger import Evidence, Ledger
from modelwright.report import Answered, ReportData
from modelwright.run import StageReport
from modelwright.tasks import TASKS

HARDWARE = "a processor, 2 cores"
ATTACKS = (
    "<img src=x onerror=alert(1)>",
    "</style></title><script>alert(1)</script>",
    '" onload="alert(1)',
    "{{ 7 * 7 }}{% raw %}",
    "猫 😀 кот",
    "../../etc/passwd",
    "a" * 200,
    " ",
    "turned \u202e around\x00\x1b[31m",
    "not text \udcff",
    "javascript:alert(1)",
    "http://example.org/x.png",
)


class Answers:
    """A model that gives the outputs it was made with, by the number in a sample's first pixels."""

    digest = "sha256:" + "0" * 64
    parameters, multiply_adds, size_bytes, file_bytes = 98_765, 1_234_567, 1_500_000, 1_600_000

    def __init__(self, labels: Sequence[str], outputs: NDArray[np.float32]) -> None:
        self.labels, self._outputs = labels, outputs

    def outputs(self, inputs: NDArray[Any], /) -> NDArray[np.float32]:
        return self._outputs[np.ascontiguousarray(inputs[:, 0, 0, 0]).astype(int)]


def history(epochs: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": number + 1.0,
            "train_loss": 2.0 / (number + 1),
            "val_log_loss": 1.6 / (number + 1) + 0.1,
            "val_accuracy": 1 - 0.7 / (number + 1),
        }
        for number in range(epochs)
    ]


def baselines(count: int, *, by: float = 0.2, spread: float = 0.05) -> list[Evidence]:
    """Return three baselines' accuracy and how far the model is ahead, the strongest by `by`."""
    rows = []
    for number, name in enumerate(("majority", "centroid", "hog")):
        ahead = by + 0.1 * (2 - number)
        accuracy, split = 0.5 - ahead / 2, "test"
        for metric, value in (("accuracy", accuracy), (DIFFERENCE, ahead)):
            rows.append(
                Evidence(
                    metric=metric,
                    value=value,
                    low=value - spread,
                    high=value + spread,
                    n=count,
                    method="made up",
                    subject=f"baseline:{name}",
                    split=split,
                )
            )
    return rows


def data(
    labels: Sequence[str] = ("cat", "dog", "emu"),
    *,
    count: int = 120,
    sure: float = 2.0,
    side: int = 8,
    channels: int = 3,
    split: str = "test",
    targets: dict[str, str] | None = None,
    compared: bool = True,
    pictures: NDArray[np.uint8] | None = None,
    unknown: tuple[str, ...] = (),
    **changes: Any,
) -> ReportData:
    """Return the data of a report on a model whose right answer stands out by `sure`.

    Of the labels it doesn't know the last samples have one each.
    """
    random = np.random.default_rng(0)
    truth = np.arange(count, dtype=np.int64) % len(labels)
    outputs = random.normal(size=(count, len(labels))).astype(np.float32)
    outputs[np.arange(count), truth] += sure
    if unknown:
        truth[-len(unknown) :] = len(labels) + np.arange(len(unknown))
    numbers = np.arange(count, dtype=np.int64)
    numbered = numbers.reshape(-1, 1, 1, 1)
    if pictures is None:
        pictures = random.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    found = measure(
        Answers(tuple(labels), outputs),
        Split(split, numbered, numbers, truth, unknown=unknown),
        TASKS["image-classification", OutputKind.SINGLE_LABEL],
        fingerprint="sha256:1",
        place=Place(HARDWARE, "onnxruntime 1, 2 threads", 2),
    )
    ledger = Ledger([*found.evidence, *(baselines(count) if compared else [])])
    for metric, value in (
        ("latency_p50_ms", 0.0891),
        ("latency_p95_ms", 0.37),
        ("latency_p99_ms", 13.4),
        ("throughput_per_s", 7594.0),
    ):
        ledger.append(
            Evidence(
                metric=metric,
                value=value,
                low=value * 0.9,
                high=value * 1.2,
                n=500,
                method="made up",
                hardware=HARDWARE,
                runtime="onnxruntime 1, 2 threads",
            )
        )
    assert found.worst is not None
    stats = found.stats
    counts = {"train": [30] * len(labels), "validation": [5] * len(labels)}
    if split == "test":
        counts["test"] = np.bincount(truth, minlength=len(labels)).tolist()
    values: dict[str, Any] = {
        "name": "pets",
        "source": "folder pets",
        "ledger": ledger,
        "verdicts": judge(targets or {}, ledger, hardware=HARDWARE),
        "measurement": found,
        "select_by": "accuracy",
        "stages": [StageReport("train", 94.2, tuple(history(12)), 8)],
        "counts": counts,
        "findings": [],
        "test_accesses": 1 if split == "test" else None,
        "recipe": "version: 1\n# </script><script>alert(1)</script>\n",
        "decisions": {"precision": {"precision": "fp32", "why": "the recipe says so"}},
        "environment": {"python": "3.11", "onnxruntime": "1.32"},
        "lineage": [{"step": "train", "steps": 5}, {"step": "export", "difference": 6.44220620e-7}],
        "model_name": "model.mw",
        "model_digest": Answers.digest,
        "predict_command": "modelwright predict runs/pets/model.mw runs/pets/samples/0-cat.png",
        "seconds": 125.0,
        "mistakes": pictures[found.worst],
        "answers": [
            Answered(
                found.names[stats["targets"][at]],
                found.names[stats["predicted"][at]],
                f"{stats['confidence'][at]:.0%}",
            )
            for at in found.worst
        ],
    }
    return ReportData(**{**values, **changes})


def multi_label_data(labels: Sequence[str], *, count: int = 60, sure: float = 1.0) -> ReportData:
    """Return the data of a report on texts with several labels, two of which are shown."""
    random = np.random.default_rng(0)
    truth = random.random((count, len(labels))) < 0.3
    outputs = random.normal(size=truth.shape) + np.where(truth, sure, -sure)
    numbers = np.arange(count, dtype=np.int64)
    found = measure(
        Answers(tuple(labels), outputs.astype(np.float32)),
        Split("test", numbers.reshape(-1, 1, 1, 1), numbers, truth),
        TASKS["text-classification", OutputKind.MULTI_LABEL],
        fingerprint="sha256:1",
        place=Place(HARDWARE),
    )
    return data(
        input_kind=InputKind.TEXT,
        measurement=found,
        ledger=Ledger(found.evidence),
        select_by="f1_macro",
        stages=[
            StageReport(
                "train",
                94.2,
                ({"epoch": 1.0, "train_loss": 0.5, "val_log_loss": 0.6, "val_f1_macro": 0.7},),
                0,
            )
        ],
        counts={"train": [100], "test": [count]},
        mistakes=["a text", labels[0]],
        answers=[Answered("none", labels[0]), Answered(labels[-1], "none")],
    )


def number_data(labels: Sequence[str] = ("width", "height"), *, count: int = 60) -> ReportData:
    """Return the data of a report on images to numbers, the worst two of which are shown."""
    random = np.random.default_rng(0)
    truth = random.normal(size=(count, len(labels)))
    outputs = truth + random.normal(size=truth.shape) / 4
    numbers = np.arange(count, dtype=np.int64)
    found = measure(
        Answers(tuple(labels), outputs.astype(np.float32)),
        Split("test", numbers.reshape(-1, 1, 1, 1), numbers, truth),
        TASKS["regression", OutputKind.REGRESSION],
        fingerprint="sha256:1",
        place=Place(HARDWARE),
    )
    return data(
        measurement=found,
        ledger=Ledger(found.evidence),
        select_by="rmse",
        counts={"train": [100], "test": [count]},
        mistakes=np.zeros((2, 8, 8, 1), np.uint8),
        answers=[Answered("width 1", "width 9"), Answered("width 2", "width 0")],
    )


def generated_data() -> ReportData:
    """Return the data of a report on a language model."""
    tokens = np.ones(40, dtype=[("next", "int64", (2,)), ("bytes", "int64", (2,))])
    numbers = np.arange(40, dtype=np.int64)
    found = measure(
        Answers((), np.zeros((40, 2, 4), np.float32)),
        Split("test", numbers.reshape(-1, 1, 1, 1), numbers, tokens),
        TASKS["language-modeling", OutputKind.CAUSAL_LM],
        fingerprint="sha256:1",
        place=Place(HARDWARE),
    )
    return data(
        input_kind=InputKind.TEXT,
        measurement=found,
        ledger=Ledger(found.evidence),
        select_by="token_loss",
        counts={"train": [100], "test": [40]},
        mistakes=["Once upon", "There was"],
        answers=[Answered(None, " a time"), Answered(None, " a <king>")],
    )
