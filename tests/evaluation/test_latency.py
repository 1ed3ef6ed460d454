"""Time per prediction, by a clock that the test holds in its hand."""

from __future__ import annotations

import gc
import re

import numpy as np
import onnxruntime
import pytest

from modelwright.errors import DataError
from modelwright.evaluation import BATCH, Place, hardware, measure_latency, runtime
from modelwright.ledger import Evidence
from modelwright.run import memory_bytes

PLACE = Place("a processor", "a runtime", 2)
PIXELS = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(4, axis=1).repeat(4, axis=2)


class Clockwork:
    """A clock, and a model whose answers take the time that the test says."""

    def __init__(self, times_ms: list[float], *, batch_ms: float) -> None:
        self.now = 0
        self.times_ms = times_ms
        self.batch_ms = batch_ms
        self.asked: list[int] = []
        self.first: list[int] = []

    def clock(self) -> int:
        return self.now

    def answer(self, pixels: np.ndarray) -> None:
        took = self.times_ms[len(self.asked) % len(self.times_ms)]
        self.now += round((took if len(pixels) == 1 else self.batch_ms) * 1e6)
        self.asked.append(len(pixels))
        self.first.append(int(pixels[0, 0, 0, 0]))


def measured(work: Clockwork, **options: float) -> dict[str, Evidence]:
    found = measure_latency(
        work.answer,
        PIXELS,
        place=PLACE,
        model="sha256:m",
        clock=work.clock,
        **options,  # type: ignore[arg-type]
    )
    return {record.metric: record for record in found}


def test_quantiles_and_throughput() -> None:
    work = Clockwork([*[1.0] * 90, *[3.0] * 8, 9.0, 9.0], batch_ms=32.0)
    found = measured(work)
    assert found["latency_p50_ms"].value == 1.0
    assert found["latency_p95_ms"].value == 3.0
    assert found["latency_p99_ms"].value == 9.0
    for record in found.values():
        assert record.low <= record.value <= record.high
        assert (record.hardware, record.threads, record.split) == ("a processor", 2, "")
        assert record.model == "sha256:m"
    assert found["latency_p95_ms"].n >= 400
    assert found["throughput_per_s"].value == BATCH / 0.032
    assert "batches of 64" in found["throughput_per_s"].method


def test_samples_take_turns_and_the_first_answers_do_not_count() -> None:
    work = Clockwork([1.0], batch_ms=10.0)
    found = measured(work, seconds=0.3)
    assert set(work.asked) == {1, BATCH}
    assert set(work.first) == {0, 1, 2, 3, 4}
    assert found["latency_p50_ms"].n == work.asked.count(1) - 20


def test_times_that_hardly_differ_end_the_timing_early():
    steady = Clockwork([1.0, 1.01, 1.02], batch_ms=10.0)
    uneven = Clockwork([*[1.0] * 93, 1.0, 1.3, 1.6, 2.0, 2.3, 2.6, 3.0], batch_ms=10.0)
    assert 400 <= measured(steady)["latency_p95_ms"].n < 600
    assert measured(uneven)["latency_p95_ms"].n > 1000
    few = measured(Clockwork([1.0], batch_ms=10.0), seconds=0.3)["latency_p95_ms"]
    assert few.n == 400
    assert few.low == few.value == few.high == 1.0


def test_uneven_times_are_taken_for_as_long_as_was_asked() -> None:
    random = np.random.default_rng(0)
    work = Clockwork(random.lognormal(0, 1.5, 9999).tolist(), batch_ms=0.0)
    spent = {1: 0.0, BATCH: 0.0}

    def answer(pixels: np.ndarray) -> None:
        work.batch_ms, before = float(random.lognormal(3, 1.5)), work.now
        work.answer(pixels)
        spent[len(pixels)] += (work.now - before) / 1e9

    measure_latency(answer, PIXELS, place=PLACE, model="m", clock=work.clock, seconds=30.0)
    # Two thirds for single answers, and a third for batches, beside 20 calls each to warm up.
    assert spent[1] == pytest.approx(20, rel=0.05)
    assert spent[BATCH] == pytest.approx(10, rel=0.2)


def test_a_slow_model_ends_and_says_what_it_does_not_bound() -> None:
    found = measured(Clockwork([2000.0], batch_ms=90_000.0), seconds=3.0)
    assert 2 <= found["latency_p99_ms"].n < 10
    assert "too few answers" in found["latency_p99_ms"].method
    assert found["throughput_per_s"].n == 2


def test_a_clock_that_stands_still_ends_too() -> None:
    found = measured(Clockwork([0.0], batch_ms=0.0))
    assert found["latency_p50_ms"].value > 0
    assert np.isfinite(found["throughput_per_s"].value)


def test_garbage_is_left_as_it_was() -> None:
    before = gc.get_freeze_count()
    measured(Clockwork([1.0], batch_ms=10.0), seconds=0.1)
    assert gc.get_freeze_count() == before
    assert gc.isenabled()


def test_what_was_kept_from_collection_stays_so() -> None:
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        measured(Clockwork([1.0], batch_ms=10.0), seconds=0.1)
        # Some of them may have been let go of meanwhile.
        assert gc.get_freeze_count() > 0.99 * before
    finally:
        gc.unfreeze()


def test_no_samples_are_refused() -> None:
    with pytest.raises(DataError, match="no samples to measure the latency"):
        measure_latency(len, PIXELS[:0], place=PLACE, model="")


def test_hardware_and_runtime_are_named() -> None:
    assert hardware() == hardware()
    memory = r", \d+ GiB" if memory_bytes() else ""
    assert re.fullmatch(rf".+, \d+ cores?{memory}", hardware())
    assert runtime(threads=1) == f"onnxruntime {onnxruntime.__version__}, 1 thread"
    assert runtime(threads=2).endswith("2 threads")
