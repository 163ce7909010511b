"""Clocks of the process."""

from __future__ import annotations

import time

import pytest

from broker.infrastructure.clock import CONTINUOUS_TIMER, SteadyClock
from tests.support.builders import Clock


def test_steady_clock_does_not_follow_a_set_clock(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(time, "time", lambda: 50.0)
    steady = SteadyClock(timer=clock)

    monkeypatch.setattr(time, "time", lambda: 0.0)
    clock.time += 5

    assert steady() == pytest.approx(55)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="needs Linux")
def test_continuous_timer_counts_suspends() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= CONTINUOUS_TIMER() <= time.clock_gettime(time.CLOCK_BOOTTIME)
