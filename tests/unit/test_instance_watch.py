"""Tests of the decision that an instance has ended."""

from __future__ import annotations

import pytest

from broker.monitoring.instance_watch import GAP_MAX, UNSEEN_MAX, InstanceWatch
from broker.monitoring.monitor import INTERVAL
from broker.monitoring.ports import Profile
from tests.support.builders import Clock


@pytest.fixture
def watch(clock: Clock) -> InstanceWatch:
    return InstanceWatch("one", clock)


PROFILE = Profile(started_at=0.0, token_keys=(), seal_keys=())


def observe(watch: InstanceWatch, clock: Clock, seconds: float, *others: str) -> None:
    """Observe the same instances as often as the monitor does."""
    end = clock.time + seconds
    while clock.time < end:
        clock.time += INTERVAL
        watch.observe(dict.fromkeys(others, PROFILE))


def test_instance_that_runs_has_not_ended(watch: InstanceWatch, clock: Clock) -> None:
    observe(watch, clock, 2 * UNSEEN_MAX, "two")

    assert not watch.ended(["one", "two"])


def test_missing_instance_has_ended_after_a_while(watch: InstanceWatch, clock: Clock) -> None:
    observe(watch, clock, 2 * UNSEEN_MAX, "two", "three")

    observe(watch, clock, UNSEEN_MAX - INTERVAL, "three")
    assert not watch.ended(["two", "three"])
    observe(watch, clock, INTERVAL, "three")

    assert watch.ended(["two", "three"]) == {"two"}


def test_new_watch_decides_after_a_while(watch: InstanceWatch, clock: Clock) -> None:
    """An instance that has lost its connection publishes its profile again."""
    observe(watch, clock, UNSEEN_MAX - INTERVAL)
    assert not watch.ended(["two"])

    observe(watch, clock, INTERVAL)

    assert watch.ended(["two"]) == {"two"}


def test_outage_of_the_state_ends_no_instance(watch: InstanceWatch, clock: Clock) -> None:
    """The profiles of all instances have expired during the outage."""
    observe(watch, clock, 2 * UNSEEN_MAX, "two")

    clock.time += GAP_MAX + INTERVAL
    assert not watch.ended(["two"])
    watch.observe({})

    assert not watch.ended(["two"])


def test_watch_drops_ended_instances(watch: InstanceWatch, clock: Clock) -> None:
    for number in range(100):
        observe(watch, clock, INTERVAL, f"instance-{number}")

    assert len(watch._seen_at) <= UNSEEN_MAX / INTERVAL
