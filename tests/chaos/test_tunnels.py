"""Tunnels lose no message, and none is repeated, while instances and Redis fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from tests.chaos.tunnel_talk import Talk, assert_complete, open_talk, talking, variables_of
from tests.chaos.world import Instance, World, brokers_with_links
from tests.chaos.world import running as running_brokers
from tests.support.environment import shifted
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.tunnel_client import Backend, TunnelServer, reply_with, respond, serving_backend
from tests.support.wafer import WAFER_SETTINGS, TunnelCalls, WaferClient, serving_business
from tests.support.waiting import eventually

long = pytest.mark.chaos_long

CLOCK_ERROR_MAX = 300
"""Seconds: half of the difference between the clock of an instance and that of Redis."""


class Setup(NamedTuple):
    world: World
    backend: Backend
    redis: RedisServer
    http: aiohttp.ClientSession
    talk: Talk


@asynccontextmanager
async def set_up(redis: RedisServer, folder: Path, keys: Path) -> AsyncIterator[Setup]:
    """Two instances, and a client at the first one."""
    async with serving_backend() as backend, aiohttp.ClientSession() as http:
        backend.answers["tunnel.message"] = reply_with(reply=1)
        variables = {**variables_of(backend), "SCAN_LOGIN_KEY_FILE": str(keys)}
        async with brokers_with_links(redis, folder, 2, variables) as world:
            yield Setup(world, backend, redis, http, await open_talk(world, http))


@pytest.fixture
async def setup(redis: RedisServer, tmp_path: Path, key_file: Path) -> AsyncIterator[Setup]:
    async with set_up(redis, tmp_path, key_file) as setup:
        yield setup


@pytest.fixture
async def empty_setup(tmp_path: Path, key_file: Path) -> AsyncIterator[Setup]:
    """Instances over a Redis without persistence."""
    with running(redis_program()) as redis:
        async with set_up(redis, tmp_path, key_file) as setup:
            yield setup


async def redis_restarted(setup: Setup) -> None:
    await asyncio.to_thread(setup.redis.stop)
    await asyncio.to_thread(setup.redis.start)


async def redis_paused(setup: Setup) -> None:
    setup.redis.pause()
    await asyncio.sleep(10)
    setup.redis.resume()


async def drained(setup: Setup) -> None:
    await setup.talk.at.stop()


async def cut_off(setup: Setup) -> None:
    """Cut the instance of the client off until the other one has freed its tunnels."""
    instance = setup.talk.at
    instance.link.half_open()
    await asyncio.sleep(50)
    instance.link.restore()
    instance.link.reset()


async def backend_down(setup: Setup) -> None:
    answer = setup.backend.answers["tunnel.message"]
    setup.backend.answers["tunnel.message"] = respond(502, None)
    await asyncio.sleep(60)
    setup.backend.answers["tunnel.message"] = answer


async def kill_and_start(setup: Setup) -> None:
    """Kill the instance of the client, and start it again when the client has resumed."""
    victim, resumes = setup.talk.at, setup.talk.resumes
    victim.kill()
    await eventually(lambda: setup.talk.resumes > resumes)
    await victim.start()


FaultOfTunnel = Callable[[Setup], Awaitable[None]]


async def test_messages_survive_redis_restart_and_kill(setup: Setup) -> None:
    async with talking(setup.talk, 500):
        await redis_restarted(setup)
        setup.talk.at.kill()

    assert setup.talk.resumes
    assert_complete(setup.talk, setup.backend, 500)


@long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("inject", [drained, redis_paused, cut_off, backend_down])
async def test_messages_survive_long_fault(setup: Setup, inject: FaultOfTunnel) -> None:
    async with talking(setup.talk, 1_000):
        await inject(setup)

    assert_complete(setup.talk, setup.backend, 1_000)


@long
@pytest.mark.timeout(300)
async def test_ten_thousand_messages_survive_repeated_kills(setup: Setup) -> None:
    async with talking(setup.talk, 10_000):
        for _ in range(5):
            await kill_and_start(setup)

    assert setup.talk.resumes >= 5
    assert_complete(setup.talk, setup.backend, 10_000)


@long
async def test_killed_instance_leaves_numbers_and_replies(setup: Setup) -> None:
    """One message is answered before the kill, and one is in flight."""
    talk, backend = setup.talk, setup.backend
    await talk.client.send("message", id="answered", data=1)
    reply = await talk.client.receive()
    await eventually(lambda: is_settled(setup, "answered"))
    backend.hold("tunnel.message", released := asyncio.Event())
    await talk.client.send("message", id="in flight", data=2)
    await backend.received("tunnel.message", 2)

    talk.at.kill()
    released.set()
    await talk.resume()
    await talk.client.send("message", id="answered", data=1)
    await talk.client.send("message", id="in flight", data=2)

    assert await talk.client.receive() == reply
    assert (await talk.client.receive())["id"] == "in flight"
    first, unanswered, repeat = backend.of_type("tunnel.message")
    assert first.data["data"] == 1
    assert unanswered == repeat


def is_settled(setup: Setup, message_id: str) -> bool:
    """Return whether the state has the reply to a message of the client."""
    with setup.redis.client() as client:
        [key] = client.keys(f"*:tunnel-numbers:{setup.talk.client.tunnel_id}")
        return client.hget(key, message_id).count(b" ") == 2


@long
async def test_restart_of_empty_redis_closes_tunnels(empty_setup: Setup) -> None:
    talk, two = empty_setup.talk, empty_setup.world.instances[1]

    await redis_restarted(empty_setup)

    assert await talk.client.closed() == 4001
    server = TunnelServer(empty_setup.http, two.url)

    async def is_unknown() -> bool:
        return (await server.push(talk.client.tunnel_id, 1)).status == 410

    await eventually(is_unknown)
    await (await open_talk(empty_setup.world, empty_setup.http)).run(20)


@long
@pytest.mark.timeout(180)
async def test_instance_that_was_cut_off_sends_no_callback(setup: Setup) -> None:
    talk, former = setup.talk, setup.talk.client
    talk.at.link.half_open()

    await talk.resume()
    await former.send("message", id="late", data="late")
    setup.world.instances[0].link.restore()
    setup.world.instances[0].link.reset()

    assert await former.closed() == 4004
    await talk.run(50)
    assert_complete(talk, setup.backend, 50)


async def test_tunnel_works_over_clocks_that_differ(
    redis: RedisServer, tmp_path: Path, key_file: Path
) -> None:
    """The clocks differ by more than the tolerance of signatures and the life of a ticket."""
    async with serving_backend() as backend, aiohttp.ClientSession() as http:
        variables = {**variables_of(backend), "SCAN_LOGIN_KEY_FILE": str(key_file)}
        instances = [
            Instance(
                name,
                folder=tmp_path,
                state_url=redis.url,
                variables={**variables, **shifted(offset)},
            )
            for name, offset in (("fast", "+10m"), ("slow", "-10m"))
        ]
        before = time_of(redis)
        async with running_brokers(instances) as world:
            backend.answers["tunnel.message"] = reply_with(reply=1)
            talk = await open_talk(world, http, created_at=instances[1])
            async with talking(talk, 100):
                await talk.client.websocket.close()
            found = await TunnelServer(http, instances[0].url).read(
                f"/tunnels/{talk.client.tunnel_id}"
            )

    opened_at = found.body["opened_at"]
    assert before - CLOCK_ERROR_MAX < opened_at < time_of(redis) + CLOCK_ERROR_MAX
    assert talk.at is instances[1]
    assert_complete(talk, backend, 100)


def time_of(redis: RedisServer) -> int:
    """Return the Unix time of the server in seconds."""
    with redis.client() as client:
        seconds, _ = client.time()
    return int(seconds)


@long
@pytest.mark.timeout(180)
async def test_wafer_tunnel_of_killed_instance_is_closed(
    redis: RedisServer, tmp_path: Path, key_file: Path
) -> None:
    """The client opens another tunnel at once. The former one ends when the instance is missed."""
    settings = {**WAFER_SETTINGS, "wafer_heartbeat_interval": 600}  # no client is silent too long
    variables = {f"SCAN_LOGIN_{key.upper()}": str(value) for key, value in settings.items()}
    variables["SCAN_LOGIN_KEY_FILE"] = str(key_file)
    async with (
        serving_business() as business,
        aiohttp.ClientSession() as http,
        brokers_with_links(redis, tmp_path, 2, variables) as world,
    ):
        one, two = world.instances
        lost_id, client = await open_wafer(http, one.url, business.url)
        _, other = await open_wafer(http, two.url, business.url)
        await business.received("connect", "connect")

        one.kill()
        await client.closed()

        _, again = await open_wafer(http, two.url, business.url)
        await eventually(lambda: "close" in business.types(), within=120)
        closed = [packet.tunnel_id for packet in business.packets if packet.type == "close"]
        assert closed == [lost_id]
        for living in (other, again):
            await living.send("ping")
            assert await living.receive() == "pong"


async def open_wafer(
    http: aiohttp.ClientSession, url: str, receive_url: str
) -> tuple[str, WaferClient]:
    created = json.loads((await TunnelCalls(http, url).create(receive_url))["data"])
    ticket = created["connectUrl"].rpartition("/")[2]
    client = WaferClient(await http.ws_connect(f"{url}/tunnel/wafer/{ticket}"))
    assert (await client.receive()).startswith("timeout:")
    return created["tunnelId"], client
