"""Faults while people talk in a chat room: all members have the same entries, each once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.chaos.partition import INSTANCE, REDIS, partitioned
from tests.chaos.world import Instance, World, brokers_with_links
from tests.chaos.world import running as brokers
from tests.support.chat_members import ChatMember, check_sequence, staying
from tests.support.servers.redis import KEPT, RedisServer, redis_program, running
from tests.support.waiting import eventually

long = pytest.mark.chaos_long

PEOPLE = 6
SAY_INTERVAL = 0.3
"""Seconds between two messages of a person. A fault is shorter than the 100 messages of a join."""

CHAT = {"SCAN_LOGIN_CHAT_ROOMS": "open", "SCAN_LOGIN_CHAT_SAYS_PER_SECOND": "1000"}

END_TIMEOUT = 120.0


@pytest.fixture
async def chat_world(redis: RedisServer, tmp_path: Path) -> AsyncIterator[World]:
    async with brokers_with_links(redis, tmp_path, variables=CHAT) as world:
        yield world


@asynccontextmanager
async def talking(
    world: World, *, people: int = PEOPLE, keeps: bool = True
) -> AsyncIterator[list[ChatMember]]:
    """People talk before, during and after the block. Its end checks what they have received."""
    members = [ChatMember(f"p{number}", _urls_from(world, number)) for number in range(people)]
    async with staying(members):
        is_ending = asyncio.Event()
        talks = [asyncio.create_task(_talk(one, is_ending)) for one in members]
        await eventually(lambda: all(len(one.stored) > 2 for one in members))
        yield members
        said = [len(one.stored) for one in members]
        await eventually(
            lambda: all(len(one.stored) > n + 2 for one, n in zip(members, said, strict=True)),
            END_TIMEOUT,
        )
        is_ending.set()
        await asyncio.gather(*talks)
        await eventually(lambda: len({one.offset for one in members}) == 1, END_TIMEOUT)
    check_sequence(members, keeps=keeps)


async def _talk(member: ChatMember, is_ending: asyncio.Event) -> None:
    for number in count():
        if is_ending.is_set():
            return
        await member.say(f"{member.name} {number}")
        await asyncio.sleep(random.uniform(0, 2 * SAY_INTERVAL))


def _urls_from(world: World, number: int) -> Callable[[], list[str]]:
    """Return the serving instances for a person: an own one first."""

    def urls() -> list[str]:
        found = [one.url for one in world.instances if one.serving]
        return found[number % len(found) :] + found[: number % len(found)]

    return urls


async def half_open(world: World, redis: RedisServer) -> None:
    world.instances[0].link.half_open()
    await asyncio.sleep(8)
    world.instances[0].link.restore()


async def reset_links(world: World, redis: RedisServer) -> None:
    for number in range(20):
        world.instances[number % len(world.instances)].link.reset()
        await asyncio.sleep(0.2)


async def slow_links(world: World, redis: RedisServer) -> None:
    for instance in world.instances:
        instance.link.delay = 0.3
    await asyncio.sleep(6)
    for instance in world.instances:
        instance.link.restore()


async def kill_instance(world: World, redis: RedisServer) -> None:
    for instance in world.instances:
        instance.kill()
        await asyncio.sleep(1)
        await instance.start()


async def drain_instance(world: World, redis: RedisServer) -> None:
    for instance in world.instances:
        await instance.stop()
        await instance.start()


async def pause_instance(world: World, redis: RedisServer) -> None:
    world.instances[0].pause()
    await asyncio.sleep(6)
    world.instances[0].resume()


async def restart_redis(world: World, redis: RedisServer) -> None:
    redis.stop()
    redis.start()


async def stop_redis(world: World, redis: RedisServer) -> None:
    redis.kill()
    await asyncio.sleep(10)
    redis.start()


async def pause_redis(world: World, redis: RedisServer) -> None:
    redis.pause()
    await asyncio.sleep(6)
    redis.resume()


ChatFault = Callable[[World, RedisServer], Awaitable[None]]

FAULTS: tuple[ChatFault, ...] = (
    half_open,
    reset_links,
    slow_links,
    kill_instance,
    drain_instance,
    pause_instance,
    restart_redis,
    stop_redis,
    pause_redis,
)


@long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("inject", FAULTS, ids=lambda fault: fault.__name__)
async def test_members_receive_each_message_once_despite_faults(
    chat_world: World, redis: RedisServer, inject: ChatFault
) -> None:
    async with talking(chat_world):
        await inject(chat_world, redis)


@long
@pytest.mark.timeout(400)
async def test_members_continue_with_an_emptied_redis(
    chat_world: World, redis: RedisServer
) -> None:
    async with talking(chat_world, keeps=False) as members:
        with redis.client() as client:
            client.flushall()
        await eventually(lambda: all(one.resets for one in members), END_TIMEOUT)


@long
@pytest.mark.timeout(400)
async def test_members_of_an_isolated_instance_return(tmp_path: Path) -> None:
    """Packets to Redis are lost without an error for 50 s, longer than TCP keepalive."""
    with partitioned() as partition:
        options = ("--bind", "127.0.0.1", REDIS, "--protected-mode", "no")
        with running(redis_program(), *KEPT, *options) as redis:
            isolated = Instance(
                "inside",
                folder=tmp_path,
                state_url=f"redis://{REDIS}:{redis.port}",
                host=INSTANCE,
                before=partition.before,
                variables=CHAT | {"SCAN_LOGIN_ALLOW_PRETEND": "true"},
            )
            reachable = Instance("outside", folder=tmp_path, state_url=redis.url, variables=CHAT)
            async with brokers([isolated, reachable]) as world, talking(world, people=2):
                partition.cut()
                await asyncio.sleep(50)
                partition.restore()
