"""Brokers that are killed or restarted, clocks that differ, and clients that do not read."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.browser import joined
from tests.chaos.load import Fault
from tests.chaos.monitor import monitoring
from tests.chaos.world import Instance, World, brokers_with_links
from tests.chaos.world import running as brokers
from tests.support.environment import shifted
from tests.support.servers.redis import RedisServer

long = pytest.mark.chaos_long

ROUNDS = 4
"""Repetitions of a kill, each with other logins in progress."""

ANSWER_DELAY = 0.2
"""Delay of the answer of Redis in seconds: enough to kill the waiting broker."""

LOGINS_DURING = 5
"""Users who log in while an instance is down."""

SILENT_CLIENTS = 2

GROWTH_MAX_BYTES = 32 << 20
"""Maximum memory growth of a broker with clients that do not read."""

CONFIRMED = (rb"\"confirmed\"",)
REDEEMED = (rb"\"redeemed\"",)
"""Content of the login that each step writes, as MONITOR prints it."""


@pytest.fixture
async def world_of_three(redis: RedisServer, tmp_path: Path) -> AsyncIterator[World]:
    async with brokers_with_links(redis, tmp_path, 3) as world:
        yield world


async def test_logins_survive_killed_instance(fault: Fault, world: World) -> None:
    async with fault("`kill -9` of an instance", world) as users:
        world.instances[0].kill()
        await users.until_logged_in(LOGINS_DURING)
        await world.instances[0].start()


async def kill_at_writes(what: Sequence[bytes], victim: Instance, redis: RedisServer) -> None:
    """Kill `victim` after Redis has executed such a write, before the answer arrives."""
    for _ in range(ROUNDS):
        victim.link.delay = ANSWER_DELAY
        async with monitoring(redis) as monitor:
            await monitor.write(what, victim.link)
            victim.kill()
        victim.link.restore()
        await victim.start()


async def test_logins_survive_kill_between_confirm_and_notice(
    fault: Fault, world: World, redis: RedisServer
) -> None:
    async with fault("`kill -9` between a confirm's write and its notice", world):
        await kill_at_writes(CONFIRMED, world.instances[1], redis)


@long
async def test_logins_survive_kill_between_redeem_and_answer(
    fault: Fault, world: World, redis: RedisServer
) -> None:
    async with fault("`kill -9` at a redeem, before its answer", world):
        await kill_at_writes(REDEEMED, world.instances[0], redis)


@long
async def test_logins_survive_move_to_other_instance(fault: Fault, world: World) -> None:
    async with fault("every browser moves to another instance, 10 times", world) as users:
        for _ in range(10):
            users.move()
            await asyncio.sleep(0.5)


@long
async def test_logins_survive_disconnect_during_redeem(fault: Fault, world: World) -> None:
    """Each browser is disconnected once; another instance sends the token again."""
    name = "browsers disconnected during the token's delivery"
    async with fault(name, world) as users:
        for _ in range(1_000):
            users.disconnect_redeeming()
            await asyncio.sleep(0.005)


@long
async def test_logins_survive_rolling_restart(fault: Fault, world_of_three: World) -> None:
    async with fault("rolling restart of three instances", world_of_three):
        for instance in world_of_three.instances:
            await instance.stop()
            await instance.start()


@long
async def test_browsers_that_do_not_read_are_closed(fault: Fault, world: World) -> None:
    host = world.instances[0]
    before = resident(host.pid)

    async with fault(f"{SILENT_CLIENTS} browsers send events without reading", world):
        async with asyncio.timeout(60):
            await asyncio.gather(*(send_without_reading(host) for _ in range(SILENT_CLIENTS)))

    assert resident(host.pid) - before < GROWTH_MAX_BYTES


async def send_without_reading(instance: Instance) -> None:
    """Return when the broker has closed the socket."""
    connector = aiohttp.TCPConnector(socket_factory=small_socket)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        joined(http, instance) as client,
    ):
        with suppress(ConnectionError, aiohttp.ClientError):
            await client.send_repeatedly("begin")


def small_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket with a small receive buffer, so that it is full soon."""
    small = socket.socket(*address[:3])
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    return small


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@long
async def test_logins_survive_clocks_ten_minutes_apart(
    fault: Fault, redis: RedisServer, tmp_path: Path
) -> None:
    instances = [
        Instance("right", folder=tmp_path, state_url=redis.url),
        Instance("fast", folder=tmp_path, state_url=redis.url, variables=shifted("+10m")),
    ]
    async with brokers(instances) as world:
        right, fast = [await date(small) for small in instances]
        assert 595 < (fast - right).total_seconds() < 605
        async with fault("clocks 10 minutes apart", world):
            await asyncio.sleep(5)


async def date(instance: Instance) -> datetime:
    """Return the clock of an instance, from the Date header."""
    async with aiohttp.request("GET", f"{instance.url}/health/live") as response:
        return parsedate_to_datetime(response.headers["Date"])
