"""Who is slow or says the same thing twice: connections end in time, and hold little till then."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import aiohttp
import pytest

from broker.infrastructure.api import bodies as wire
from broker.infrastructure.runtime import server as serving
from broker.infrastructure.transport.engineio import bodies
from broker.infrastructure.transport.websocket import connection, frames
from tests.support.builders import StartBroker
from tests.support.engineio_client import Client, client_of
from tests.support.loop_clock import LoopClock
from tests.support.waiting import eventually
from tests.support.websocket_client import ASKS, KEY, VERSION, Wire, handshake, masked, text, url_of


@pytest.fixture
async def echo() -> AsyncIterator[Client]:
    """Its heartbeat is too slow to be what closes a session, also when the clock is moved."""
    async with client_of("eio", ping_interval=3600.0, ping_timeout=20.0) as client:
        yield client


# ---- connections that say too little ----


async def test_a_connection_that_says_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "IDLE_TIMEOUT", 0.3)
    async with client_of("eio") as client:
        wire = await Wire.to(url_of(client))

        assert await wire.ends()


async def test_headers_that_trickle_in_close_their_connection(
    echo: Client, received: bytearray, loop_clock: LoopClock
) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(b"GET / HTTP/1.1\r\n")
    for number in range(10):
        wire.write(b"X-Slow: %d\r\n" % number)
        await eventually(lambda number=number: received.endswith(b"X-Slow: %d\r\n" % number))
        await loop_clock.move(serving.IDLE_TIMEOUT / 9.5)

    assert await wire.ends()


async def test_a_second_request_that_trickles_in_closes_its_connection(
    echo: Client, received: bytearray, loop_clock: LoopClock
) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await wire.answer() == 404
    wire.write(b"GET / HTTP/1.1\r\nX-Slow: ")
    await eventually(lambda: received.endswith(b"X-Slow: "))

    await loop_clock.move(serving.IDLE_TIMEOUT + 1)

    assert await wire.ends()


async def test_a_poll_that_waits_and_a_websocket_are_not_quiet(
    echo: Client, loop_clock: LoopClock
) -> None:
    sid = await echo.open()
    poll = await echo.start_poll(sid)
    async with echo.opened() as ws:
        await loop_clock.move(2 * serving.IDLE_TIMEOUT)
        await ws.send_str("4hello")
        assert await ws.receive_str() == "4hello"

    await echo.post(sid, "4you")
    assert await poll == (200, "4you")


@pytest.mark.parametrize("engine", ["own", "stock"])
async def test_a_body_that_trickles_in_is_refused(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    for module in (wire, bodies):
        monkeypatch.setattr(module, "BODY_TIMEOUT", 0.2)
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


# ---- readers that do not read ----


@pytest.mark.parametrize(
    "sent",
    [text(b"4" + b"x" * 2000), text(b"4x") * 100, masked(0x80 | frames.PING, b"x" * 125) * 16],
    ids=["large", "small", "pings"],
)
async def test_a_reader_that_does_not_read_is_dropped(echo: Client, sent: bytes) -> None:
    """And what the server held for it till then is bounded."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel makes it its minimum
        address = urlsplit(url_of(echo))
        raw.connect((address.hostname, address.port))
        raw.sendall(handshake(*ASKS))
        raw.setblocking(False)
        most = 0
        while await send_some(raw, sent):
            most = max(most, *map(held, echo.server.sockets.values()), 0)

    assert most <= connection.BACKLOG_BYTES + 1024 * 1024
    assert echo.server.sockets == {}


async def send_some(raw: socket.socket, data: bytes) -> bool:
    """Send what the kernel takes; whether there still is somebody to send to."""
    try:
        async with asyncio.timeout(30):
            await asyncio.get_running_loop().sock_sendall(raw, data)
    except TimeoutError:
        return True
    except ConnectionError:
        return False
    await asyncio.sleep(0)
    return True


def held(one: connection.WebSocketConnection) -> int:
    size: int = one._transport.get_write_buffer_size()
    return size


# ---- handshakes ----


async def test_a_handshake_is_answered(echo: Client) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(handshake(*ASKS))

    assert await wire.answer() == 101
    assert (await wire.frame())[:1] == b"0"
    wire.close()


@pytest.mark.parametrize("twice", [header for header in ASKS if not header.startswith("Conn")])
async def test_a_header_that_comes_twice_is_refused(echo: Client, twice: str) -> None:
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
async def test_a_header_that_lacks_is_missed(echo: Client, change: Callable[[str], bool]) -> None:
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
async def test_a_header_that_says_something_else_is_refused(echo: Client, other: str) -> None:
    name = other.partition(":")[0]
    wire = await Wire.to(url_of(echo))
    wire.write(handshake(*(other if asked.startswith(name + ":") else asked for asked in ASKS)))

    assert await wire.answer() == 400
    wire.close()


async def test_a_connection_that_is_kept_alive_may_become_a_websocket(
    echo: Client, loop_clock: LoopClock
) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(b"HEAD /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await wire.answer() == 404

    wire.write(handshake(*ASKS))

    assert await wire.answer() == 101
    assert (await wire.frame())[:1] == b"0"
    await loop_clock.move(2 * serving.IDLE_TIMEOUT)  # and is not closed as a quiet one
    wire.write(text(b"4hello"))
    assert await wire.frame() == b"4hello"
    wire.close()


@pytest.mark.parametrize("cut", [0, 1, 5, 12, 17])
async def test_frames_may_come_with_the_handshake(echo: Client, cut: int) -> None:
    first = text(b"4one") + text(b"4two")
    wire = await Wire.to(url_of(echo))
    wire.write(handshake(*ASKS) + first[:cut])
    assert await wire.answer() == 101
    assert (await wire.frame())[:1] == b"0"

    wire.write(first[cut:] + text(b"4three"))

    assert [await wire.frame() for _ in range(3)] == [b"4one", b"4two", b"4three"]
    wire.close()


async def test_a_frame_that_comes_with_the_handshake_is_judged_too(echo: Client) -> None:
    wire = await Wire.to(url_of(echo))
    wire.write(handshake(*ASKS) + masked(0x83))

    assert await wire.answer() == 101
    await wire.frame()
    assert await wire.frame() == frames.PROTOCOL_ERROR.to_bytes(2, "big")
    assert await wire.ends()
