"""Tunnels of two instances over Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest

from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.tunnel_client import (
    TunnelClient,
    TunnelServer,
    TunnelWorld,
    socket_url,
    tunnel_settings,
    tunnel_world,
)
from tests.support.waiting import eventually


class Instances(NamedTuple):
    """Two instances with one backend. The world is that of the first one."""

    one: TunnelWorld
    two: TunnelWorld


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


@pytest.fixture
async def instances(start_broker: StartBroker, redis: RedisServer) -> AsyncIterator[Instances]:
    async with tunnel_world(start_broker, state_url=redis.url) as one:
        broker = await start_broker(
            **tunnel_settings(one.backend), state_url=redis.url, public_url=one.broker.url
        )
        server = TunnelServer(one.http, broker.url)
        yield Instances(one, one._replace(broker=broker, server=server))


async def test_push_at_other_instance_reaches_client(instances: Instances) -> None:
    client = await instances.one.open()

    pushed = await instances.two.server.push(client.tunnel_id, "x")

    assert pushed.body == {"offset": 1}
    assert await client.messages(1) == ["x"]


async def test_ticket_is_used_once_over_both_instances(instances: Instances) -> None:
    created = await instances.one.server.create()
    ticket = created["url"].rpartition("/")[2]
    urls = [f"{socket_url(world.broker)}/{ticket}" for world in instances] * 25

    clients = await asyncio.gather(*(TunnelClient.connect(instances.one.http, url) for url in urls))
    first = await asyncio.gather(*(client.receive() for client in clients))

    assert sorted(frame.get("code", 0) for frame in first) == [0] + [4001] * 49


async def test_resume_at_other_instance_loses_nothing(instances: Instances) -> None:
    client = await instances.one.open()
    received: list[object] = []

    async def push() -> None:
        for n in range(400):
            server = instances[n % 2].server
            await server.push(client.tunnel_id, n)

    pushing = asyncio.create_task(push())
    for turn in range(1, 9):
        received += await client.messages(20)
        await client.send("ack", offset=len(received))
        client = await instances[turn % 2].resume(client, len(received))
        assert client.opened["recovered"] is True
    received += await client.messages(400 - len(received))
    await pushing

    assert received == list(range(400))


async def test_resume_at_other_instance_closes_former_socket(instances: Instances) -> None:
    client = await instances.one.open()

    resumed = await instances.two.resume(client)
    await resumed.send("message", id="m", data=1)

    assert await client.closed() == 4004
    assert (await resumed.receive())["id"] == "m"
    seqs = [one.data["seq"] for one in instances.one.backend.callbacks]
    assert seqs == [1, 2, 3]


async def test_message_of_replaced_socket_reaches_no_backend(instances: Instances) -> None:
    client = await instances.one.open()
    resumed = await instances.two.resume(client)

    await client.send("message", id="late", data="late")
    await client.closed()
    await resumed.send("message", id="m", data="new")
    await resumed.receive()

    messages = [one.data["data"] for one in instances.one.backend.of_type("tunnel.message")]
    assert messages == ["new"]


async def test_end_at_other_instance_follows_message_in_flight(instances: Instances) -> None:
    backend, answered = instances.one.backend, asyncio.Event()
    backend.hold("tunnel.message", answered)
    client = await instances.one.open()
    await client.send("message", id="m", data=1)
    await backend.received("tunnel.message")

    await instances.two.server.call("DELETE", f"/tunnels/{client.tunnel_id}")
    assert await client.closed() == 4010
    await instances.one.open()  # a callback that was sent before has arrived now
    assert backend.of_type("tunnel.close") == []
    answered.set()

    [closing] = await backend.received("tunnel.close")
    assert closing.data["seq"] == 3
    assert backend.in_flight_max == 1


async def test_sign_out_at_other_instance_ends_tunnel(instances: Instances) -> None:
    async with PhoneClient(instances.two.broker.url) as phone:
        session = {name: phone.session[name] for name in ("id", "skey")}
        client = await instances.one.open(session=session)

        await phone.delete("session")

        assert await client.closed() == 4011


async def test_stored_reply_is_sent_after_resume(instances: Instances) -> None:
    client = await instances.one.open()
    await client.send("message", id="m", data=1)
    first = await client.receive()

    resumed = await instances.two.resume(client)

    async def is_settled() -> bool:
        await resumed.send("message", id="m", data=1)
        assert await resumed.receive() == first
        return True

    await eventually(is_settled)
    assert len({one.id for one in instances.one.backend.of_type("tunnel.message")}) == 1


async def test_stopped_instance_hands_tunnels_over(
    start_broker: StartBroker, instances: Instances
) -> None:
    client = await instances.one.open()
    await instances.two.server.push(client.tunnel_id, "before")
    assert await client.messages(1) == ["before"]

    stopping = asyncio.create_task(instances.one.stop())

    assert await client.closed() == 1012
    await stopping
    await instances.two.is_away(client.tunnel_id)
    await instances.two.server.push(client.tunnel_id, "after")
    resumed = await instances.two.resume(client, 1)
    assert await resumed.messages(1) == ["after"]


async def test_message_during_outage_is_delivered(instances: Instances, redis: RedisServer) -> None:
    client = await instances.one.open()
    redis.pause()
    try:
        for n in range(5):
            await client.send("message", id=str(n), data=n)
        await instances.one.is_unready()
    finally:
        redis.resume()

    replies = [await client.receive() for _ in range(5)]

    assert [reply["id"] for reply in replies] == [str(n) for n in range(5)]
    messages = instances.one.backend.of_type("tunnel.message")
    assert [one.data["seq"] for one in messages] == [2, 3, 4, 5, 6]


async def test_lost_socket_is_recorded_after_outage(
    instances: Instances, redis: RedisServer
) -> None:
    client = await instances.one.open()
    redis.pause()
    try:
        await client.websocket.close()
        await instances.one.is_unready()
    finally:
        redis.resume()

    await instances.two.is_away(client.tunnel_id)


async def test_idle_client_is_closed_after_restart_without_data(
    instances: Instances, redis: RedisServer
) -> None:
    client = await instances.one.open()

    redis.kill()
    redis.start()

    assert await client.closed() == 4001

    async def is_unknown() -> bool:
        return (await instances.two.server.push(client.tunnel_id, 1)).status == 410

    await eventually(is_unknown)


async def test_unanswered_message_keeps_its_number_after_resume(instances: Instances) -> None:
    backend, released = instances.one.backend, asyncio.Event()
    backend.hold("tunnel.message", released)
    client = await instances.one.open()
    await client.send("message", id="m", data=1)
    [first] = await backend.received("tunnel.message")

    resumed = await instances.two.resume(client)
    released.set()
    await resumed.send("message", id="m", data=1)

    assert (await resumed.receive())["id"] == "m"
    assert all(one == first for one in backend.of_type("tunnel.message"))
    assert [one.data["seq"] for one in backend.of_type("tunnel.open")] == [1, 3]


async def test_tunnel_of_emptied_state_is_closed(instances: Instances, redis: RedisServer) -> None:
    client = await instances.one.open()
    with redis.client() as connection:
        connection.flushall()

    await client.send("message", id="m", data=1)

    assert await client.closed() == 4001
