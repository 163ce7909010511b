"""Redis is restarted, paused, killed, or restarted without its data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.load import Fault
from tests.chaos.world import World, brokers_with_links
from tests.support.servers.redis import RedisServer, redis_program, running

long = pytest.mark.chaos_long


async def test_logins_survive_redis_restart(fault: Fault, world: World, redis: RedisServer) -> None:
    async with fault("Redis restarted with its data", world):
        await asyncio.to_thread(redis.stop)
        await asyncio.to_thread(redis.start)


@long
async def test_logins_survive_paused_redis(fault: Fault, world: World, redis: RedisServer) -> None:
    async with fault("Redis stopped for 10 s", world):
        redis.pause()
        await asyncio.sleep(10)
        redis.resume()


@long
async def test_logins_survive_killed_redis(fault: Fault, world: World, redis: RedisServer) -> None:
    async with fault("Redis killed, back with its data after 10 s", world):
        redis.kill()
        await asyncio.sleep(10)
        await asyncio.to_thread(redis.start)


@pytest.fixture
async def empty_redis_world(tmp_path: Path) -> AsyncIterator[tuple[World, RedisServer]]:
    """Brokers over a Redis without persistence."""
    with running(redis_program()) as redis:
        async with brokers_with_links(redis, tmp_path) as world:
            yield world, redis


async def test_lost_logins_are_reported_after_empty_restart(
    fault: Fault, empty_redis_world: tuple[World, RedisServer]
) -> None:
    world, redis = empty_redis_world

    async with fault("Redis restarted empty", world, loses=True) as users:
        await asyncio.to_thread(redis.stop)
        stopped_at = time.monotonic()
        await asyncio.to_thread(redis.start)

    ledger = users.ledger
    for entry in ledger.waiting_at_start():
        if entry.confirmed_at is None:
            assert entry.ended_at is not None, "a browser was not notified"
        assert not entry.was_asked_after(stopped_at), "a confirm of a lost login was accepted"
    for user in users.waiting:
        assert user.browser.code is not None
        assert ledger.entries[user.browser.code.login_id].began_at > ledger.began_at
