"""Wafer's calls and sockets over two instances and Redis, which may fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import aiohttp
import pytest

from tests.support.builders import RunningBroker, StartBroker
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.wafer import (
    WAFER_SETTINGS,
    BusinessServer,
    SessionServer,
    TunnelCalls,
    WaferClient,
    close_packet,
    message_packet,
    serving_business,
)
from tests.support.waiting import eventually


class Instances(NamedTuple):
    """Two instances with one business server."""

    one: RunningBroker
    two: RunningBroker
    business: BusinessServer
    http: aiohttp.ClientSession

    def calls(self, broker: RunningBroker) -> TunnelCalls:
        return TunnelCalls(self.http, broker.url)

    def sessions(self, broker: RunningBroker) -> SessionServer:
        return SessionServer(self.http, broker.url)

    async def open(self, *, created_at: RunningBroker) -> tuple[str, WaferClient]:
        """Open a tunnel whose socket is at the first instance."""
        answer = await self.calls(created_at).create(self.business.url)
        created = json.loads(answer["data"])
        ticket = created["connectUrl"].rpartition("/")[2]
        client = WaferClient(await self.http.ws_connect(f"{self.one.url}/tunnel/wafer/{ticket}"))
        assert await client.receive() == "timeout:15"
        await eventually(lambda: self.business.types() == ["connect"])
        return created["tunnelId"], client


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


@pytest.fixture
async def instances(start_broker: StartBroker, redis: RedisServer) -> AsyncIterator[Instances]:
    async with serving_business() as business, aiohttp.ClientSession() as http:
        settings = {**WAFER_SETTINGS, "state_url": redis.url}
        one = await start_broker(**settings)
        two = await start_broker(**settings)
        yield Instances(one, two, business, http)


async def test_calls_may_reach_another_instance(instances: Instances) -> None:
    session = (await instances.sessions(instances.one).open())["returnData"]
    tunnel_id, client = await instances.open(created_at=instances.two)

    checked = await instances.sessions(instances.two).call(
        "auth", id=session["id"], skey=session["skey"]
    )
    pushed = await instances.calls(instances.two).push(message_packet(tunnel_id, content=1))
    assert await client.receive() == 'message:{"type": "speak", "content": 1}'
    await instances.calls(instances.two).push(close_packet(tunnel_id))

    assert checked["returnMessage"] == "AUTH_SUCCESS"
    assert pushed["data"] == {"invalidTunnelIds": []}
    assert await client.receive() == "close"
    await instances.business.received("connect", "close")


async def test_drain_drops_sockets_and_reports_their_ends(instances: Instances) -> None:
    tunnel_id, client = await instances.open(created_at=instances.one)
    assert instances.one.stop is not None

    stopping = asyncio.ensure_future(instances.one.stop())

    assert await client.closed() == 1012
    await stopping
    await instances.business.received("connect", "close")
    pushed = await instances.calls(instances.two).push(message_packet(tunnel_id))
    assert pushed["data"] == {"invalidTunnelIds": [tunnel_id]}


async def test_draining_instance_accepts_upgrades_and_drops_them(instances: Instances) -> None:
    created = json.loads(
        (await instances.calls(instances.two).create(instances.business.url))["data"]
    )
    instances.two.drain()

    late = WaferClient(await instances.http.ws_connect(created["connectUrl"]))
    assert await late.receive() == "timeout:15"
    assert await late.closed() == 1012
    ticket = created["connectUrl"].rpartition("/")[2]
    url = f"{instances.one.url}/tunnel/wafer/{ticket}"
    again = WaferClient(await instances.http.ws_connect(url))

    assert await again.receive() == "timeout:15"
    await instances.business.received("connect")


async def test_outage_has_codes_and_keeps_sockets(instances: Instances, redis: RedisServer) -> None:
    tunnel_id, client = await instances.open(created_at=instances.one)
    calls, sessions = instances.calls(instances.one), instances.sessions(instances.one)
    redis.pause()
    try:
        await client.send('message:{"type":"speak","content":1}')
        await client.send("ping")
        answers = await asyncio.gather(
            calls.create(instances.business.url),
            calls.push(message_packet(tunnel_id)),
            calls.push(close_packet(tunnel_id)),
            sessions.open(),
            sessions.call("auth", id="A" * 22, skey="A" * 43),
        )
    finally:
        redis.resume()

    assert [answer["code"] for answer in answers[:3]] == [9007] * 3
    assert [answer["returnCode"] for answer in answers[3:]] == [1006] * 2
    assert await client.receive() == "pong"
    await eventually(lambda: "message" in instances.business.types())


async def test_empty_state_drops_sockets_and_logs_in_again(
    instances: Instances, redis: RedisServer
) -> None:
    session = (await instances.sessions(instances.one).open())["returnData"]
    _, client = await instances.open(created_at=instances.one)
    with redis.client() as connection:
        connection.flushall()

    checked = await instances.sessions(instances.one).call(
        "auth", id=session["id"], skey=session["skey"]
    )
    await client.send('message:{"type":"speak"}')

    assert checked["returnCode"] == 60012
    assert await client.closed() == 4001
    assert instances.business.types() == ["connect"]
