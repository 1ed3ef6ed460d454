"""Figures for Prometheus and lines of JSON, neither with anything of what was asked."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from modelwright.serving.hosting import Hosting

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Telemetry:
    """The figures of a server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "modelwright"}
        self._requests = Counter("requests", "Requests", ["route", "model", "status"], **own)
        self._seconds = Histogram(
            "request_seconds", "Time for a request", ["route", "model"], buckets=_LATENCIES, **own
        )
        self._batches = Histogram(
            "batch_size", "Requests in a batch", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64), **own
        )
        self._waiting = Gauge("queue_waiting", "Requests that wait", ["model", "version"], **own)
        self._memory = Gauge(
            "worker_resident_bytes", "Memory of a worker", ["model", "version", "worker"], **own
        )
        self._events = Counter("events", "Workers lost, models loaded, alarms", ["event"], **own)
        self._count = cache(self._requests.labels)
        self._time = cache(self._seconds.labels)
        self._batch = cache(self._batches.labels)

    def request(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._count(route, model, str(status)).inc()
        self._time(route, model).observe(seconds)

    def batch(self, model: str, size: int) -> None:
        """Count a batch."""
        self._batch(model).observe(size)

    def event(self, name: str, **figures: Any) -> None:
        """Count what happened, and write a line of it."""
        self._events.labels(name).inc()
        log(name, **figures)

    def exposition(self, hosting: Hosting) -> bytes:
        """Return all figures in Prometheus' text format."""
        self._waiting.clear()
        self._memory.clear()
        for name, versions in hosting.pools.items():
            for version, pool in versions.items():
                self._waiting.labels(name, version).set(pool.waiting)
                for place, worker in enumerate(pool.workers):
                    self._memory.labels(name, version, str(place)).set(worker.resident_bytes())
        return generate_latest(self.registry)


def log(event: str, **figures: Any) -> None:
    """Write a line of JSON to standard error."""
    line = {"time": round(time.time(), 3), "event": event, **figures}
    with contextlib.suppress(OSError, ValueError):  # Whoever read it has gone, or its disk is full.
        sys.stderr.write(json.dumps(line) + "\n")
