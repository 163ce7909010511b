"""The unmodified client SDK of Wafer v2, with the example server and the broker's sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.app_admin import Admin
from tests.support.builders import StartBroker
from tests.support.environment import free_port
from tests.support.node_client import NodeClient, running_client
from tests.support.wafer import HOST, KEY, SDK_FOLDER, SDK_SETTINGS
from tests.support.waiting import eventually
from web_demo.wafer2_server import BusinessServer as ExampleServer
from web_demo.wafer2_server import Configuration


@pytest.fixture
async def business(start_broker: StartBroker) -> AsyncIterator[str]:
    """The URL of the example server."""
    broker = await start_broker(**SDK_SETTINGS)
    async with Admin(broker.admin) as admin:
        fields = {"id": "red", "name": "Red", "wafer_host": HOST, "wafer_key": KEY}
        assert (await admin.ask("POST", "/apps", fields)).status == 201
        secret = (await admin.ask("POST", "/apps/red/rotate-secret")).body["api_secret"]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = ExampleServer(Configuration(broker.url, "red", secret, HOST, KEY, url))
    async with serve_sites([Site("business", server.application(), "127.0.0.1", port, "PORT")]):
        yield url


@pytest.fixture
async def client() -> AsyncIterator[NodeClient]:
    async with running_client("client.mjs", "wafer2-client-sdk", folder=SDK_FOLDER) as client:
        yield client


async def events_of(client: NodeClient) -> list[Any]:
    return [*(await client("state"))["events"]]


async def test_wrong_session_makes_sdk_log_in_with_code(business: str, client: NodeClient) -> None:
    assert await client("login", url=f"{business}/login") == {"openId": "alice"}
    expected = {"code": 0, "data": {"openId": "alice"}}
    assert await client("request", url=f"{business}/user") == expected

    await client("forge", session={"skey": "wrong.skey"})

    assert await client("request", url=f"{business}/user") == expected
    requests = (await client("state"))["requests"]
    assert requests == ["/login", "/user", "/user", "/login", "/user"]


async def test_tunnel_of_v2_carries_messages(business: str, client: NodeClient) -> None:
    await client("open", url=f"{business}/tunnel")

    await client("emit", type="speak", content={"word": "hi"})

    async def have_arrived() -> bool:
        return await events_of(client) == [["connect", None], ["speak", {"word": "hi"}]]

    await eventually(have_arrived)

    async def has_pong() -> bool:
        return "pong" in (await client("state"))["sockets"][0]["frames"]

    await eventually(has_pong)
