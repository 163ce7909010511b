"""WebSocket connections without Engine.IO: an echo server behind the upgrade acceptor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import pytest
from aiohttp import web

from broker.infrastructure.runtime.server import Site, serve_sites
from broker.infrastructure.transport.step_queue import StepQueue
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.acceptor import UPGRADE_HANDLER, UpgradeRequest
from broker.infrastructure.transport.websocket.closing import ClosingTransports
from broker.infrastructure.transport.websocket.connection import CloseReason, WebSocketConnection
from broker.infrastructure.transport.websocket.frames import Message
from broker.infrastructure.transport.websocket.handshake import (
    DetachedResponse,
    detach,
    is_websocket_handshake,
)
from tests.support.waiting import eventually
from tests.support.websocket_client import masked, more, raw_transport, text

LONGEST = 200_000


class EchoHandler:
    """Sends each message back. It accepts connections from the acceptor and from aiohttp."""

    def __init__(self) -> None:
        self.max_message_bytes = LONGEST
        self.steps = StepQueue()
        self.closing = ClosingTransports()
        self.connections: list[WebSocketConnection] = []
        self.closed: list[CloseReason] = []
        self.is_allowed = True

    def accept(self, request: UpgradeRequest) -> bool:
        if request.path != "/echo" or not is_websocket_handshake(request):
            return False
        connection = WebSocketConnection(self, request.transport)
        connection.start(request, request.early_data)
        self.connections.append(connection)
        return True

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        transport, early_data = request.transport, detach(request.protocol)
        WebSocketConnection(self, transport).start(request, early_data)
        return DetachedResponse()

    def on_frames(self, connection: WebSocketConnection, count: int) -> bool:
        return self.is_allowed

    def on_message(self, connection: WebSocketConnection, message: Message) -> None:
        connection.send(message)

    def on_closed(self, connection: WebSocketConnection, reason: CloseReason) -> None:
        self.closed.append(reason)


class Echo(NamedTuple):
    """A handler, and a client of its server."""

    handler: EchoHandler
    http: aiohttp.ClientSession


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    handler, application = EchoHandler(), web.Application()
    application[UPGRADE_HANDLER] = handler.accept
    application.router.add_get("/by-aiohttp", handler.handle_request)
    async with (
        serve_sites([Site("echo", application, "127.0.0.1", 0, "PORT")]) as addresses,
        aiohttp.ClientSession(addresses["echo"]) as http,
    ):
        yield Echo(handler, http)


@pytest.mark.parametrize("path", ["/echo", "/by-aiohttp"])
async def test_bare_connection_echoes_text_and_binary(echo: Echo, path: str) -> None:
    async with echo.http.ws_connect(path) as client:
        await client.send_str("grüße")
        await client.send_bytes(b"\x00\xff")

        assert await client.receive_str(timeout=30) == "grüße"
        assert await client.receive_bytes(timeout=30) == b"\x00\xff"


async def test_long_message_is_echoed_whole(echo: Echo) -> None:
    async with echo.http.ws_connect("/echo") as client:
        await client.send_str("x" * LONGEST)

        assert await client.receive_str(timeout=30) == "x" * LONGEST


async def test_fragments_are_echoed_as_one_message(echo: Echo) -> None:
    async with echo.http.ws_connect("/echo") as client:
        raw_transport(client).write(text(b"4", fin=False) + more(b"2"))

        assert await client.receive_str(timeout=30) == "42"


async def test_ping_is_answered_without_the_handler(echo: Echo) -> None:
    async with echo.http.ws_connect("/echo", autoping=False) as client:
        await client.ping(b"p")

        assert await client.receive(timeout=30) == (aiohttp.WSMsgType.PONG, b"p", "")


async def test_close_frame_is_answered_and_reported(echo: Echo) -> None:
    async with echo.http.ws_connect("/echo") as client:
        await client.close(code=4000)

    assert client.close_code == 4000
    assert echo.handler.closed == [CloseReason.PEER_CLOSED]


async def test_lost_connection_is_reported(echo: Echo) -> None:
    client = await echo.http.ws_connect("/echo")
    raw_transport(client).abort()

    await eventually(lambda: echo.handler.closed == [CloseReason.CONNECTION_LOST])


async def test_protocol_violation_is_closed_and_reported(echo: Echo) -> None:
    async with echo.http.ws_connect("/echo") as client:
        raw_transport(client).write(masked(0x83))

        assert (await client.receive(timeout=30)).data == frames.PROTOCOL_ERROR
    assert echo.handler.closed == [CloseReason.ERROR]


async def test_refused_frames_close_the_connection(echo: Echo) -> None:
    echo.handler.is_allowed = False
    async with echo.http.ws_connect("/echo") as client:
        await client.ping()

        assert (await client.receive(timeout=30)).data == frames.POLICY
    assert echo.handler.closed == [CloseReason.ERROR]


async def test_close_by_the_server_is_not_reported(echo: Echo) -> None:
    async with echo.http.ws_connect("/echo") as client:
        [connection] = echo.handler.connections
        connection.send("last")
        connection.close(frames.GOING_AWAY)

        assert await client.receive_str(timeout=30) == "last"
        assert (await client.receive(timeout=30)).data == frames.GOING_AWAY
    await eventually(lambda: connection.is_closed)
    assert echo.handler.closed == []
    await eventually(lambda: not echo.handler.closing)


async def test_request_for_another_path_reaches_aiohttp(echo: Echo) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await echo.http.ws_connect("/elsewhere")

    assert refused.value.status == 404


def test_connection_module_loads_neither_engineio_nor_socketio() -> None:
    module = WebSocketConnection.__module__
    program = f"import sys, {module}; print({{'engineio', 'socketio'}} & sys.modules.keys())"

    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert output.stdout == "set()\n"
