"""Two processes with one Redis use the same codes, families and sign-in sessions."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from broker.oidc.model import subject_shard
from broker.state import StateBackend, open_state
from tests.support.builders import Clock
from tests.support.grant_races import (
    CodeRecord,
    Rotation,
    SignInEnd,
    end,
    exchange,
    raced,
    rotate,
    use,
)
from tests.support.grants import a_code, a_family, a_grant, a_sign_in
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.waiting import opened

pytestmark = pytest.mark.usefixtures("long_redis_limits")

COUNT = 1_000


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[StateBackend]:
    store = open_state(redis.url)
    await opened(store)
    yield store
    await store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


def races(clock: Clock) -> list[SignInEnd]:
    """Return a session, a code and an offline family for each of many subjects."""
    return [a_race(clock, f"pretend:person-{number}") for number in range(COUNT)]


def a_race(clock: Clock, subject: str) -> SignInEnd:
    cookie_hash = secrets.token_bytes(32)
    sign_in = a_sign_in(clock, subject=subject, cookie_hash=cookie_hash)
    grant = a_grant(sign_in)
    code, code_family = a_code(clock, grant), a_family(clock, grant)
    record = CodeRecord(subject_shard(subject), secrets.token_bytes(32), code, code_family)
    family = a_family(clock, a_grant(sign_in, offline=True))
    return SignInEnd(sign_in, record, family, clock() + 1_000)


async def save(store: StateBackend, race: SignInEnd) -> None:
    await store.sign_ins.save(race.sign_in, race.expires_at)
    await store.grants.save_code(race.code.shard, race.code.code_hash, race.code.code)


async def test_each_code_is_exchanged_by_one_process(
    store: StateBackend, redis: RedisServer, clock: Clock
) -> None:
    records = races(clock)
    await asyncio.gather(*(save(store, one) for one in records))
    codes = [one.code for one in records]

    first, second = await asyncio.to_thread(raced, redis.url, (exchange, codes), (exchange, codes))

    assert [sum(pair) for pair in zip(first, second, strict=True)] == [1] * COUNT


async def test_each_refresh_gives_one_successor(
    store: StateBackend, redis: RedisServer, clock: Clock
) -> None:
    families = [one.family for one in races(clock)]
    await asyncio.gather(*map(store.grants.save, families))

    def swaps(numbers: range) -> list[Rotation]:
        return [
            Rotation(one, [replace(one, n=1, rotated_at=float(number)) for number in numbers])
            for one in families
        ]

    parts = (rotate, swaps(range(10))), (rotate, swaps(range(10, 20)))
    results = await asyncio.to_thread(raced, redis.url, *parts)

    for first, second in zip(*results, strict=True):
        successors = {one.rotated_at for one in (*first, *second)}
        assert (len(first) + len(second), len(successors)) == (20, 1)


async def test_no_end_of_a_sign_in_is_lost(
    store: StateBackend, redis: RedisServer, clock: Clock
) -> None:
    records = races(clock)
    await asyncio.gather(*(save(store, one) for one in records))

    await asyncio.to_thread(raced, redis.url, (use, records), (end, records))

    for one in records:
        subject = one.sign_in.subject
        assert list(await store.sign_ins.of_subject(subject)) == []
        assert list(await store.grants.of_subject(subject)) == []
        assert (await store.grants.find_code(one.code.shard, one.code.code_hash)).code is None
