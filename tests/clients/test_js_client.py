"""The official JavaScript client with the broker's transport.

In Node and in Chromium, with each choice of transports, directly and through nginx.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from broker.infrastructure.transport.engineio.sessions import EngineIOWebSocket
from broker.infrastructure.transport.engineio.upgrade import Upgrades
from broker.infrastructure.transport.socketio.native import NativeServer
from tests.support.clients import NodeBrowser
from tests.support.engineio_client import client_of
from tests.support.environment import ROOT, free_port, need
from tests.support.nginx import nginx_before
from tests.support.pages import open_page
from tests.support.waiting import eventually

JS = Path(__file__).parent / "js"
CLIENT = ROOT / "broker/widget/static/vendor/socket.io.min.js"
WITHIN = 60.0

BYTES = list(range(256))

Options = dict[str, Any]

TRANSPORTS: dict[str, tuple[Options, str]] = {
    "default": ({}, "websocket"),
    "websocket": ({"transports": ["websocket"]}, "websocket"),
    "polling": ({"transports": ["polling"]}, "polling"),
}
"""The transports of an application, and the transport after the upgrade."""


def found(transport: str) -> dict[str, Any]:
    return {
        "namespaces": ["/", "/custom", True, True],
        "upgraded": transport,
        "plain": [1, "two", {"three": [None, True, "三"]}],
        "binary": [BYTES, {"deep": [BYTES]}],
        "long": True,
        "ack": 1,
        "binaryAck": BYTES,
        "asked": 42,
        "room": ["main hello", "neighbour hello"],
        "left": [False, "still here"],
        "reconnected": [True, "back"],
    }


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with client_of("sio", ping_interval=25.0, ping_timeout=20.0) as client:
        _serve_rooms(client.server)
        yield str(client.http._base_url).rstrip("/")


def _serve_rooms(server: NativeServer) -> None:
    async def ask(sid: str, number: int) -> None:
        async def tell(answer: int) -> None:
            await server.emit("answered", answer, to=sid)

        await server.emit("question", number, to=sid, callback=tell)

    async def join(sid: str, room: str) -> bool:
        await server.enter_room(sid, room)
        return True

    async def say(sid: str, room: str, what: str) -> bool:
        await server.emit("said", what, to=room)
        return True

    for act in (ask, join, say):
        server.on(act.__name__, act, namespace="/")


async def test_client_reconnects_after_a_close_during_its_upgrade(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client has stopped polling, and would wait for a PING until its timeout."""
    on_packet = Upgrades.on_packet

    def on_packet_and_close(
        upgrades: Upgrades, probe: EngineIOWebSocket, packet: str | bytes
    ) -> None:
        on_packet(upgrades, probe, packet)
        if packet == "2probe":
            asyncio.get_running_loop().create_task(close_once_joined(probe.sid))

    async def close_once_joined(sid: str) -> None:
        """A client that has not joined would report the close as a refusal."""
        sockets: Mapping[str, Any] = client.engine.sockets
        await eventually(lambda: client.server.has_joined(sid) and not sockets[sid]._write_queue)
        await client.engine.disconnect(sid)

    async with client_of("sio", ping_interval=25.0, ping_timeout=20.0) as client:
        browser = NodeBrowser({})
        with monkeypatch.context() as patch:
            patch.setattr(Upgrades, "on_packet", on_packet_and_close)
            await browser.connect(str(client.http._base_url).rstrip("/"), namespace="/")

            assert await next_change(browser) == "disconnect"

        assert await next_change(browser) == "connect"
        await browser.close()


async def next_change(browser: NodeBrowser) -> str:
    """Return the next push but `auth`, which the server sends after each connect."""
    while (event := (await browser.push())[0]) == "auth":
        continue
    return event


async def in_node(url: str, options: Options) -> Any:
    script = (
        'require("./features.js")(require("socket.io-client"), ...JSON.parse(process.argv[1]))'
        ".then((found) => console.log(JSON.stringify(found)))"
    )
    node = await asyncio.create_subprocess_exec(
        need("node"),
        "-e",
        script,
        json.dumps([url, options]),
        cwd=JS,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN):
            said, trouble = await node.communicate()
    finally:
        if node.returncode is None:
            node.kill()
            await node.wait()
    assert node.returncode == 0, trouble.decode()
    return json.loads(said)


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_socketio_features_work_in_node(url: str, transports: str) -> None:
    options, transport = TRANSPORTS[transports]

    assert await in_node(url, options) == found(transport)


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_socketio_features_work_in_chromium(
    chromium: Browser, url: str, transports: str
) -> None:
    options, transport = TRANSPORTS[transports]
    page = await open_page(chromium, f"{url}/a-page-of-this-origin")
    for script in (CLIENT, JS / "features.js"):
        await page.add_script_tag(path=script)

    async with asyncio.timeout(WITHIN):
        seen = await page.evaluate("(asked) => features(io, ...asked)", [url, options])

    assert seen == found(transport)


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_socketio_features_work_through_nginx(
    url: str, tmp_path: Path, transports: str
) -> None:
    options, transport = TRANSPORTS[transports]
    async with nginx_before([url], tmp_path / "nginx", free_port()) as front:
        assert await in_node(front, options) == found(transport)
