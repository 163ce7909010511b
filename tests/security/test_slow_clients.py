"""Slow connections time out with bounded memory, and malformed handshakes are refused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from urllib.parse import urlsplit

import aiohttp
import pytest

from broker.infrastructure.runtime import server as serving
from broker.infrastructure.transport import bodies
from broker.infrastructure.transport.websocket import connection, frames
from tests.support.builders import StartBroker
from tests.support.engineio_client import Client, client_of
from tests.support.loop_clock import LoopClock
from tests.support.waiting import eventually
from tests.support.websocket_client import ASKS, KEY, VERSION, Wire, handshake, masked, text, url_of


@pytest.fixture
async def echo() -> AsyncIterator[Client]:
    """An echo server whose heartbeat never closes a session, also when the clock moves."""
    async with client_of("eio", ping_interval=3600.0, ping_timeout=20.0) as client:
        yield client


# ---- idle connections ----


async def test_idle_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "IDLE_TIMEOUT", 0.3)
    async with client_of("eio") as client:
        wire = await Wire.to(url_of(client))

        assert await wire.ends()


async def test_slow_headers_close_connection(
    echo: Client, received: bytearray, loop_clock: LoopClock
) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(b"GET / HTTP/1.1\r\n")
    for number in range(10):
        wire.write(b"X-Slow: %d\r\n" % number)
        await eventually(partial(received.endswith, b"X-Slow: %d\r\n" % number))
        await loop_clock.move(serving.IDLE_TIMEOUT / 9.5)

    assert await wire.ends()


async def test_slow_second_request_closes_connection(
    echo: Client, received: bytearray, loop_clock: LoopClock
) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await wire.answer() == 404
    wire.write(b"GET / HTTP/1.1\r\nX-Slow: ")
    await eventually(lambda: received.endswith(b"X-Slow: "))

    await loop_clock.move(serving.IDLE_TIMEOUT + 1)

    assert await wire.ends()


async def test_waiting_poll_and_websocket_are_not_idle(echo: Client, loop_clock: LoopClock) -> None:
    sid = await echo.open()
    poll = await echo.start_poll(sid)
    async with echo.opened() as ws:
        await loop_clock.move(2 * serving.IDLE_TIMEOUT)
        await ws.send_str("4hello")
        assert await ws.receive_str() == "4hello"

    await echo.post(sid, "4you")
    assert await poll == (200, "4you")


@pytest.mark.parametrize("engine", ["own", "stock"])
async def test_slow_body_is_refused(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.2)
    broker = await start_broker(engine=engine)
    async with aiohttp.ClientSession(broker.url) as http:
        client = Client(http, None, "/socket.io/")
        sid = await client.open()
        for path, kind in [
            ("/phone/session", "application/json"),
            ("/oauth/token", "application/x-www-form-urlencoded"),
            (client.query("polling", sid), "text/plain"),
        ]:
            slow = await Wire.to(broker.url)
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
            slow.write(f"{head}Content-Length: 20\r\n\r\n4".encode())

            assert await slow.answer() == 400
            slow.close()

        assert (await client.poll(sid))[0] == 400


# ---- clients that do not read ----


@pytest.mark.parametrize(
    "data_sent",
    [text(b"4" + b"x" * 2000), text(b"4x") * 100, masked(0x80 | frames.PING, b"x" * 125) * 16],
    ids=["large", "small", "pings"],
)
async def test_client_that_does_not_read_is_closed(echo: Client, data_sent: bytes) -> None:
    """The backlog of the server is bounded until then."""
    with socket.socket() as raw:
        raw.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 1
        )  # the kernel raises it to its minimum
        address = urlsplit(url_of(echo))
        raw.connect((address.hostname, address.port))
        raw.sendall(handshake(*ASKS))
        raw.setblocking(False)
        most = 0
        while await send_some(raw, data_sent):
            most = max(most, *map(backlog_of, echo.server.sockets.values()), 0)

    assert most <= connection.BACKLOG_BYTES + 1024 * 1024
    assert echo.server.sockets == {}


async def send_some(raw: socket.socket, data: bytes) -> bool:
    """Send what the kernel accepts, and return whether the connection is open."""
    try:
        async with asyncio.timeout(30):
            await asyncio.get_running_loop().sock_sendall(raw, data)
    except TimeoutError:
        return True
    except ConnectionError:
        return False
    await asyncio.sleep(0)
    return True


def backlog_of(socket_: connection.WebSocketConnection) -> int:
    size: int = socket_._transport.get_write_buffer_size()
    return size


# ---- handshakes ----


async def test_handshake_is_answered(echo: Client) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(handshake(*ASKS))

    assert await wire.answer() == 101
    assert (await wire.frame())[:1] == b"0"
    wire.close()


@pytest.mark.parametrize("twice", [header for header in ASKS if not header.startswith("Conn")])
async def test_duplicate_handshake_header_is_refused(echo: Client, twice: str) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(handshake(*ASKS, twice))

    assert await wire.answer() == 400
    wire.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header != KEY,
        lambda header: header != VERSION,
        lambda header: not header.startswith("Upgrade"),
        lambda header: not header.startswith("Connection"),
    ],
)
async def test_missing_handshake_header_is_refused(
    echo: Client, change: Callable[[str], bool]
) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(handshake(*filter(change, ASKS)))

    assert await wire.answer() == 400
    wire.close()


@pytest.mark.parametrize(
    "other",
    [
        "Sec-WebSocket-Key: short",
        "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==",
        "Sec-WebSocket-Version: 12",
        "Upgrade: h2c",
        "Connection: keep-alive",
    ],
)
async def test_invalid_handshake_header_is_refused(echo: Client, other: str) -> None:
    name = other.partition(":")[0]
    wire = await Wire.to(url_of(echo))
    wire.write(handshake(*(other if header.startswith(name + ":") else header for header in ASKS)))

    assert await wire.answer() == 400
    wire.close()


async def test_keep_alive_connection_can_become_websocket(
    echo: Client, loop_clock: LoopClock
) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(b"HEAD /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await wire.answer() == 404

    wire.write(handshake(*ASKS))

    assert await wire.answer() == 101
    assert (await wire.frame())[:1] == b"0"
    await loop_clock.move(2 * serving.IDLE_TIMEOUT)  # the idle timeout does not apply
    wire.write(text(b"4hello"))
    assert await wire.frame() == b"4hello"
    wire.close()


@pytest.mark.parametrize("cut", [0, 1, 5, 12, 17])
async def test_frames_sent_with_handshake_are_handled(echo: Client, cut: int) -> None:
    first = text(b"4one") + text(b"4two")
    wire = await Wire.to(url_of(echo))
    wire.write(handshake(*ASKS) + first[:cut])
    assert await wire.answer() == 101
    assert (await wire.frame())[:1] == b"0"

    wire.write(first[cut:] + text(b"4three"))

    assert [await wire.frame() for _ in range(3)] == [b"4one", b"4two", b"4three"]
    wire.close()


async def test_invalid_frame_sent_with_handshake_closes_connection(echo: Client) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(handshake(*ASKS) + masked(0x83))

    assert await wire.answer() == 101
    await wire.frame()
    assert await wire.frame() == frames.PROTOCOL_ERROR.to_bytes(2, "big")
    assert await wire.ends()
