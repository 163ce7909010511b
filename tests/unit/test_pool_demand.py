"""Estimates of the number of codes that a pool needs."""

from __future__ import annotations

import pytest

from broker.pool.demand import LOW_THRESHOLD, RESERVE, DemandEstimator, PoolHealth
from broker.pool.model import OfferedCode, PoolLevel
from broker.state.memory.code_leases import MemoryCodeLeases
from tests.support.builders import Clock

LIFETIME, COOLDOWN = 120.0, 600.0
CYCLE = LIFETIME + COOLDOWN
POLL_INTERVAL = 2.0


@pytest.fixture
def leases(clock: Clock) -> MemoryCodeLeases:
    return MemoryCodeLeases(clock)


async def issue(
    leases: MemoryCodeLeases,
    clock: Clock,
    demand: DemandEstimator,
    *,
    per_minute: float,
    minutes: float,
) -> int:
    """Lease codes at this rate; return the target size afterwards."""
    due = 0.0
    for _ in range(round(minutes * 60 / POLL_INTERVAL)):
        clock.time += POLL_INTERVAL
        due += per_minute * POLL_INTERVAL / 60
        missed = 0
        while due >= 1:
            due -= 1
            missed += (
                await leases.lease("shop", until=clock() + LIFETIME, cooldown=COOLDOWN) is None
            )
        demand.observe(await leases.level("shop"), missed=missed, now=clock(), cycle=CYCLE)
    return target(demand)


def target(demand: DemandEstimator, min_size: int = 1, max_size: int = 100_000) -> int:
    return demand.target_size(min_size=min_size, max_size=max_size, cycle=CYCLE)


async def offer(leases: MemoryCodeLeases, count: int, *, cooldown: float = 0.0) -> None:
    codes = [
        OfferedCode(number=n, drawing=0, scene=f"{n}", picture=f"{n}.svg") for n in range(count)
    ]
    await leases.offer("shop", codes, cooldown=cooldown)


@pytest.mark.parametrize("per_minute", [30, 300])
async def test_target_size_follows_littles_law(
    leases: MemoryCodeLeases, clock: Clock, per_minute: int
) -> None:
    demand = DemandEstimator()
    await offer(leases, 10_000)

    found = await issue(leases, clock, demand, per_minute=per_minute, minutes=30)

    assert found == pytest.approx(per_minute / 60 * (CYCLE + RESERVE), rel=0.05)


async def test_target_size_grows_before_first_codes_return(
    leases: MemoryCodeLeases, clock: Clock
) -> None:
    demand = DemandEstimator()
    await offer(leases, 10_000)

    found = await issue(leases, clock, demand, per_minute=60, minutes=2)

    assert found > 0.7 * (CYCLE + RESERVE)
    assert (await leases.level("shop")).resting < 30


async def test_new_estimator_knows_the_demand_at_once(
    leases: MemoryCodeLeases, clock: Clock
) -> None:
    await offer(leases, 10_000)
    before = await issue(leases, clock, DemandEstimator(), per_minute=60, minutes=30)

    after = DemandEstimator()
    after.observe(await leases.level("shop"), missed=0, now=clock(), cycle=CYCLE)

    assert target(after) == pytest.approx(before, rel=0.05)


async def test_missed_leases_increase_the_demand(leases: MemoryCodeLeases, clock: Clock) -> None:
    demand = DemandEstimator()

    found = await issue(leases, clock, demand, per_minute=60, minutes=5)

    assert found == pytest.approx(CYCLE + RESERVE, rel=0.05)


async def test_codes_added_after_a_loss_create_no_demand(
    leases: MemoryCodeLeases, clock: Clock
) -> None:
    await offer(leases, 5_000, cooldown=COOLDOWN)
    demand = DemandEstimator()
    demand.exclude_resting(5_000, until=clock() + COOLDOWN)

    during = await issue(leases, clock, demand, per_minute=0, minutes=9)
    afterwards = await issue(leases, clock, demand, per_minute=0, minutes=5)

    assert (during, afterwards) == (1, 1)


def test_target_size_stays_between_its_limits() -> None:
    demand = DemandEstimator()
    assert target(demand, min_size=100) == 100

    demand.observe(PoolLevel(0, 500, 500), missed=0, now=1.0, cycle=CYCLE)
    assert target(demand, max_size=700) == 700


def test_health_changes_with_duration_of_free_codes() -> None:
    """At one lease per second."""
    demand = DemandEstimator()
    away = round(CYCLE)
    healths = [
        demand.observe(PoolLevel(free, away, 0), missed=0, now=1.0, cycle=CYCLE)
        for free in (60, round(LOW_THRESHOLD), 21, 40, 41, 21, 20, 0, 1, 0, 40, 41)
    ]

    healthy, low, empty = PoolHealth.HEALTHY, PoolHealth.LOW, PoolHealth.EMPTY
    assert healths == [
        *(healthy, low, low, low, healthy),
        *(healthy, low, empty, empty, empty, empty, healthy),
    ]
