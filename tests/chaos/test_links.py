"""What lies between a broker and Redis: slow, cut, half-open, parted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.load import Fault
from tests.chaos.partition import INSTANCE, REDIS, Partition, parted
from tests.chaos.world import Instance, World
from tests.chaos.world import running as brokers
from tests.support.servers.redis import KEPT, redis_program, running

long = pytest.mark.chaos_long


@long
async def test_the_link_of_one_instance_is_half_open(fault: Fault, world: World) -> None:
    async with fault("half-open link of one instance, 12 s", world):
        world.instances[0].link.half_open()
        await asyncio.sleep(12)
        world.instances[0].link.heal()


@long
async def test_the_links_of_all_instances_are_half_open(fault: Fault, world: World) -> None:
    async with fault("half-open links of all instances, 12 s", world):
        for instance in world.instances:
            instance.link.half_open()
        await asyncio.sleep(12)
        for instance in world.instances:
            instance.link.heal()


@long
async def test_links_are_slow(fault: Fault, world: World) -> None:
    async with fault("links 300 ms slow each way, 8 s", world):
        for instance in world.instances:
            instance.link.delay = 0.3
        await asyncio.sleep(8)
        for instance in world.instances:
            instance.link.heal()


@long
async def test_links_are_reset_again_and_again(fault: Fault, world: World) -> None:
    async with fault("links reset 20 times", world):
        for number in range(20):
            world.instances[number % len(world.instances)].link.reset()
            await asyncio.sleep(0.2)


@pytest.fixture
async def cut_off(tmp_path: Path) -> AsyncIterator[tuple[World, Partition]]:
    """Two brokers, the first of them in a network namespace of its own."""
    with parted() as partition:
        options = ("--bind", "127.0.0.1", REDIS, "--protected-mode", "no")
        with running(redis_program(), *KEPT, *options) as redis:
            inside = Instance(
                "inside",
                folder=tmp_path,
                state_url=f"redis://{REDIS}:{redis.port}",
                host=INSTANCE,
                before=partition.before,
                variables={"SCAN_LOGIN_ALLOW_PRETEND": "true"},
            )
            outside = Instance("outside", folder=tmp_path, state_url=redis.url)
            async with brokers([inside, outside]) as world:
                yield world, partition


@long
@pytest.mark.timeout(180)
async def test_an_instance_is_cut_off_for_longer_than_tcp_keepalive_waits(
    fault: Fault, cut_off: tuple[World, Partition]
) -> None:
    """Redis' own clients have been seen to spin for ever once the kernel gives a link up."""
    world, partition = cut_off
    inside = world.instances[0]

    async with fault("one instance cut off for 50 s", world, rate=2):
        partition.cut()
        await asyncio.sleep(45)
        spent = cpu_seconds(inside.pid)
        await asyncio.sleep(5)
        spent = cpu_seconds(inside.pid) - spent
        partition.mend()

    assert spent < 2.5, f"{spent} s of CPU in 5 s"


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
