"""Who knocks is taken in at the door or led on to aiohttp, and is served the same either way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.infrastructure.runtime import server as serving
from broker.infrastructure.transport.websocket.acceptor import UpgradeAcceptor, parse_upgrade
from tests.support.conformance_peer import application, engine_io
from tests.support.engineio_client import Client, client_of
from tests.support.waiting import eventually
from tests.support.websocket_client import ASKS, KEY, handshake, text

WHOLE = handshake(*ASKS, "Origin: https://shop.example")
SWITCHED = b"HTTP/1.1 101 "


class Transport(asyncio.Transport):
    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.1", 5000) if name == "peername" else default


class Door(NamedTuple):
    """A server, and how many connections aiohttp has had of it."""

    client: Client
    led_on: list[RequestHandler]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = urlsplit(str(self.client.http._base_url))
        return await asyncio.open_connection(address.hostname, address.port)


@pytest.fixture
async def door(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    led_on: list[RequestHandler] = []
    made = RequestHandler.connection_made

    def connection_made(self: RequestHandler, transport: asyncio.BaseTransport) -> None:
        led_on.append(self)
        made(self, transport)

    monkeypatch.setattr(RequestHandler, "connection_made", connection_made)
    async with client_of("eio", ping_interval=25.0, ping_timeout=20.0) as client:
        yield Door(client, led_on)


async def hear(reader: asyncio.StreamReader, size: int) -> bytes:
    return await asyncio.wait_for(reader.readexactly(size), 30)


async def opened(reader: asyncio.StreamReader) -> None:
    """Read the handshake's answer and the first packet."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert head.startswith(SWITCHED)
    _, size = await hear(reader, 2)
    assert (await hear(reader, size)).startswith(b'0{"sid":')


async def test_a_whole_handshake_is_taken_in_at_the_door(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write(WHOLE + text(b"4hello"))  # with a frame along behind it

    await opened(reader)
    assert await hear(reader, 8) == b"\x81\x064hello"
    assert door.led_on == []
    writer.close()


@pytest.mark.parametrize("cut", [1, 20, len(WHOLE) // 2, len(WHOLE) - 1])
async def test_a_handshake_in_pieces_is_taken_in_all_the_same(door: Door, cut: int) -> None:
    reader, writer = await door.connect()
    writer.write(WHOLE[:cut])
    await eventually(lambda: len(door.led_on) == 1)
    writer.write(WHOLE[cut:] + text(b"4hello"))

    await opened(reader)
    assert await hear(reader, 8) == b"\x81\x064hello"
    assert len(door.led_on) == 1
    writer.close()


async def test_a_handshake_after_other_requests_is_taken_in(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    await hear(reader, int(head.partition(b"Content-Length: ")[2].split(b"\r")[0]))
    writer.write(WHOLE)

    await opened(reader)
    writer.close()


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (WHOLE.replace(b"EIO=4", b"EIO=3"), 400),
        (WHOLE.replace(b"transport=websocket", b"transport=websocket&sid=unknown"), 400),
        (WHOLE.replace(b"/engine.io/", b"/elsewhere/"), 404),
        (WHOLE.replace(KEY.encode(), b"Sec-WebSocket-Key: short"), 400),
        (WHOLE.replace(b"Version: 13", b"Version: 12"), 400),
        (WHOLE.replace(b"GET", b"PUT"), 400),
        (WHOLE.replace(b"Host: x", b"Host: x\r\nHost: y"), 400),
        (WHOLE.replace(b"HTTP/1.1", b"HTTP/x"), 400),
    ],
)
async def test_whoever_is_refused_hears_why_from_aiohttp(
    door: Door, asked: bytes, status: int
) -> None:
    reader, writer = await door.connect()
    writer.write(asked)

    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert int(head.split()[1]) == status
    assert len(door.led_on) == 1
    writer.close()


async def test_who_is_silent_when_the_door_closes_is_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accepted = asyncio.Event()
    made = UpgradeAcceptor.connection_made

    def connection_made(self: UpgradeAcceptor, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        accepted.set()

    monkeypatch.setattr(UpgradeAcceptor, "connection_made", connection_made)
    monkeypatch.setattr(serving, "IDLE_TIMEOUT", 3600.0)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of("eio"))
        reader, writer = await Door(client, []).connect()
        await accepted.wait()
        await stack.aclose()

        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()


def sockets() -> web.Application:
    return application(engine_io())


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("make", [web.Application, sockets], ids=["http", "sockets"])
async def test_connection_accepted_during_stop_is_closed(
    make: Callable[[], web.Application], turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`turns` of the loop after the client connected, the server stops."""
    monkeypatch.setattr(serving, "IDLE_TIMEOUT", 3600.0)
    site = serving.Site("site", make(), "127.0.0.1", 0, "PORT")
    async with serving.serve_sites([site]) as addresses:
        address = urlsplit(addresses["site"])
        client = socket.create_connection((address.hostname, address.port))
        client.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)

    with client, contextlib.suppress(ConnectionResetError):
        received = asyncio.get_running_loop().sock_recv(client, 1)
        assert await asyncio.wait_for(received, 30) == b""


@settings(max_examples=300, deadline=None)
@given(
    words=st.binary(max_size=300)
    | st.builds(
        lambda at, other: WHOLE[:at] + other + WHOLE[at:],
        st.integers(0, len(WHOLE)),
        st.binary(max_size=8),
    )
)
def test_nothing_that_is_said_at_the_door_raises(words: bytes) -> None:
    async def read() -> None:
        knock = parse_upgrade(words, Transport())
        assert knock is None or (knock.remote, knock.method) == ("192.0.2.1", "GET")

    asyncio.run(read())


async def test_a_knock_is_read_whole() -> None:
    knock = parse_upgrade(WHOLE + b"early", Transport())

    assert knock is not None
    assert (knock.path, dict(knock.query)) == (
        "/engine.io/",
        {"EIO": "4", "transport": "websocket"},
    )
    assert knock.headers["origin"] == "https://shop.example"
    assert knock.early_data == b"early"
