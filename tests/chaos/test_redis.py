"""Redis itself: restarted, stopped, killed, and gone with all that it knew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.ledger import WITHIN
from tests.chaos.load import Fault
from tests.chaos.world import World, over
from tests.support.servers.redis import RedisServer, redis_program, running

long = pytest.mark.chaos_long

ON_ITS_WAY = 0.1
"""Seconds that an answer may take from the broker to the phone."""


async def test_redis_is_restarted_with_its_data(
    fault: Fault, world: World, redis: RedisServer
) -> None:
    async with fault("Redis restarted with its data", world):
        await asyncio.to_thread(redis.stop)
        await asyncio.to_thread(redis.start)


@long
async def test_redis_stands_still_for_ten_seconds(
    fault: Fault, world: World, redis: RedisServer
) -> None:
    async with fault("Redis stopped for 10 s", world):
        redis.pause()
        await asyncio.sleep(10)
        redis.go_on()


@long
async def test_redis_is_killed_and_comes_back_after_ten_seconds(
    fault: Fault, world: World, redis: RedisServer
) -> None:
    async with fault("Redis killed, back with its data after 10 s", world):
        redis.kill()
        await asyncio.sleep(10)
        await asyncio.to_thread(redis.start)


@pytest.fixture
async def forgetful(tmp_path: Path) -> AsyncIterator[tuple[World, RedisServer]]:
    """Brokers over a Redis with nothing on disk."""
    with running(redis_program()) as redis:
        async with over(redis, tmp_path) as world:
            yield world, redis


async def test_redis_comes_back_empty(fault: Fault, forgetful: tuple[World, RedisServer]) -> None:
    world, redis = forgetful

    async with fault("Redis restarted empty", world, loses=True) as crowd:
        await asyncio.to_thread(redis.stop)
        stopped_at = time.monotonic()
        await asyncio.to_thread(redis.start)

    ledger = crowd.ledger
    # What was confirmed just before is told just after: the answer was on its way.
    told_by = stopped_at + ON_ITS_WAY
    for entry in ledger.waiting_then():
        if entry.confirmed_at is None:
            assert entry.over_at is not None, "a browser was not told"
        else:
            assert entry.confirmed_at < told_by, "a phone was told what is gone"
    for person in crowd.waiting:
        assert person.browser.code is not None
        fresh = ledger.entries[person.browser.code.login_id].began_at
        assert ledger.began_at < fresh < ledger.ended_at + WITHIN
