"""The rate limit: windows, time and memory."""

from __future__ import annotations

import runpy
import time

import pytest

from broker.infrastructure import rate_limit
from broker.infrastructure.rate_limit import DROPS, RateLimit, rate_limit_key
from tests.support.builders import Clock
from tests.support.waiting import eventually


def test_events_over_the_limit_are_refused(clock: Clock) -> None:
    limit = RateLimit(2, 60, clock=clock)

    seen = [limit.hit("a") for _ in range(3)]

    assert seen == [True, True, False]
    assert limit.hit("b")


def test_window_ends_after_its_seconds(clock: Clock) -> None:
    limit = RateLimit(1, 60, clock=clock)
    limit.hit("a")

    clock.time += 59
    assert not limit.hit("a")
    assert limit.retry_after("a") == 1
    clock.time += 1
    assert limit.hit("a")


def test_full_window_is_used_up_until_its_end(clock: Clock) -> None:
    limit = RateLimit(2, 60, clock=clock)

    seen = [(limit.hit("a"), limit.is_used_up("a")) for _ in range(2)]
    clock.time += 60

    assert seen == [(True, False), (True, True)]
    assert not limit.is_used_up("a")


def test_event_taken_back_does_not_count(clock: Clock) -> None:
    limit = RateLimit(1, 60, clock=clock)

    limit.hit("a")
    limit.take_back("a")
    limit.take_back("a")

    assert [limit.hit("a"), limit.hit("a")] == [True, False]


def test_flood_of_keys_uses_bounded_memory(clock: Clock) -> None:
    limit = RateLimit(1, 60, capacity=100, clock=clock)

    for number in range(1_000):
        limit.hit(str(number))

    assert len(limit) == 100
    assert not limit.hit("999")


def test_ended_windows_are_dropped_a_few_at_a_time(clock: Clock) -> None:
    limit = RateLimit(1, 60, clock=clock)
    for number in range(10 * DROPS):
        limit.hit(str(number))

    clock.time += 60
    limit.hit("new")
    assert len(limit) == 9 * DROPS + 1
    for number in range(10):
        limit.hit(f"new-{number}")

    assert len(limit) == 11


def test_restarted_window_is_not_dropped_for_an_older_one(clock: Clock) -> None:
    limit = RateLimit(1, 60, capacity=2, clock=clock)
    limit.hit("a")
    clock.time += 30
    limit.hit("b")
    clock.time += 30
    limit.hit("a")

    limit.hit("c")  # no room: the window of b is the oldest

    assert not limit.hit("a")


async def test_window_ends_though_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Clock(time.time())
    monkeypatch.setattr(time, "time", wall)
    # The default clock is bound when the module runs.
    limit = runpy.run_path(rate_limit.__file__)["RateLimit"](1, 0.05)
    limit.hit("a")

    wall.time -= 3_600

    await eventually(lambda: limit.hit("a"))


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_client_is_counted_by_network(address: str, key: str) -> None:
    assert rate_limit_key(address) == key
