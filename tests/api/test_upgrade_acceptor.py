"""Tests of the upgrade acceptor: it accepts upgrade requests or forwards them to aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.http import HttpRequestParser
from aiohttp.web_protocol import RequestHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.infrastructure.runtime import server as serving
from broker.infrastructure.transport.websocket.acceptor import (
    TARGET_MAX,
    TARGETS_MAX,
    RequestTarget,
    UpgradeAcceptor,
    UsualTargets,
    parse_upgrade,
)
from tests.support.conformance_peer import application, engine_io
from tests.support.engineio_client import Client, client_of
from tests.support.waiting import eventually
from tests.support.websocket_client import ASKS, KEY, handshake, text

REQUEST = handshake(*ASKS, "Origin: https://shop.example")
SWITCHING_PROTOCOLS = b"HTTP/1.1 101 "


class Transport(asyncio.Transport):
    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.1", 5000) if name == "peername" else default


class AcceptorServer(NamedTuple):
    """A server, and the connections that it has forwarded to aiohttp."""

    client: Client
    forwarded: list[RequestHandler]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = urlsplit(str(self.client.http._base_url))
        return await asyncio.open_connection(address.hostname, address.port)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AcceptorServer]:
    forwarded: list[RequestHandler] = []
    original = RequestHandler.connection_made

    def connection_made(self: RequestHandler, transport: asyncio.BaseTransport) -> None:
        forwarded.append(self)
        original(self, transport)

    monkeypatch.setattr(RequestHandler, "connection_made", connection_made)
    async with client_of("eio", ping_interval=25.0, ping_timeout=20.0) as client:
        yield AcceptorServer(client, forwarded)


async def read(reader: asyncio.StreamReader, size: int) -> bytes:
    return await asyncio.wait_for(reader.readexactly(size), 30)


async def read_open_packet(reader: asyncio.StreamReader) -> None:
    """Read the response to the handshake and the first packet."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert head.startswith(SWITCHING_PROTOCOLS)
    _, size = await read(reader, 2)
    assert (await read(reader, size)).startswith(b'0{"sid":')


async def test_complete_upgrade_request_is_accepted_without_aiohttp(server: AcceptorServer) -> None:
    reader, writer = await server.connect()
    writer.write(REQUEST + text(b"4hello"))  # a frame follows in the same write

    await read_open_packet(reader)
    assert await read(reader, 8) == b"\x81\x064hello"
    assert server.forwarded == []
    writer.close()


@pytest.mark.parametrize("cut", [1, 20, len(REQUEST) // 2, len(REQUEST) - 1])
async def test_upgrade_request_in_pieces_is_accepted_through_aiohttp(
    server: AcceptorServer, cut: int
) -> None:
    reader, writer = await server.connect()
    writer.write(REQUEST[:cut])
    await eventually(lambda: len(server.forwarded) == 1)
    writer.write(REQUEST[cut:] + text(b"4hello"))

    await read_open_packet(reader)
    assert await read(reader, 8) == b"\x81\x064hello"
    assert len(server.forwarded) == 1
    writer.close()


async def test_upgrade_request_after_another_request_is_accepted(server: AcceptorServer) -> None:
    reader, writer = await server.connect()
    writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    await read(reader, int(head.partition(b"Content-Length: ")[2].split(b"\r")[0]))
    writer.write(REQUEST)

    await read_open_packet(reader)
    writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (REQUEST.replace(b"EIO=4", b"EIO=3"), 400),
        (REQUEST.replace(b"transport=websocket", b"transport=websocket&sid=unknown"), 400),
        (REQUEST.replace(b"/engine.io/", b"/elsewhere/"), 404),
        (REQUEST.replace(KEY.encode(), b"Sec-WebSocket-Key: short"), 400),
        (REQUEST.replace(b"Version: 13", b"Version: 12"), 400),
        (REQUEST.replace(b"GET", b"PUT"), 400),
        (REQUEST.replace(b"Host: x", b"Host: x\r\nHost: y"), 400),
        (REQUEST.replace(b"HTTP/1.1", b"HTTP/x"), 400),
    ],
)
async def test_invalid_upgrade_request_is_answered_by_aiohttp(
    server: AcceptorServer, sent: bytes, status: int
) -> None:
    reader, writer = await server.connect()
    writer.write(sent)

    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert int(head.split()[1]) == status
    assert len(server.forwarded) == 1
    writer.close()


async def test_idle_connection_is_closed_when_the_server_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accepted = asyncio.Event()
    original = UpgradeAcceptor.connection_made

    def connection_made(self: UpgradeAcceptor, transport: asyncio.BaseTransport) -> None:
        original(self, transport)
        accepted.set()

    monkeypatch.setattr(UpgradeAcceptor, "connection_made", connection_made)
    monkeypatch.setattr(serving, "IDLE_TIMEOUT", 3600.0)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of("eio"))
        reader, writer = await AcceptorServer(client, []).connect()
        await accepted.wait()
        await stack.aclose()

        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()


def socket_application() -> web.Application:
    return application(engine_io())


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("make", [web.Application, socket_application], ids=["http", "sockets"])
async def test_connection_accepted_during_stop_is_closed(
    make: Callable[[], web.Application], turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stops `turns` iterations of the loop after the client connects."""
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
    data=st.binary(max_size=300)
    | st.builds(
        lambda at, other: REQUEST[:at] + other + REQUEST[at:],
        st.integers(0, len(REQUEST)),
        st.binary(max_size=8),
    )
)
def test_parser_raises_on_no_input(data: bytes) -> None:
    async def parse() -> None:
        request = parse_upgrade(data, Transport())
        assert request is None or (request.remote, request.method) == ("192.0.2.1", "GET")

    asyncio.run(parse())


async def test_upgrade_request_is_parsed_completely() -> None:
    request = parse_upgrade(REQUEST + b"early", Transport())

    assert request is not None
    assert (request.path, dict(request.query)) == (
        "/engine.io/",
        {"EIO": "4", "transport": "websocket"},
    )
    assert request.headers["origin"] == "https://shop.example"
    assert request.early_data == b"early"


def target_of(targets: UsualTargets, text: str) -> RequestTarget:
    parser = HttpRequestParser(None, None, 8190)
    [(message, _)], *_ = parser.feed_data(f"GET {text} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return targets.parse(message)


def test_target_is_parsed_as_by_aiohttp() -> None:
    targets = UsualTargets()

    for _ in range(2):
        assert target_of(targets, "/a%20b/?x=1&y=%C3%A9") == ("/a b/", {"x": "1", "y": "é"})
        assert target_of(targets, "/a%20b/?x=2") == ("/a b/", {"x": "2"})


@pytest.mark.parametrize("text", ["/engine.io/?sid=secret", f"/?x={'x' * TARGET_MAX}"])
def test_long_and_secret_targets_are_not_kept(text: str) -> None:
    targets = UsualTargets()

    target_of(targets, text)

    assert len(targets) == 0


def test_number_of_kept_targets_is_limited() -> None:
    targets = UsualTargets()

    for number in range(3 * TARGETS_MAX):
        target_of(targets, f"/?x={number}")

    assert 0 < len(targets) <= TARGETS_MAX
