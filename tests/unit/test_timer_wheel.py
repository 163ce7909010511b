"""Tests of the timer wheel: timeouts are exact to one tick, also if the loop is late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from broker.infrastructure.background import TASK_FAILURES
from broker.infrastructure.transport.timer_wheel import BATCH_SIZE, NO_SLOT, TimerWheel
from tests.support.loop_clock import LoopClock

TICK = 1 / 64
"""Seconds. A binary fraction, so that its sums are exact."""


Turn = Callable[[int], Awaitable[None]]


class Timer:
    def __init__(self) -> None:
        self.slot = NO_SLOT


class Timeouts:
    """Records the timers that timed out, and when."""

    def __init__(self, clock: LoopClock) -> None:
        self._clock = clock
        self.when: dict[Timer, float] = {}
        self.then: Callable[[Timer], None] = lambda timer: None

    def __call__(self, timer: Timer) -> None:
        assert timer not in self.when, "called twice"
        self.when[timer] = self._clock()
        self.then(timer)


@pytest.fixture
def timeouts(still_clock: LoopClock) -> Timeouts:
    return Timeouts(still_clock)


@pytest.fixture
def wheel(timeouts: Timeouts) -> TimerWheel[Timer]:
    return TimerWheel(tick=TICK, horizon=1.0, on_timeout=timeouts)


@pytest.fixture
def turn(still_clock: LoopClock) -> Turn:
    """Move the wheel by a number of ticks."""

    async def turn_by(ticks: int) -> None:
        await still_clock.pass_by(ticks * TICK, TICK)

    return turn_by


@pytest.mark.parametrize("ticks", [0, 1, 1.5, 5, 16.5])
async def test_timeout_is_called_within_one_tick(
    wheel: TimerWheel[Timer], timeouts: Timeouts, still_clock: LoopClock, ticks: float
) -> None:
    timer, seconds = Timer(), ticks * TICK
    wheel.schedule(Timer(), 0)  # the wheel runs before `timer` is scheduled
    await still_clock.pass_by(1.5 * TICK, TICK / 2)
    began = still_clock()

    wheel.schedule(timer, seconds)
    await still_clock.pass_by(20 * TICK, TICK / 2)

    assert -TICK < timeouts.when[timer] - began - seconds < TICK
    assert len(wheel) == 0
    wheel.stop()


async def test_late_tick_does_not_delay_later_timeouts(
    wheel: TimerWheel[Timer], timeouts: Timeouts, still_clock: LoopClock, turn: Turn
) -> None:
    timer = Timer()
    wheel.schedule(timer, 20 * TICK)

    await turn(1)
    still_clock.jump(12 * TICK)  # the loop is blocked
    await turn(20)

    assert timeouts.when[timer] == 20 * TICK
    wheel.stop()


async def test_all_due_timeouts_are_called_after_a_pause(
    wheel: TimerWheel[Timer], timeouts: Timeouts, still_clock: LoopClock
) -> None:
    many = [Timer() for _ in range(10)]
    for place, timer in enumerate(many):
        wheel.schedule(timer, place * TICK)

    await still_clock.move(20 * TICK)

    assert timeouts.when.keys() == set(many)
    wheel.stop()


async def test_rescheduled_timeout_is_called_once_at_its_new_time(
    wheel: TimerWheel[Timer], timeouts: Timeouts, turn: Turn
) -> None:
    sooner, later = Timer(), Timer()
    wheel.schedule(sooner, 30 * TICK)
    wheel.schedule(later, 2 * TICK)

    wheel.schedule(sooner, 2 * TICK)
    wheel.schedule(later, 20 * TICK)
    await turn(10)

    assert timeouts.when.keys() == {sooner}
    await turn(30)
    assert timeouts.when[later] == 20 * TICK
    wheel.stop()


async def test_cancelled_timeout_is_not_called(
    wheel: TimerWheel[Timer], timeouts: Timeouts, turn: Turn
) -> None:
    timer = Timer()
    wheel.schedule(timer, 2 * TICK)

    wheel.cancel(timer)
    wheel.cancel(timer)
    await turn(5)

    assert timeouts.when == {}
    assert len(wheel) == 0
    wheel.stop()


async def test_transferred_timeout_is_called_for_the_new_owner(
    wheel: TimerWheel[Timer], timeouts: Timeouts, turn: Turn
) -> None:
    timer, other, third = Timer(), Timer(), Timer()
    wheel.schedule(timer, 2 * TICK)

    wheel.transfer(timer, other)
    wheel.transfer(timer, third)  # `timer` is not scheduled any longer
    await turn(5)

    assert timeouts.when.keys() == {other}
    assert third.slot == NO_SLOT
    wheel.stop()


async def test_many_timeouts_are_called_in_batches(
    wheel: TimerWheel[Timer], timeouts: Timeouts, still_clock: LoopClock
) -> None:
    """Between batches the loop can run other tasks."""
    many = [Timer() for _ in range(3000)]
    for timer in many:
        wheel.schedule(timer, 0)
    seen = []

    still_clock.jump(TICK)
    while len(timeouts.when) < len(many):
        await asyncio.sleep(0)
        seen.append(len(timeouts.when))

    assert max(b - a for a, b in zip([0, *seen], seen, strict=False)) <= BATCH_SIZE
    wheel.stop()


async def test_timeout_cancelled_between_batches_is_not_called(
    wheel: TimerWheel[Timer], timeouts: Timeouts, still_clock: LoopClock, turn: Turn
) -> None:
    many = [Timer() for _ in range(3 * BATCH_SIZE)]
    for timer in many:
        wheel.schedule(timer, 0)
    still_clock.jump(TICK)
    while not timeouts.when:
        await asyncio.sleep(0)
    left = [timer for timer in many if timer not in timeouts.when]

    wheel.transfer(left[0], moved := Timer())
    for timer in left[1:]:
        wheel.cancel(timer)
    await turn(2)

    assert len(timeouts.when) == BATCH_SIZE + 1
    assert moved in timeouts.when
    assert len(wheel) == 0
    wheel.stop()


async def test_failing_callback_does_not_stop_other_timeouts(
    wheel: TimerWheel[Timer], timeouts: Timeouts, turn: Turn
) -> None:
    failures = TASK_FAILURES.labels("timer wheel")._value
    before = failures.get()
    many = [Timer() for _ in range(5)]

    def fail(timer: Timer) -> None:
        if len(timeouts.when) == 2:
            raise RuntimeError

    timeouts.then = fail
    for timer in many:
        wheel.schedule(timer, 0)
    await turn(4)

    assert failures.get() == before + 1
    wheel.stop()


async def test_stopped_wheel_can_be_used_again(
    wheel: TimerWheel[Timer], timeouts: Timeouts, turn: Turn
) -> None:
    wheel.schedule(Timer(), 0)
    wheel.stop()
    wheel.stop()

    wheel.schedule(timer := Timer(), TICK)
    await turn(5)

    assert timer in timeouts.when
    wheel.stop()
