"""A client of Engine.IO and Socket.IO that sends any packet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp

from broker.infrastructure.runtime.server import Site, serve_sites
from broker.infrastructure.transport.engineio import heartbeat
from broker.infrastructure.transport.engineio.polling import PollingSession
from broker.infrastructure.transport.engineio.server import EngineIOServer
from tests.support.conformance_peer import PEERS, application
from tests.support.waiting import eventually

SEPARATOR = "\x1e"

PING_INTERVAL, PING_TIMEOUT = 25.0, 20.0

TICK = PING_INTERVAL / heartbeat.TICKS_PER_PING
"""Maximum delay of a heartbeat in seconds."""


class Client:
    """A client of one server over both transports."""

    def __init__(self, http: aiohttp.ClientSession, server: Any, path: str) -> None:
        self.http = http
        self.server = server
        self.path = path

    @property
    def engine(self) -> EngineIOServer:
        return self.server if self.path == "/engine.io/" else self.server.eio

    def query(self, transport: str, sid: str | None = None) -> str:
        parameters = f"&sid={sid}" if sid else ""
        return f"{self.path}?EIO=4&transport={transport}{parameters}"

    async def ask(self, query: str, method: str = "GET") -> int:
        async with self.http.request(method, self.path + query) as response:
            return response.status

    async def open(self) -> str:
        """Open a polling session, and return its sid."""
        async with self.http.get(self.query("polling")) as response:
            return str(json.loads((await response.text())[1:])["sid"])

    async def poll(self, sid: str) -> tuple[int, str]:
        async with self.http.get(self.query("polling", sid)) as response:
            return response.status, await response.text()

    async def start_poll(self, sid: str) -> asyncio.Task[tuple[int, str]]:
        """Start a poll, and return when it waits at the server."""
        poll = asyncio.create_task(self.poll(sid))
        session = cast(PollingSession, self.engine.sockets[sid])
        await eventually(lambda: session.has_pending_poll)
        return poll

    async def post(self, sid: str, body: Any) -> tuple[int, str]:
        async with self.http.post(self.query("polling", sid), data=body) as response:
            return response.status, await response.text()

    def connect(self, sid: str | None = None) -> Any:
        return self.http.ws_connect(self.query("websocket", sid), autoping=False, max_msg_size=0)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with self.connect() as socket:
            assert (await socket.receive_str())[0] == "0"
            yield socket


@asynccontextmanager
async def client_of(name: str, **figures: float) -> AsyncIterator[Client]:
    peer = PEERS[name](**figures)
    site = Site("peer", application(peer), "127.0.0.1", 0, "PORT")
    path = {"eio": "/engine.io/", "sio": "/socket.io/"}[name]
    async with (
        serve_sites([site]) as addresses,
        aiohttp.ClientSession(
            addresses["peer"],
            # When a test moves the clock, the server closes keep-alive connections.
            connector=aiohttp.TCPConnector(force_close=True),
        ) as http,
    ):
        yield Client(http, peer, path)


async def settle(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Wait until the server has handled the sent packets, and check that it sent nothing."""
    await socket.ping()
    assert (await socket.receive()).type is aiohttp.WSMsgType.PONG


async def is_pinged(socket: aiohttp.ClientWebSocketResponse) -> bool:
    """Return whether the server has sent an Engine.IO ping and nothing else."""
    await socket.ping()
    packet = (await socket.receive()).data
    return packet == "2" and (await socket.receive()).type is aiohttp.WSMsgType.PONG


async def is_closed(socket: aiohttp.ClientWebSocketResponse) -> bool:
    async with asyncio.timeout(30):
        while not socket.closed:
            await socket.receive()
    return True


Socket = aiohttp.ClientWebSocketResponse


async def join(socket: Socket, namespace: str = "") -> None:
    await socket.send_str(f"40{namespace}")
    assert (await heard(socket)).startswith(f'40{namespace}{{"sid":')
    assert await heard(socket) == f'42{namespace}["auth",{{}}]'


async def heard(socket: Socket) -> str:
    return await socket.receive_str(timeout=30)


async def lives(socket: Socket, namespace: str = "") -> bool:
    await socket.send_str(f'42{namespace}["message","still here"]')
    return await heard(socket) == f'42{namespace}["message-back","still here"]'
