"""Unmodified SDKs of Wafer v1: a mini program, and a business server with express."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from deploy.processes import Process, wait_until_listening
from tests.support.environment import free_port
from tests.support.node_client import NodeClient, node, running_client
from tests.support.wafer import HOST, KEY, SDK_FOLDER, Layout
from tests.support.waiting import eventually


class World(NamedTuple):
    """client: the mini program.  url: of the business server."""

    client: NodeClient
    url: str
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **body: object) -> Any:
        async with self.http.request(method, self.url + path, json=body) as response:
            return await response.json()

    async def packets(self) -> list[list[Any]]:
        """The callbacks that the handler of the business server got."""
        return [*(await self.ask("GET", "/packets"))]

    async def has_packets(self, *types: str) -> None:
        async def have_arrived() -> bool:
            return [packet[0] for packet in await self.packets()] == [*types]

        await eventually(have_arrived)

    async def events(self) -> list[list[Any]]:
        return [*(await self.client("state"))["events"]]

    async def has_events(self, *types: str) -> None:
        async def have_arrived() -> bool:
            return [event[0] for event in await self.events()] == [*types]

        await eventually(have_arrived)

    async def open(self) -> str:
        """Open a tunnel, and return its id."""
        await self.client("open", url=f"{self.url}/tunnel", increase=50)
        await self.has_events("connect")
        await self.has_packets("connect")
        return str((await self.packets())[0][1])


@pytest.fixture
async def business(layout: Layout, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a business server with the SDK."""
    port = free_port()
    site = {
        "port": port,
        "receiveUrl": f"http://127.0.0.1:{port}/tunnel",
        "sdk": {
            "ServerHost": HOST,
            "AuthServerUrl": f"{layout.url}/mina_auth/",
            "TunnelServerUrl": layout.url,
            "TunnelSignatureKey": KEY,
        },
    }
    log = tmp_path / "business.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(node(SDK_FOLDER), str(SDK_FOLDER / "server.cjs")),
            stdout=file,
            stderr=file,
            env={**os.environ, "SITE": json.dumps(site)},
        )
    running = Process("business server", process, log)
    try:
        await wait_until_listening(running, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        await running.stop()


@pytest.fixture
async def world(business: str) -> AsyncIterator[World]:
    async with (
        running_client("client.mjs", "wafer-client-sdk", folder=SDK_FOLDER) as client,
        aiohttp.ClientSession() as http,
    ):
        yield World(client, business, http)


async def test_wrong_session_makes_sdk_log_in_again(world: World) -> None:
    await world.client("login", url=f"{world.url}/login")
    expected = {"user": {"openId": "alice", "nickName": "alice"}}
    assert await world.client("request", url=f"{world.url}/user", login=True) == expected

    await world.client("forge", session={"skey": "wrong"})

    assert await world.client("request", url=f"{world.url}/user", login=True) == expected
    requests = (await world.client("state"))["requests"]
    assert requests == ["/login", "/user", "/user", "/login", "/user"]


async def test_tunnel_lives_through_pings_messages_and_loss(world: World) -> None:
    first = await world.open()

    async def has_pongs() -> bool:
        return (await world.client("state"))["sockets"][0]["frames"].count("pong") >= 2

    await eventually(has_pongs)
    assert (await world.client("state"))["sockets"][0]["frames"][0] == "timeout:1"
    await world.client("emit", type="speak", content={"word": "hi"})
    await world.has_events("connect", "said")
    assert (await world.events())[1] == ["said", {"word": "hi"}]
    assert (await world.packets())[1] == ["message", first, "speak", {"word": "hi"}]

    await world.client("cut")

    await world.has_events("connect", "said", "reconnecting", "reconnect")

    async def is_replaced() -> bool:
        packets = await world.packets()
        return ["close", first] in packets and len(packets) == 4

    await eventually(is_replaced)
    second = next(
        one[1] for one in await world.packets() if one[0] == "connect" and one[1] != first
    )
    pushed = await world.ask("POST", "/push", ids=[first, second], type="said", content=2)
    assert pushed["data"] == {"invalidTunnelIds": [first]}
    await world.has_events("connect", "said", "reconnecting", "reconnect", "said")


async def test_tunnel_is_closed_by_either_side(world: World) -> None:
    tunnel_id = await world.open()

    assert (await world.ask("POST", "/end", id=tunnel_id))["code"] == 0

    await world.has_events("connect", "close")
    await world.has_packets("connect", "close")
    assert (await world.client("state"))["status"] == "CLOSED"

    await world.client("open", url=f"{world.url}/tunnel")
    await world.has_events("connect", "close", "connect")
    await world.client("close")
    await world.has_packets("connect", "close", "connect", "close")
