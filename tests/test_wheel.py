"""One timer for all sockets: on time to the tick, however late the loop is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from broker.engine.wheel import NOWHERE, SLICE, Wheel

TICK = 0.02


class One:
    def __init__(self) -> None:
        self.slot = NOWHERE


class Rung:
    """Who was rung, and when."""

    def __init__(self) -> None:
        self.when: dict[One, float] = {}
        self.then: Callable[[One], None] = lambda one: None

    def __call__(self, one: One) -> None:
        assert one not in self.when, "it was rung twice"
        self.when[one] = time.monotonic()
        self.then(one)


@pytest.fixture
def rung() -> Rung:
    return Rung()


@pytest.fixture
def wheel(rung: Rung) -> Wheel[One]:
    return Wheel(tick=TICK, horizon=1.0, ring=rung)


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.1, 0.33])
async def test_each_is_rung_on_time_to_the_tick(
    wheel: Wheel[One], rung: Rung, seconds: float
) -> None:
    one, began = One(), time.monotonic()
    wheel.put(One(), 0)  # the wheel turns before it is put
    await asyncio.sleep(TICK * 1.5)
    began = time.monotonic()

    wheel.put(one, seconds)
    await asyncio.sleep(seconds + 4 * TICK)

    assert seconds - TICK <= rung.when[one] - began < seconds + 3 * TICK
    assert len(wheel) == 0
    wheel.stop()


async def test_a_late_turn_puts_the_others_not_off(wheel: Wheel[One], rung: Rung) -> None:
    one, began = One(), time.monotonic()
    wheel.put(one, 0.3)

    await asyncio.sleep(0.01)
    time.sleep(0.2)  # the loop hangs
    await asyncio.sleep(0.3)

    assert rung.when[one] - began < 0.3 + 3 * TICK
    wheel.stop()


async def test_after_a_long_hang_all_that_is_due_is_rung_at_once(
    wheel: Wheel[One], rung: Rung
) -> None:
    many = [One() for _ in range(10)]
    for place, one in enumerate(many):
        wheel.put(one, place * TICK)

    await asyncio.sleep(0)
    time.sleep(0.4)
    await asyncio.sleep(0.05)

    assert rung.when.keys() == set(many)
    wheel.stop()


async def test_what_is_put_again_is_rung_once_and_then(wheel: Wheel[One], rung: Rung) -> None:
    sooner, later, began = One(), One(), time.monotonic()
    wheel.put(sooner, 0.4)
    wheel.put(later, 0.04)

    wheel.put(sooner, 0.04)
    wheel.put(later, 0.3)
    await asyncio.sleep(0.2)

    assert rung.when.keys() == {sooner}
    await asyncio.sleep(0.2)
    assert rung.when[later] - began >= 0.3 - TICK
    wheel.stop()


async def test_what_is_dropped_is_not_rung(wheel: Wheel[One], rung: Rung) -> None:
    one = One()
    wheel.put(one, 0.04)

    wheel.drop(one)
    wheel.drop(one)
    await asyncio.sleep(0.1)

    assert rung.when == {}
    assert len(wheel) == 0
    wheel.stop()


async def test_one_takes_the_place_of_another(wheel: Wheel[One], rung: Rung) -> None:
    one, other, third = One(), One(), One()
    wheel.put(one, 0.04)

    wheel.move(one, other)
    wheel.move(one, third)  # it has no place any more
    await asyncio.sleep(0.1)

    assert rung.when.keys() == {other}
    assert third.slot == NOWHERE
    wheel.stop()


async def test_thousands_are_rung_in_slices(wheel: Wheel[One], rung: Rung) -> None:
    """The loop comes to other things in between."""
    many = [One() for _ in range(3000)]
    for one in many:
        wheel.put(one, 0)
    seen = []

    while len(rung.when) < len(many):
        await asyncio.sleep(0)
        seen.append(len(rung.when))

    assert max(b - a for a, b in zip([0, *seen], seen, strict=False)) <= SLICE
    wheel.stop()


async def test_what_is_dropped_between_two_slices_is_not_rung(
    wheel: Wheel[One], rung: Rung
) -> None:
    many = [One() for _ in range(3 * SLICE)]
    for one in many:
        wheel.put(one, 0)
    while not rung.when:
        await asyncio.sleep(0)
    left = [one for one in many if one not in rung.when]

    wheel.move(left[0], moved := One())
    for one in left[1:]:
        wheel.drop(one)
    await asyncio.sleep(2 * TICK)

    assert len(rung.when) == SLICE + 1
    assert moved in rung.when
    assert len(wheel) == 0
    wheel.stop()


async def test_one_that_fails_takes_no_other_with_it(wheel: Wheel[One], rung: Rung) -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: failures.append(about))
    many = [One() for _ in range(5)]

    def fail(one: One) -> None:
        if len(rung.when) == 2:
            raise RuntimeError

    rung.then = fail
    for one in many:
        wheel.put(one, 0)
    await asyncio.sleep(4 * TICK)

    assert len(rung.when) == 5
    assert len(failures) == 1
    wheel.stop()


async def test_a_wheel_that_was_stopped_turns_again(wheel: Wheel[One], rung: Rung) -> None:
    wheel.put(One(), 0)
    wheel.stop()
    wheel.stop()

    wheel.put(one := One(), 0.02)
    await asyncio.sleep(0.1)

    assert one in rung.when
    wheel.stop()
