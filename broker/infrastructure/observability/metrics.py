"""Metrics in Prometheus' text format.

Each module defines its metrics. No label contains a login, a scene, a session or an address.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

__all__ = [
    "CONTENT_TYPE",
    "Counter",
    "Durations",
    "Gauge",
    "Histogram",
    "Number",
    "Tally",
    "Timer",
    "render",
]

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Durations:
    """The durations of one label's value.

    bounds: upper bounds of the buckets in seconds, ascending.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds


class Timer(Collector):
    """A histogram of seconds with one label, for work that every login does.

    prometheus_client's Histogram takes a lock for each value, and four times as many instructions.
    Only the thread of the event loop observes and renders.
    """

    def __init__(self, name: str, documentation: str, label: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._bounds = bounds
        self._durations: dict[str, Durations] = {}
        REGISTRY.register(self)

    def labels(self, value: str) -> Durations:
        """Return the durations of a value. Callers keep them."""
        return self._durations.setdefault(value, Durations(self._bounds))

    def describe(self) -> Iterator[HistogramMetricFamily]:
        yield HistogramMetricFamily(self._name, self._documentation, labels=[self._label])

    def collect(self) -> Iterator[HistogramMetricFamily]:
        [family] = self.describe()
        names = [*map(str, self._bounds), "+Inf"]
        for value, durations in self._durations.items():
            if not any(durations.counts):
                continue  # most routes of an instance get no requests
            buckets = list(zip(names, accumulate(durations.counts), strict=True))
            family.add_metric([value], buckets, durations.total)
        yield family


class Number:
    """A number that only the thread of the event loop changes and renders.

    prometheus_client's Counter and Gauge take a lock for each change, and ten times as many
    instructions.
    """

    __slots__ = ("created", "value")

    def __init__(self) -> None:
        self.value = 0
        self.created = time.time()

    def inc(self) -> None:
        self.value += 1

    def dec(self) -> None:
        self.value -= 1


class Tally(Collector):
    """A counter with labels, for what every login counts."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._numbers: dict[tuple[str, ...], Number] = {}
        REGISTRY.register(self)

    def labels(self, *values: str) -> Number:
        """Return the number of these values. Callers keep it."""
        return self._numbers.setdefault(tuple(map(str, values)), Number())

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._documentation, labels=self._labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        [family] = self.describe()
        for values, number in self._numbers.items():
            family.add_metric(values, number.value, number.created)
        yield family


def render() -> bytes:
    """Return all metrics."""
    return generate_latest()
