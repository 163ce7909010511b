"""Metrics that are plain numbers have the exposition of prometheus_client's own classes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest

from broker.infrastructure.observability.metrics import Tally, render
from broker.login.metrics import WAITING_BROWSERS

NAME, HELP, LABELS = "test_tally", "Things of this \\test", ["app", "state"]

CREATED = re.compile(rb"test_tally_created\{.*\} (\S+)")


@pytest.fixture
def tally() -> Iterator[Tally]:
    tally = Tally(NAME, HELP, LABELS)
    yield tally
    REGISTRY.unregister(tally)


def exposition(text: bytes, name: str) -> list[str]:
    """Return the lines of a metric, with its time of creation hidden."""
    lines = [line for line in text.decode().splitlines() if name in line]
    return [re.sub(r"(_created\{.*\}) [\d.e+]+", r"\1 time", line) for line in lines]


def test_tally_is_exposed_as_a_counter(tally: Tally) -> None:
    registry = CollectorRegistry()
    counter = Counter(NAME, HELP, LABELS, registry=registry)

    for app, state in [("shop", "pending"), ('"\\\n', "é"), ("shop", "pending"), ("a", "b")]:
        counter.labels(app, state).inc()
        tally.labels(app, state).inc()
    counter.labels("never", "counted")
    tally.labels("never", "counted")

    lines = exposition(render(), NAME)
    assert lines == exposition(generate_latest(registry), NAME)
    assert 'test_tally_total{app="shop",state="pending"} 2.0' in lines


def test_tally_keeps_the_time_of_creation(tally: Tally) -> None:
    number = tally.labels("shop", "pending")

    assert tally.labels("shop", "pending") is number
    assert float(CREATED.findall(render())[0]) == number.created


def test_waiting_browsers_are_exposed_as_a_gauge() -> None:
    name, registry = "scanlogin_waiting_browsers", CollectorRegistry()
    gauge = Gauge(name, "Browsers that wait at this instance", registry=registry)
    WAITING_BROWSERS.inc()
    try:
        gauge.set(WAITING_BROWSERS.value)

        assert exposition(render(), name) == exposition(generate_latest(registry), name)
    finally:
        WAITING_BROWSERS.dec()
