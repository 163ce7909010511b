"""Faults of the network between a broker and Redis: slow, reset, half-open, partitioned."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.load import Fault
from tests.chaos.partition import INSTANCE, REDIS, Partition, partitioned
from tests.chaos.world import Instance, World
from tests.chaos.world import running as brokers
from tests.support.servers.redis import KEPT, redis_program, running

long = pytest.mark.chaos_long


@long
async def test_logins_survive_half_open_link_of_one_instance(fault: Fault, world: World) -> None:
    async with fault("half-open link of one instance, 12 s", world):
        world.instances[0].link.half_open()
        await asyncio.sleep(12)
        world.instances[0].link.restore()


@long
async def test_logins_survive_half_open_links_of_all_instances(fault: Fault, world: World) -> None:
    async with fault("half-open links of all instances, 12 s", world):
        for instance in world.instances:
            instance.link.half_open()
        await asyncio.sleep(12)
        for instance in world.instances:
            instance.link.restore()


@long
async def test_logins_survive_slow_links(fault: Fault, world: World) -> None:
    async with fault("links 300 ms slow each way, 8 s", world):
        for instance in world.instances:
            instance.link.delay = 0.3
        await asyncio.sleep(8)
        for instance in world.instances:
            instance.link.restore()


@long
async def test_logins_survive_repeated_link_resets(fault: Fault, world: World) -> None:
    async with fault("links reset 20 times", world):
        for number in range(20):
            world.instances[number % len(world.instances)].link.reset()
            await asyncio.sleep(0.2)


@pytest.fixture
async def partitioned_world(tmp_path: Path) -> AsyncIterator[tuple[World, Partition]]:
    """Two brokers; the first is in its own network namespace."""
    with partitioned() as partition:
        options = ("--bind", "127.0.0.1", REDIS, "--protected-mode", "no")
        with running(redis_program(), *KEPT, *options) as redis:
            isolated = Instance(
                "inside",
                folder=tmp_path,
                state_url=f"redis://{REDIS}:{redis.port}",
                host=INSTANCE,
                before=partition.before,
                variables={"SCAN_LOGIN_ALLOW_PRETEND": "true"},
            )
            reachable = Instance("outside", folder=tmp_path, state_url=redis.url)
            async with brokers([isolated, reachable]) as world:
                yield world, partition


@long
@pytest.mark.timeout(180)
async def test_logins_survive_partition_longer_than_tcp_keepalive(
    fault: Fault, partitioned_world: tuple[World, Partition]
) -> None:
    """Redis clients may loop forever after the kernel gives up a connection."""
    world, partition = partitioned_world
    isolated = world.instances[0]

    async with fault("one instance cut off for 50 s", world, rate=2):
        partition.cut()
        await asyncio.sleep(45)
        cpu_used = cpu_seconds(isolated.pid)
        await asyncio.sleep(5)
        cpu_used = cpu_seconds(isolated.pid) - cpu_used
        partition.restore()

    assert cpu_used < 2.5, f"{cpu_used} s of CPU in 5 s"


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
