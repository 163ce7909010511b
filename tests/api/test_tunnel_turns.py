"""Apps do not delay each other, and the callbacks of one app are limited over both APIs."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from broker.tunnels.callback_sender import IN_FLIGHT_MAX
from broker.wafer import callbacks
from tests.support.app_admin import Admin
from tests.support.builders import StartBroker
from tests.support.tunnel_client import tunnel_world
from tests.support.wafer import (
    HOST,
    KEY,
    WAFER_SETTINGS,
    TunnelCalls,
    WaferClient,
    serving_business,
)
from tests.support.waiting import eventually

RED = {"id": "red", "name": "Red", "wafer_host": HOST, "wafer_key": KEY}

EACH = IN_FLIGHT_MAX * 5 // 8
"""Tunnels of each API. Together they exceed the limit, and those of one do not."""


async def open_wafer(
    http: aiohttp.ClientSession, calls: TunnelCalls, receive_url: str
) -> WaferClient:
    created = json.loads((await calls.create(receive_url))["data"])
    client = WaferClient(await http.ws_connect(created["connectUrl"]))
    assert (await client.receive()).startswith("timeout:")
    return client


@pytest.fixture(autouse=True)
def _answers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback in flight ends only by its answer."""
    monkeypatch.setattr(callbacks, "CONNECT", callbacks.CONNECT._replace(timeout=60.0))


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
        calls = TunnelCalls(world.http, world.broker.url)
        wafer = [await open_wafer(world.http, calls, business.url) for _ in native]
        await eventually(lambda: world.backend.in_flight + business.in_flight >= IN_FLIGHT_MAX)
        for one in wafer:
            await one.send("ping")
            assert await one.receive() == "pong"

        assert world.backend.in_flight + business.in_flight == IN_FLIGHT_MAX
        released.set()
        await eventually(lambda: len(business.packets) == EACH)


async def test_held_backend_delays_no_other_app(start_broker: StartBroker) -> None:
    released = asyncio.Event()
    async with (
        serving_business() as business,
        tunnel_world(start_broker, **WAFER_SETTINGS) as world,
    ):
        async with Admin(world.broker.admin) as admin:
            assert (await admin.ask("POST", "/apps", RED)).status == 201
        business.held = released
        calls = TunnelCalls(world.http, f"{world.broker.url}/wafer/red")
        for _ in range(IN_FLIGHT_MAX + 1):
            await open_wafer(world.http, calls, business.url)
        await eventually(lambda: business.in_flight == IN_FLIGHT_MAX)

        client = await world.open()
        await client.send("message", id="m", data=1)

        assert (await client.receive())["type"] == "reply"
        assert business.in_flight == IN_FLIGHT_MAX
        released.set()
