"""One timer for all sockets: on time to the tick, however late the loop is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from broker.infrastructure.background import TASK_FAILURES
from broker.infrastructure.transport.engineio.timer_wheel import BATCH_SIZE, NO_SLOT, TimerWheel
from tests.support.loop_clock import LoopClock

TICK = 1 / 64
"""Seconds; a binary fraction, so that sums of it are exact."""


Turn = Callable[[int], Awaitable[None]]


class One:
    def __init__(self) -> None:
        self.slot = NO_SLOT


class Rung:
    """Who was rung, and when."""

    def __init__(self, clock: LoopClock) -> None:
        self._clock = clock
        self.when: dict[One, float] = {}
        self.then: Callable[[One], None] = lambda one: None

    def __call__(self, one: One) -> None:
        assert one not in self.when, "it was rung twice"
        self.when[one] = self._clock()
        self.then(one)


@pytest.fixture
def rung(still_clock: LoopClock) -> Rung:
    return Rung(still_clock)


@pytest.fixture
def wheel(rung: Rung) -> TimerWheel[One]:
    return TimerWheel(tick=TICK, horizon=1.0, on_timeout=rung)


@pytest.fixture
def turn(still_clock: LoopClock) -> Turn:
    """Lets the wheel turn by a number of ticks."""

    async def turn_by(ticks: int) -> None:
        await still_clock.pass_by(ticks * TICK, TICK)

    return turn_by


@pytest.mark.parametrize("ticks", [0, 1, 1.5, 5, 16.5])
async def test_each_is_rung_on_time_to_the_tick(
    wheel: TimerWheel[One], rung: Rung, still_clock: LoopClock, ticks: float
) -> None:
    one, seconds = One(), ticks * TICK
    wheel.schedule(One(), 0)  # the wheel turns before `one` is put
    await still_clock.pass_by(1.5 * TICK, TICK / 2)
    began = still_clock()

    wheel.schedule(one, seconds)
    await still_clock.pass_by(20 * TICK, TICK / 2)

    assert -TICK < rung.when[one] - began - seconds < TICK
    assert len(wheel) == 0
    wheel.stop()


async def test_a_late_turn_puts_the_others_not_off(
    wheel: TimerWheel[One], rung: Rung, still_clock: LoopClock, turn: Turn
) -> None:
    one = One()
    wheel.schedule(one, 20 * TICK)

    await turn(1)
    still_clock.jump(12 * TICK)  # the loop is blocked
    await turn(20)

    assert rung.when[one] == 20 * TICK
    wheel.stop()


async def test_after_a_long_hang_all_that_is_due_is_rung_at_once(
    wheel: TimerWheel[One], rung: Rung, still_clock: LoopClock
) -> None:
    many = [One() for _ in range(10)]
    for place, one in enumerate(many):
        wheel.schedule(one, place * TICK)

    await still_clock.move(20 * TICK)

    assert rung.when.keys() == set(many)
    wheel.stop()


async def test_what_is_put_again_is_rung_once_and_then(
    wheel: TimerWheel[One], rung: Rung, turn: Turn
) -> None:
    sooner, later = One(), One()
    wheel.schedule(sooner, 30 * TICK)
    wheel.schedule(later, 2 * TICK)

    wheel.schedule(sooner, 2 * TICK)
    wheel.schedule(later, 20 * TICK)
    await turn(10)

    assert rung.when.keys() == {sooner}
    await turn(30)
    assert rung.when[later] == 20 * TICK
    wheel.stop()


async def test_what_is_dropped_is_not_rung(wheel: TimerWheel[One], rung: Rung, turn: Turn) -> None:
    one = One()
    wheel.schedule(one, 2 * TICK)

    wheel.cancel(one)
    wheel.cancel(one)
    await turn(5)

    assert rung.when == {}
    assert len(wheel) == 0
    wheel.stop()


async def test_one_takes_the_place_of_another(
    wheel: TimerWheel[One], rung: Rung, turn: Turn
) -> None:
    one, other, third = One(), One(), One()
    wheel.schedule(one, 2 * TICK)

    wheel.transfer(one, other)
    wheel.transfer(one, third)  # it has no place any more
    await turn(5)

    assert rung.when.keys() == {other}
    assert third.slot == NO_SLOT
    wheel.stop()


async def test_thousands_are_rung_in_slices(
    wheel: TimerWheel[One], rung: Rung, still_clock: LoopClock
) -> None:
    """The loop comes to other things in between."""
    many = [One() for _ in range(3000)]
    for one in many:
        wheel.schedule(one, 0)
    seen = []

    still_clock.jump(TICK)
    while len(rung.when) < len(many):
        await asyncio.sleep(0)
        seen.append(len(rung.when))

    assert max(b - a for a, b in zip([0, *seen], seen, strict=False)) <= BATCH_SIZE
    wheel.stop()


async def test_what_is_dropped_between_two_slices_is_not_rung(
    wheel: TimerWheel[One], rung: Rung, still_clock: LoopClock, turn: Turn
) -> None:
    many = [One() for _ in range(3 * BATCH_SIZE)]
    for one in many:
        wheel.schedule(one, 0)
    still_clock.jump(TICK)
    while not rung.when:
        await asyncio.sleep(0)
    left = [one for one in many if one not in rung.when]

    wheel.transfer(left[0], moved := One())
    for one in left[1:]:
        wheel.cancel(one)
    await turn(2)

    assert len(rung.when) == BATCH_SIZE + 1
    assert moved in rung.when
    assert len(wheel) == 0
    wheel.stop()


async def test_failing_ring_does_not_keep_others_from_theirs(
    wheel: TimerWheel[One], rung: Rung, turn: Turn
) -> None:
    failures = TASK_FAILURES.labels("timer wheel")._value
    before = failures.get()
    many = [One() for _ in range(5)]

    def fail(one: One) -> None:
        if len(rung.when) == 2:
            raise RuntimeError

    rung.then = fail
    for one in many:
        wheel.schedule(one, 0)
    await turn(4)

    assert failures.get() == before + 1
    wheel.stop()


async def test_a_wheel_that_was_stopped_turns_again(
    wheel: TimerWheel[One], rung: Rung, turn: Turn
) -> None:
    wheel.schedule(One(), 0)
    wheel.stop()
    wheel.stop()

    wheel.schedule(one := One(), TICK)
    await turn(5)

    assert one in rung.when
    wheel.stop()
