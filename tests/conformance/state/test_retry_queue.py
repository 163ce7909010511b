"""Calls that any instance makes when they are due."""

from __future__ import annotations

import asyncio

from broker.infrastructure.coordination import RETRY_TIMEOUT, DeferredCall
from broker.state import StateBackend
from tests.support.builders import Clock
from tests.support.servers.redis import PassTime

CALL = DeferredCall("call", "logout", "shop", "{}")


async def take(store: StateBackend, *kinds: str) -> list[DeferredCall]:
    return list(await store.retries.take_due(kinds or ["logout"], 10))


async def test_due_call_is_taken_by_one_instance(store: StateBackend, clock: Clock) -> None:
    calls = [CALL._replace(id=f"call-{number}") for number in range(10)]
    for call in calls:
        await store.retries.put(call, clock())
    await store.retries.put(CALL._replace(id="later"), clock() + 10)

    taken = await asyncio.gather(*(store.retries.take_due(["logout"], 3) for _ in range(5)))

    assert sorted(call for part in taken for call in part) == calls


async def test_call_without_result_is_due_again(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await store.retries.put(CALL, clock())
    assert await take(store) == [CALL]

    assert await take(store) == []
    pass_time(RETRY_TIMEOUT)

    assert await take(store) == [CALL]


async def test_finished_call_is_not_due_again(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await store.retries.put(CALL, clock())
    await take(store)

    await store.retries.done(CALL)

    pass_time(RETRY_TIMEOUT)
    assert await take(store) == []


async def test_next_attempt_replaces_the_call(
    store: StateBackend, clock: Clock, pass_time: PassTime
) -> None:
    await store.retries.put(CALL, clock())
    await take(store)

    await store.retries.put(CALL._replace(attempt=2), clock() + 10)

    pass_time(10)
    assert await take(store) == [CALL._replace(attempt=2)]


async def test_calls_of_other_kinds_are_not_taken(store: StateBackend, clock: Clock) -> None:
    close = CALL._replace(kind="close")
    await store.retries.put(CALL, clock())
    await store.retries.put(close, clock())

    assert await take(store) == [CALL]
    assert await take(store, "logout", "close") == [close]


async def test_each_kind_has_its_own_limit(store: StateBackend, clock: Clock) -> None:
    calls = [CALL._replace(id=f"call-{number}") for number in range(5)]
    close = CALL._replace(kind="close")
    for call in (*calls, close):
        await store.retries.put(call, clock())

    taken = await store.retries.take_due(["logout", "close"], 3)

    assert [call.kind for call in taken] == ["logout"] * 3 + ["close"]
