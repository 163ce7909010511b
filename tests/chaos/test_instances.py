"""The brokers: killed in the worst moment, drained, with clocks apart, and with rude guests."""

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
from tests.chaos.world import Instance, World, over
from tests.chaos.world import running as brokers
from tests.support.environment import shifted
from tests.support.servers.redis import RedisServer

long = pytest.mark.chaos_long

ROUNDS = 4
"""Times that a moment is struck in, each with whatever else is under way."""

ANSWERS_LATE = 0.2
"""Seconds that Redis' answer to a write takes: long enough to kill who waits for it."""

GUESTS = 2

GROWTH_MAX_BYTES = 32 << 20
"""What a broker may grow by, in all, while rude guests are there and people log in."""

CONFIRMED = (rb"\"confirmed\"",)
REDEEMED = (rb"\"redeemed\"",)
"""What is in a login that is written at the end of each step, as MONITOR shows it."""


@pytest.fixture
async def three(redis: RedisServer, tmp_path: Path) -> AsyncIterator[World]:
    async with over(redis, tmp_path, 3) as world:
        yield world


async def test_the_instance_of_a_browser_is_killed(fault: Fault, world: World) -> None:
    async with fault("`kill -9` of an instance", world):
        world.instances[0].kill()
        await asyncio.sleep(2)
        await world.instances[0].start()


async def kill_at_writes(what: Sequence[bytes], victim: Instance, redis: RedisServer) -> None:
    """Kill `victim` when Redis has made such a write of its, and it does not know so yet."""
    for _ in range(ROUNDS):
        victim.link.delay = ANSWERS_LATE
        async with monitoring(redis) as monitor:
            await monitor.write(what, victim.link)
            victim.kill()
        victim.link.heal()
        await victim.start()


async def test_the_confirming_instance_is_killed_between_write_and_publish(
    fault: Fault, world: World, redis: RedisServer
) -> None:
    async with fault("`kill -9` between a confirm's write and its notice", world):
        await kill_at_writes(CONFIRMED, world.instances[1], redis)


@long
async def test_instance_killed_between_redeem_and_answer_loses_nothing(
    fault: Fault, world: World, redis: RedisServer
) -> None:
    async with fault("`kill -9` at a redeem, before its answer", world):
        await kill_at_writes(REDEEMED, world.instances[0], redis)


@long
async def test_browsers_come_back_on_another_instance(fault: Fault, world: World) -> None:
    async with fault("every browser moves to another instance, 10 times", world) as crowd:
        for _ in range(10):
            crowd.move()
            await asyncio.sleep(0.5)


@long
async def test_browsers_lose_their_socket_while_they_redeem(fault: Fault, world: World) -> None:
    """Each is cut off once, just then; what it was sent is sent again elsewhere."""
    name = "browsers cut off while their token is on its way"
    async with fault(name, world) as crowd:
        for _ in range(1_000):
            crowd.cut_off_redeeming()
            await asyncio.sleep(0.005)


@long
async def test_instances_are_restarted_one_after_the_other(fault: Fault, three: World) -> None:
    async with fault("rolling restart of three instances", three):
        for instance in three.instances:
            await instance.stop()
            await instance.start()


@long
async def test_browsers_that_do_not_read_are_dropped(fault: Fault, world: World) -> None:
    host = world.instances[0]
    before = resident(host.pid)

    async with fault(f"{GUESTS} browsers ask on and stop reading", world):
        async with asyncio.timeout(60):
            await asyncio.gather(*(ask_and_never_read(host) for _ in range(GUESTS)))

    assert resident(host.pid) - before < GROWTH_MAX_BYTES


async def ask_and_never_read(instance: Instance) -> None:
    """Returns once the broker has dropped the socket."""
    connector = aiohttp.TCPConnector(socket_factory=narrow)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        joined(http, instance) as guest,
    ):
        with suppress(ConnectionError, aiohttp.ClientError):
            await guest.ask_on("begin")


def narrow(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that takes little before it is full, so that the broker soon feels it."""
    one = socket.socket(*address[:3])
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    return one


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@long
async def test_clocks_are_ten_minutes_apart(
    fault: Fault, redis: RedisServer, tmp_path: Path
) -> None:
    instances = [
        Instance("right", folder=tmp_path, state_url=redis.url),
        Instance("fast", folder=tmp_path, state_url=redis.url, variables=shifted("+10m")),
    ]
    async with brokers(instances) as world:
        right, fast = [await date(one) for one in instances]
        assert 595 < (fast - right).total_seconds() < 605
        async with fault("clocks 10 minutes apart", world):
            await asyncio.sleep(5)


async def date(instance: Instance) -> datetime:
    """What an instance's own clock says: HTTP's Date."""
    async with aiohttp.request("GET", f"{instance.url}/health/live") as response:
        return parsedate_to_datetime(response.headers["Date"])
