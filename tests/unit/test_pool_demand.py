"""How many codes a pool wants, by how fast they are leased."""

from __future__ import annotations

import pytest

from broker.pool.demand import LOW, RESERVE, Demand, Mood
from broker.state import Code, Level
from broker.state.memory import MemoryLeases
from tests.support.builders import Clock

LIFE, REST = 120.0, 600.0
STAY = LIFE + REST
LOOK = 2.0


@pytest.fixture
def leases(clock: Clock) -> MemoryLeases:
    return MemoryLeases(clock)


async def issue(
    leases: MemoryLeases, clock: Clock, demand: Demand, *, a_minute: float, minutes: float
) -> int:
    """Lease codes at that pace; how many are wanted then."""
    due = 0.0
    for _ in range(round(minutes * 60 / LOOK)):
        clock.time += LOOK
        due += a_minute * LOOK / 60
        missed = 0
        while due >= 1:
            due -= 1
            missed += await leases.lease("shop", until=clock() + LIFE, rest=REST) is None
        demand.see(await leases.level("shop"), missed=missed, now=clock(), stay=STAY)
    return wanted(demand)


def wanted(demand: Demand, least: int = 1, most: int = 100_000) -> int:
    return demand.wanted(least=least, most=most, stay=STAY)


async def offer(leases: MemoryLeases, count: int, *, rest: float = 0.0) -> None:
    codes = [Code(number=n, drawing=0, scene=f"{n}", picture=f"{n}.svg") for n in range(count)]
    await leases.offer("shop", codes, rest=rest)


@pytest.mark.parametrize("a_minute", [30, 300])
async def test_a_pool_is_as_large_as_littles_law_wants_it(
    leases: MemoryLeases, clock: Clock, a_minute: int
) -> None:
    demand = Demand()
    await offer(leases, 10_000)

    found = await issue(leases, clock, demand, a_minute=a_minute, minutes=30)

    assert found == pytest.approx(a_minute / 60 * (STAY + RESERVE), rel=0.05)


async def test_it_grows_long_before_the_first_codes_are_back(
    leases: MemoryLeases, clock: Clock
) -> None:
    demand = Demand()
    await offer(leases, 10_000)

    found = await issue(leases, clock, demand, a_minute=60, minutes=2)

    assert found > 0.7 * (STAY + RESERVE)
    assert (await leases.level("shop")).resting < 30


async def test_whoever_takes_over_knows_the_demand_at_once(
    leases: MemoryLeases, clock: Clock
) -> None:
    await offer(leases, 10_000)
    before = await issue(leases, clock, Demand(), a_minute=60, minutes=30)

    after = Demand()
    after.see(await leases.level("shop"), missed=0, now=clock(), stay=STAY)

    assert wanted(after) == pytest.approx(before, rel=0.05)


async def test_logins_that_found_nothing_count(leases: MemoryLeases, clock: Clock) -> None:
    demand = Demand()

    found = await issue(leases, clock, demand, a_minute=60, minutes=5)

    assert found == pytest.approx(STAY + RESERVE, rel=0.05)


async def test_a_quiet_time_is_forgotten_slowly_and_codes_at_rest_are_no_demand(
    leases: MemoryLeases, clock: Clock
) -> None:
    await offer(leases, 5_000, rest=REST)
    demand = Demand()
    demand.rests(5_000, until=clock() + REST)

    during = await issue(leases, clock, demand, a_minute=0, minutes=9)
    afterwards = await issue(leases, clock, demand, a_minute=0, minutes=5)

    assert (during, afterwards) == (1, 1)


def test_it_stays_between_its_limits() -> None:
    demand = Demand()
    assert wanted(demand, least=100) == 100

    demand.see(Level(0, 500, 500), missed=0, now=1.0, stay=STAY)
    assert wanted(demand, most=700) == 700


def test_a_pool_is_low_and_empty_once_and_well_once_it_lasts_again() -> None:
    """At one lease a second."""
    demand = Demand()
    away = round(STAY)
    moods = [
        demand.see(Level(free, away, 0), missed=0, now=1.0, stay=STAY)
        for free in (60, round(LOW), 21, 40, 41, 21, 20, 0, 1, 0, 40, 41)
    ]

    well, low, empty = Mood.WELL, Mood.LOW, Mood.EMPTY
    assert moods == [
        *(well, low, low, low, well),
        *(well, low, empty, empty, empty, empty, well),
    ]
