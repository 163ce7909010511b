"""Brokers for business servers: for the app `default`, for another app, and over two instances."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.app_admin import Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.environment import free_port
from tests.support.nginx import nginx_before
from tests.support.servers.redis import Engines
from tests.support.wafer import HOST, KEY, SDK_SETTINGS, Layout, TunnelCalls
from tests.support.waiting import eventually


async def add_red(broker: RunningBroker, *urls: str) -> None:
    """Add the app `red`, and wait until the brokers at `urls` know it."""
    async with Admin(broker.admin) as admin:
        fields = {"id": "red", "name": "Red", "wafer_host": HOST, "wafer_key": KEY}
        answer = await admin.ask("POST", "/apps", fields)
        assert answer.status == 201, answer
    async with aiohttp.ClientSession() as http:
        for url in urls:
            calls = TunnelCalls(http, f"{url}/wafer/red")

            async def is_known(calls: TunnelCalls = calls) -> bool:
                return bool((await calls.push())["code"] == 0)

            await eventually(is_known)


@asynccontextmanager
async def default_app(
    start_broker: StartBroker, folder: Path, engines: Engines
) -> AsyncIterator[Layout]:
    broker = await start_broker(**SDK_SETTINGS)
    yield Layout(broker.url, broker, "default")


@asynccontextmanager
async def red_app(
    start_broker: StartBroker, folder: Path, engines: Engines
) -> AsyncIterator[Layout]:
    broker = await start_broker(**SDK_SETTINGS)
    await add_red(broker, broker.url)
    yield Layout(f"{broker.url}/wafer/red", broker, "red")


@asynccontextmanager
async def two_instances(
    start_broker: StartBroker, folder: Path, engines: Engines
) -> AsyncIterator[Layout]:
    """nginx gives the requests to both in turn. The broker of the layout is one of them."""
    engines.empty("redis")
    port = free_port()
    shared = {
        **SDK_SETTINGS,
        "state_url": engines.url("redis"),
        "public_url": f"http://127.0.0.1:{port}",
        "key_file": folder / "keys.json",
        "trusted_proxies": "127.0.0.1",
    }
    one, two = [await start_broker(**shared, instance=name) for name in ("one", "two")]
    await add_red(one, one.url, two.url)
    async with nginx_before([one.url, two.url], folder / "nginx", port) as url:
        yield Layout(f"{url}/wafer/red", one, "red")


Open = Callable[[StartBroker, Path, Engines], AbstractAsyncContextManager[Layout]]

LAYOUTS: dict[str, Open] = {
    "default": default_app,
    "red": red_app,
    "two-instances": two_instances,
}


@pytest.fixture(params=LAYOUTS)
async def layout(
    request: pytest.FixtureRequest, start_broker: StartBroker, tmp_path: Path, engines: Engines
) -> AsyncIterator[Layout]:
    async with LAYOUTS[request.param](start_broker, tmp_path, engines) as layout:
        yield layout
