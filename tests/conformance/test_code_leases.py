"""Conformance of states with CodeLeases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest

from broker.pool.model import LeasedCode, OfferedCode, PoolLevel
from broker.pool.ports import RESTORE_BATCH, CodeLeases
from broker.state import StateBackend, open_state
from broker.state.errors import PoolCapacityExceeded
from broker.state.memory.code_leases import MemoryCodeLeases
from tests.support.builders import STATES, Clock
from tests.support.servers.redis import Engines
from tests.support.waiting import opened

LIFETIME = 120
COOLDOWN = 300


@pytest.fixture(params=STATES)
def engine(request: pytest.FixtureRequest, engines: Engines) -> str:
    engines.empty(request.param)
    return str(request.param)


@pytest.fixture
async def pair(
    engine: str, engines: Engines, clock: Clock
) -> AsyncIterator[tuple[StateBackend, StateBackend]]:
    """The state as two instances see it; memory has one instance."""
    count = 1 if engine == "memory" else 2
    stores = [open_state(engines.url(engine), clock) for _ in range(count)]
    for store in stores:
        await opened(store)
    yield stores[0], stores[-1]
    for store in stores:
        await store.close()


@pytest.fixture
def leases(pair: tuple[StateBackend, StateBackend]) -> CodeLeases:
    return pair[0].code_leases


def codes(numbers: Iterable[int], drawing: int = 0) -> list[OfferedCode]:
    return [
        OfferedCode(
            number=number, drawing=drawing, scene=f"{number}-{drawing}", picture=f"p/{number}"
        )
        for number in numbers
    ]


async def take(leases: CodeLeases, clock: Clock, app: str = "shop") -> LeasedCode:
    leased = await leases.lease(app, until=clock() + LIFETIME, cooldown=COOLDOWN)
    assert leased is not None
    return leased


async def take_number(leases: CodeLeases, clock: Clock) -> int | None:
    leased = await leases.lease("shop", until=clock() + LIFETIME, cooldown=COOLDOWN)
    return leased and leased.code.number


async def return_code_of(leases: CodeLeases, leased: LeasedCode) -> None:
    await leases.return_code("shop", leased.code.number, leased.generation, cooldown=COOLDOWN)


async def test_lease_returns_code_generation_and_uses(leases: CodeLeases, clock: Clock) -> None:
    [code] = codes([7], drawing=3)
    await leases.offer("shop", [code])

    leased = await take(leases, clock)

    assert leased == LeasedCode(code, leased.generation, 1)


async def test_lowest_free_number_is_leased_in_any_offer_order(
    leases: CodeLeases, clock: Clock
) -> None:
    await leases.offer("shop", codes([11, 2, 100]))
    await leases.offer("shop", codes([3]))

    assert [await take_number(leases, clock) for _ in range(5)] == [2, 3, 11, 100, None]


async def test_apps_have_separate_pools(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes([0]))
    await leases.offer("other", codes([0, 1]))

    assert (await take(leases, clock)).code.number == 0
    assert (await take(leases, clock, "other")).code.number == 0
    assert await take_number(leases, clock) is None
    assert await leases.level("other") == PoolLevel(free=1, leased=1, resting=0)


async def test_deleted_pool_is_empty_on_every_instance(
    pair: tuple[StateBackend, StateBackend], clock: Clock
) -> None:
    one, two = (store.code_leases for store in pair)
    await one.offer("shop", codes([0, 1]))
    await one.offer("other", codes([0]))
    leased = await take(one, clock)

    await two.forget("shop")
    await return_code_of(one, leased)
    await two.forget("shop")

    assert await one.level("shop") == PoolLevel(free=0, leased=0, resting=0)
    assert await take_number(one, clock) is None
    assert (await one.level("other")).free == 1
    await one.offer("shop", codes([0]))
    assert (await take(two, clock)).uses == 1


async def test_code_offered_by_one_instance_is_leased_by_another(
    pair: tuple[StateBackend, StateBackend], clock: Clock
) -> None:
    one, two = (store.code_leases for store in pair)
    await one.offer("shop", codes([0, 1]))

    assert await take_number(two, clock) == 0
    assert await take_number(one, clock) == 1
    assert await take_number(two, clock) is None


async def test_simultaneous_leases_take_each_number_once(
    pair: tuple[StateBackend, StateBackend], clock: Clock
) -> None:
    leases = [store.code_leases for store in pair]
    await leases[0].offer("shop", codes(range(1_000)))

    taken = await asyncio.gather(*(take_number(each, clock) for _ in range(100) for each in leases))

    assert Counter(taken) == Counter(range(200))
    assert await leases[1].level("shop") == PoolLevel(free=800, leased=200, resting=0)


async def test_returned_number_is_free_after_its_cooldown(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes(range(3)))
    leased = await take(leases, clock)
    clock.time += 10

    await return_code_of(leases, leased)

    assert await leases.level("shop") == PoolLevel(free=2, leased=0, resting=1)
    assert await take_number(leases, clock) == 1
    clock.time += COOLDOWN - 1
    assert await take_number(leases, clock) == 2
    clock.time += 1
    assert await take_number(leases, clock) == 0


async def test_cooldown_of_expired_lease_begins_at_its_end(
    leases: CodeLeases, clock: Clock
) -> None:
    await leases.offer("shop", codes([0]))
    await take(leases, clock)

    clock.time += LIFETIME - 1
    assert await leases.level("shop") == PoolLevel(free=0, leased=1, resting=0)
    clock.time += 1
    assert await leases.level("shop") == PoolLevel(free=0, leased=0, resting=1)
    clock.time += COOLDOWN - 1
    assert await take_number(leases, clock) is None
    clock.time += 1
    assert await leases.level("shop") == PoolLevel(free=1, leased=0, resting=0)
    assert await take_number(leases, clock) == 0


async def test_second_return_has_no_effect(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes([0]))
    leased = await take(leases, clock)

    await return_code_of(leases, leased)
    clock.time += COOLDOWN - 1
    await return_code_of(leases, leased)
    clock.time += 1

    assert await take_number(leases, clock) == 0


@pytest.mark.parametrize("late", [LIFETIME, LIFETIME + 1, LIFETIME + COOLDOWN])
async def test_expired_lease_cannot_be_returned(
    leases: CodeLeases, clock: Clock, late: int
) -> None:
    await leases.offer("shop", codes([0]))
    leased = await take(leases, clock)

    clock.time += late
    await return_code_of(leases, leased)
    clock.time += LIFETIME + COOLDOWN - late

    assert await take_number(leases, clock) == 0


async def test_late_return_does_not_end_the_next_lease(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes([0]))
    stale = await take(leases, clock)
    clock.time += LIFETIME + COOLDOWN
    fresh = await take(leases, clock)

    await return_code_of(leases, stale)

    assert fresh.generation != stale.generation
    assert await leases.level("shop") == PoolLevel(free=0, leased=1, resting=0)


async def test_unknown_number_cannot_be_returned(leases: CodeLeases) -> None:
    await leases.return_code("shop", 7, 1, cooldown=COOLDOWN)

    assert (await leases.level("shop")).total == 0


async def test_each_lease_has_another_generation(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes([0]))
    generations = []
    for _ in range(3):
        leased = await leases.lease("shop", until=clock() + 1, cooldown=0)
        assert leased is not None
        generations.append(leased.generation)
        await leases.return_code("shop", 0, leased.generation, cooldown=0)

    assert len(set(generations)) == 3


async def test_generation_from_before_a_loss_ends_no_lease(
    engine: str, engines: Engines, clock: Clock
) -> None:
    before = open_state(engines.url(engine), clock)
    await opened(before)
    await before.code_leases.offer("shop", codes([0]))
    stale = await take(before.code_leases, clock)
    await before.close()
    engines.empty(engine)

    after = open_state(engines.url(engine), clock)
    await opened(after)
    clock.time += 0.001
    await after.code_leases.offer("shop", codes([0]))
    await take(after.code_leases, clock)
    await return_code_of(after.code_leases, stale)

    assert await after.code_leases.level("shop") == PoolLevel(free=0, leased=1, resting=0)
    await after.close()


async def test_uses_are_counted_by_drawing(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes([0]))
    uses = []
    for _ in range(3):
        uses.append((await take(leases, clock)).uses)
        clock.time += LIFETIME + COOLDOWN
    await leases.offer("shop", codes([0], drawing=1))

    assert uses == [1, 2, 3]
    assert (await take(leases, clock)).uses == 1


async def test_repeated_offer_has_no_effect(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes(range(3)))
    resting = await take(leases, clock)
    await take(leases, clock)
    await return_code_of(leases, resting)
    before = await leases.level("shop")
    clock.time += LIFETIME - 1

    await leases.offer("shop", codes(range(3)))
    await leases.offer("shop", codes(range(3)), cooldown=COOLDOWN)

    assert before == await leases.level("shop") == PoolLevel(free=1, leased=1, resting=1)
    clock.time += COOLDOWN - LIFETIME + 1
    assert [await take_number(leases, clock) for _ in range(3)] == [0, 2, None]


async def test_later_drawing_is_used_by_the_next_lease(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes([0, 1]))
    leased = await take(leases, clock)

    await leases.offer("shop", codes([0, 1], drawing=2))
    await leases.offer("shop", codes([0, 1], drawing=1))

    assert await leases.level("shop") == PoolLevel(free=1, leased=1, resting=0)
    assert (await take(leases, clock)).code == codes([1], drawing=2)[0]
    await return_code_of(leases, leased)
    clock.time += COOLDOWN
    assert (await take(leases, clock)).code == codes([0], drawing=2)[0]


async def test_repeated_offer_replaces_the_same_drawing(leases: CodeLeases, clock: Clock) -> None:
    [code] = codes([0])
    await leases.offer("shop", [code])
    assert (await take(leases, clock)).uses == 1

    moved = replace(code, picture="elsewhere")
    await leases.offer("shop", [moved])
    clock.time += LIFETIME + COOLDOWN

    leased = await take(leases, clock)
    assert (leased.code, leased.uses) == (moved, 2)


async def test_offered_codes_are_free_after_their_cooldown(
    leases: CodeLeases, clock: Clock
) -> None:
    await leases.offer("shop", codes([1]))

    await leases.offer("shop", codes(range(3)), cooldown=COOLDOWN)

    assert await leases.level("shop") == PoolLevel(free=1, leased=0, resting=2)
    assert await take_number(leases, clock) == 1
    clock.time += COOLDOWN
    assert [await take_number(leases, clock) for _ in range(3)] == [0, 2, None]


async def test_withdrawn_number_is_not_leased(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes(range(3)))

    await leases.withdraw("shop", {0: 0, 2: 0})

    assert await leases.level("shop") == PoolLevel(free=1, leased=0, resting=0)
    assert [await take_number(leases, clock) for _ in range(2)] == [1, None]


async def test_number_withdrawn_during_a_lease_is_not_free_again(
    leases: CodeLeases, clock: Clock
) -> None:
    await leases.offer("shop", codes(range(3)))
    held, resting = await take(leases, clock), await take(leases, clock)
    await return_code_of(leases, resting)

    await leases.withdraw("shop", {0: 0, 1: 0})
    await return_code_of(leases, held)
    clock.time += LIFETIME + COOLDOWN

    assert await leases.level("shop") == PoolLevel(free=1, leased=0, resting=0)
    assert [await take_number(leases, clock) for _ in range(2)] == [2, None]


async def test_withdrawn_number_needs_a_later_drawing(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes([0]))
    await leases.withdraw("shop", {0: 0, 1: 0})

    await leases.offer("shop", codes([0, 1]))
    assert (await leases.level("shop")).total == 0
    await leases.offer("shop", codes([0, 1], drawing=1))

    assert (await take(leases, clock)).code == codes([0], drawing=1)[0]
    assert (await leases.level("shop")).total == 2


async def test_late_withdrawal_keeps_the_later_drawing(leases: CodeLeases, clock: Clock) -> None:
    await leases.offer("shop", codes([0], drawing=1))

    await leases.withdraw("shop", {0: 0})

    assert await take_number(leases, clock) == 0


async def test_number_redrawn_during_a_lease_is_not_returned(
    leases: CodeLeases, clock: Clock
) -> None:
    await leases.offer("shop", codes([0]))
    former = await take(leases, clock)
    await leases.withdraw("shop", {0: 0})
    await leases.offer("shop", codes([0], drawing=1))
    fresh = await take(leases, clock)

    await return_code_of(leases, former)

    assert fresh.code.scene != former.code.scene
    assert await leases.level("shop") == PoolLevel(free=0, leased=1, resting=0)


async def test_each_lease_restores_some_numbers_after_cooldown(
    leases: CodeLeases, clock: Clock
) -> None:
    count = 3 * RESTORE_BATCH
    await leases.offer("shop", codes(range(count)))
    for _ in range(count):
        await take(leases, clock)
    clock.time += LIFETIME + COOLDOWN

    assert await leases.level("shop") == PoolLevel(free=count, leased=0, resting=0)
    assert await take_number(leases, clock) == 0
    assert await leases.level("shop") == PoolLevel(free=count - 1, leased=1, resting=0)
    assert [await take_number(leases, clock) for _ in range(count)] == [*range(1, count), None]


async def test_lease_restores_a_limited_batch_in_order(leases: CodeLeases, clock: Clock) -> None:
    count = RESTORE_BATCH + 7
    await leases.offer("shop", codes(range(count)))
    for number in range(count):
        await leases.lease("shop", until=clock() + count - number, cooldown=COOLDOWN)
    clock.time += count + COOLDOWN

    assert [await take_number(leases, clock) for _ in range(2)] == [7, 0]


async def test_whole_pool_is_restored_from_its_lowest_number(
    leases: CodeLeases, clock: Clock
) -> None:
    count = 2 * RESTORE_BATCH
    await leases.offer("shop", codes(reversed(range(count))), cooldown=COOLDOWN)
    clock.time += COOLDOWN

    assert [await take_number(leases, clock) for _ in range(count)] == [*range(count)]


async def test_lease_is_one_command(engines: Engines) -> None:
    engines.empty("redis")
    [node] = engines.nodes("redis")
    stores = [open_state(engines.url("redis")) for _ in range(2)]
    await asyncio.gather(*map(opened, stores))
    leases = [store.code_leases for store in stores]
    await leases[0].offer("shop", codes(range(1_000)))
    await leases[0].lease("other", until=0, cooldown=0)  # loads the script in the server
    with node.client() as client:
        client.config_resetstat()

        await asyncio.gather(
            *(
                each.lease("shop", until=2e9, cooldown=COOLDOWN)
                for _ in range(100)
                for each in leases
            )
        )

        calls = {
            name: statistics["calls"] for name, statistics in client.info("commandstats").items()
        }
    assert calls["cmdstat_evalsha"] == 200
    inside = {"zrangebyscore", "zpopmin", "hget", "hset", "hincrby", "zadd"}
    assert {*calls} - {f"cmdstat_{name}" for name in (*inside, "time", "config|resetstat")} == {
        "cmdstat_evalsha"
    }
    await asyncio.gather(*(store.close() for store in stores))


@pytest.mark.parametrize("junk", ["", "junk", "0 junk", "0 {}"])
async def test_unreadable_code_does_not_affect_others(
    engines: Engines, clock: Clock, junk: str
) -> None:
    engines.empty("redis")
    store = open_state(engines.url("redis"), clock)
    await opened(store)
    await store.code_leases.offer("shop", codes([0, 1]))
    [node] = engines.nodes("redis")
    with node.client() as client:
        client.hset("scanlogin:pool:{shop}:codes", f"{0:010}", junk)

    assert await take_number(store.code_leases, clock) is None
    assert await take_number(store.code_leases, clock) == 1
    await store.code_leases.offer("shop", codes([0]))
    clock.time += LIFETIME + COOLDOWN
    assert (await take(store.code_leases, clock)).code == codes([0])[0]
    await store.close()


async def test_memory_refuses_codes_over_its_capacity() -> None:
    leases = MemoryCodeLeases(Clock(), capacity=3)
    await leases.offer("shop", codes([0, 1]))

    with pytest.raises(PoolCapacityExceeded):
        await leases.offer("other", codes([0, 1]))
    await leases.offer("shop", codes([0, 1], drawing=1))

    assert (await leases.level("other")).total == 0
    assert (await leases.level("shop")).total == 2
