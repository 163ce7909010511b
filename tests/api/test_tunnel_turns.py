"""Apps do not delay each other, and the callbacks of one app are limited over both APIs."""

from __future__ import annotations

import asyncio
import json

import aiohttp

from broker.tunnels.callback_sender import IN_FLIGHT_MAX
from tests.support.builders import StartBroker
from tests.support.tunnel_client import tunnel_world
from tests.support.wafer import WAFER_SETTINGS, TunnelCalls, WaferClient, serving_business
from tests.support.waiting import eventually

EACH = IN_FLIGHT_MAX * 5 // 8
"""Tunnels of each API. Together they exceed the limit, and those of one do not."""


async def open_wafer(http: aiohttp.ClientSession, url: str, receive_url: str) -> WaferClient:
    answer = await TunnelCalls(http, url).create(receive_url)
    client = WaferClient(await http.ws_connect(json.loads(answer["data"])["connectUrl"]))
    assert (await client.receive()).startswith("timeout:")
    return client


async def test_callbacks_of_both_apis_share_a_limit(start_broker: StartBroker) -> None:
    released = asyncio.Event()
    async with (
        serving_business() as business,
        tunnel_world(start_broker, **WAFER_SETTINGS) as world,
    ):
        native = [await world.open() for _ in range(EACH)]
        world.backend.hold("tunnel.message", released)
        business.held = released

        for client in native:
            await client.send("message", data=1)
        await eventually(lambda: world.backend.in_flight == EACH)
        wafer = [await open_wafer(world.http, world.broker.url, business.url) for _ in native]
        await eventually(lambda: world.backend.in_flight + business.in_flight >= IN_FLIGHT_MAX)
        for one in wafer:
            await one.send("ping")
            assert await one.receive() == "pong"

        assert world.backend.in_flight + business.in_flight == IN_FLIGHT_MAX
        released.set()
        await eventually(lambda: len(business.packets) == EACH)
