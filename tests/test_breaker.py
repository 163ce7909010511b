"""What fails again and again is left alone for a while."""

from __future__ import annotations

from broker.breaker import PAUSE, TRIPS, Breaker
from tests.conftest import Clock


def test_it_is_left_alone_when_it_fails_and_asked_again_after_a_pause(clock: Clock) -> None:
    breaker = Breaker(clock)

    opened = [breaker.bad() for _ in range(TRIPS + 1)]
    assert opened == [*[False] * (TRIPS - 1), True, False]
    assert not breaker.lets_pass()
    clock.time += PAUSE
    assert [breaker.lets_pass() for _ in range(3)] == [True, False, False]
    breaker.bad()
    assert not breaker.lets_pass()
    clock.time += PAUSE
    assert breaker.lets_pass()
    breaker.good()
    assert all(breaker.lets_pass() for _ in range(3))
