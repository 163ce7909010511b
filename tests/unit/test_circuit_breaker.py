"""The circuit breaker opens after failures in a row and closes after successes in a row."""

from __future__ import annotations

import pytest

from broker.infrastructure.outbound.circuit_breaker import (
    FAILURE_THRESHOLD,
    RESET_TIMEOUT,
    SUCCESS_THRESHOLD,
    CircuitBreaker,
)
from tests.support.builders import Clock


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock)


def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    for _ in range(FAILURE_THRESHOLD):
        breaker.record_failure()
    return breaker


def test_breaker_opens_once_after_failures_in_a_row(breaker: CircuitBreaker) -> None:
    seen = [breaker.record_failure() for _ in range(FAILURE_THRESHOLD + 2)]

    assert seen == [*[False] * (FAILURE_THRESHOLD - 1), True, False, False]
    assert not breaker.allows_request()


def test_success_between_failures_keeps_breaker_closed(breaker: CircuitBreaker) -> None:
    for _ in range(FAILURE_THRESHOLD):
        breaker.record_failure()
        breaker.record_success()

    assert breaker.allows_request()


def test_open_breaker_allows_one_request_after_a_pause(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    opened(breaker)

    clock.time += RESET_TIMEOUT
    assert [breaker.allows_request() for _ in range(3)] == [True, False, False]
    breaker.record_failure()
    assert not breaker.allows_request()
    clock.time += RESET_TIMEOUT
    assert breaker.allows_request()


def test_breaker_closes_after_several_successes(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    clock.time += RESET_TIMEOUT

    seen = []
    for _ in range(SUCCESS_THRESHOLD):
        assert [breaker.allows_request() for _ in range(2)] == [True, False]
        seen.append(breaker.record_success())

    assert seen == [*[False] * (SUCCESS_THRESHOLD - 1), True]
    assert all(breaker.allows_request() for _ in range(3))


def test_failure_while_closing_reopens_without_a_new_outage(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    opened(breaker)
    clock.time += RESET_TIMEOUT

    assert breaker.allows_request()
    breaker.record_success()
    assert breaker.allows_request()

    assert not breaker.record_failure()
    assert not breaker.allows_request()
    assert not breaker.is_steady


def test_one_caller_alone_does_not_open_the_breaker(breaker: CircuitBreaker) -> None:
    for _ in range(10 * FAILURE_THRESHOLD):
        assert not breaker.record_failure("alice")
    assert breaker.allows_request()

    assert [breaker.record_failure(number) for number in range(FAILURE_THRESHOLD - 1)][-1]
