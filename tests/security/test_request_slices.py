"""Long reads are parsed in slices, so that one client does not block the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web_protocol
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser

from broker.infrastructure.runtime.http_runner import SLICE_BYTES
from broker.infrastructure.transport.step_queue import StepQueue
from broker.infrastructure.transport.websocket import acceptor
from tests.support.builders import RunningBroker
from tests.support.websocket_client import ASKS, handshake, text

CHUNKS = b"1\r\na\r\n" * 40_000
"""240 KB, which aiohttp would parse in one iteration of the event loop."""

HEAD = (
    b"POST /phone/session HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: broker\r\n\r\n"

LAST_REQUEST = REQUEST.replace(b"Host", b"Connection: close\r\nHost")

CHUNKED_REQUEST = REQUEST.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost")

DECLINED_UPGRADE = REQUEST.replace(b"Host", b"Connection: upgrade\r\nUpgrade: websocket\r\nHost")
"""It is answered as a plain request."""

FIRST_WRITES = {
    "requests": REQUEST * 4_000,
    "chunks": CHUNKED_REQUEST + CHUNKS,
    "requests after an upgrade": DECLINED_UPGRADE + REQUEST * 4_000,
    "chunks after an upgrade": DECLINED_UPGRADE + CHUNKED_REQUEST + CHUNKS,
}
"""Long first writes of a connection."""


class Feed(NamedTuple):
    """Data that a parser of aiohttp gets at a time.  is_early: aiohttp has paused."""

    size: int
    is_early: bool


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> list[Feed]:
    """The feeds of all parsers in servers of this process."""
    feeds: list[Feed] = []

    class Parser(HttpRequestParser):
        def __init__(self, protocol: BaseProtocol, *arguments: Any, **options: Any) -> None:
            super().__init__(protocol, *arguments, **options)
            self.owner = protocol

        def feed_data(self, data: bytes, *arguments: Any, **options: Any) -> Any:
            has_paused = self.owner._reading_paused or self.owner._buffer_paused
            feeds.append(Feed(len(data), is_early=bool(data) and has_paused))
            return super().feed_data(data, *arguments, **options)

    for module in (acceptor, web_protocol):
        monkeypatch.setattr(module, "HttpRequestParser", Parser)
    return feeds


@asynccontextmanager
async def connected(
    broker: RunningBroker,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(broker.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_body_of_several_slices_is_read_whole(broker: RunningBroker) -> None:
    body = {"app": "default", "js_code": "pretend:alice", "padding": "x" * 5 * SLICE_BYTES}
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.post("/phone/session", json=body) as response,
    ):
        assert response.status == 200


async def test_pipelined_requests_of_several_slices_are_all_answered(
    broker: RunningBroker, feeds: list[Feed]
) -> None:
    count = 3 * SLICE_BYTES // len(REQUEST)
    async with connected(broker) as (reader, writer):
        writer.write(REQUEST * count)
        async with asyncio.timeout(60):
            for _ in range(count):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
                await reader.readexactly(length)
    assert not any(feed.is_early for feed in feeds)


async def test_tiny_chunks_of_eight_clients_let_health_answer(
    broker: RunningBroker, received: bytearray
) -> None:
    async with aiohttp.ClientSession(broker.url) as http:
        async with http.get("/health/live") as response:
            assert response.status == 200
        writers = []
        for _ in range(8):
            address = urlsplit(broker.url)
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            writers.append(writer)
            writer.write(HEAD + CHUNKS)
        before = len(received)

        async with http.get("/health/live") as response:
            assert response.status == 200
        parsed = len(received) - before

        for writer in writers:
            writer.close()
    assert parsed <= 160 * 1024  # whole reads would be twice as much


async def test_early_websocket_frames_of_several_slices_are_kept(broker: RunningBroker) -> None:
    """A client may send frames with its handshake when it upgrades a polling session."""
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.get("/socket.io/?EIO=4&transport=polling") as response,
    ):
        sid = _sid(await response.text())
    async with connected(broker) as (reader, writer):
        padding = b"X-Padding: " + b"x" * (SLICE_BYTES - 600) + b"\r\n"
        writer.write(
            f"GET /socket.io/?EIO=4&transport=websocket&sid={sid} HTTP/1.1\r\n".encode()
            + b"Host: broker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            + padding
            + b"\r\n"
            + b"\x8a\x80\x00\x00\x00\x00" * 200  # pongs, which need no answer
            + b"\x81\x86\x00\x00\x00\x002probe"
        )
        async with asyncio.timeout(60):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(8) == b"\x81\x063probe"


@pytest.mark.parametrize("first_write", FIRST_WRITES)
async def test_first_read_is_parsed_in_slices(
    broker: RunningBroker, feeds: list[Feed], first_write: str
) -> None:
    async with connected(broker) as (reader, writer):
        writer.write(FIRST_WRITES[first_write])
        async with asyncio.timeout(60):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    assert max(feed.size for feed in feeds) <= SLICE_BYTES
    assert not any(feed.is_early for feed in feeds)


async def test_requests_after_a_declined_upgrade_are_answered(broker: RunningBroker) -> None:
    async with connected(broker) as (reader, writer):
        writer.write(DECLINED_UPGRADE + REQUEST * 1_000 + LAST_REQUEST)
        async with asyncio.timeout(60):
            answers = await reader.read(-1)

    assert answers.count(b"HTTP/1.1 200 ") == 1_002


@pytest.mark.parametrize("before", [REQUEST, DECLINED_UPGRADE])
async def test_upgrade_after_another_request_keeps_early_frames(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    monkeypatch.setattr(StepQueue, "add", add_last)
    upgrade = handshake(*ASKS).replace(b"/engine.io/", b"/socket.io/")
    frame = text(b'40/login,{"padding":"%b"}' % (b"x" * 3 * SLICE_BYTES))
    async with connected(broker) as (reader, writer):
        writer.write(before + upgrade + frame)
        async with asyncio.timeout(60):
            await reader.readuntil(b"40/login,")


def add_last(queue: StepQueue, step: Callable[[], None]) -> None:
    """Add a step to a queue that contains the steps of many others."""
    run_after(1_000, step)


def run_after(turns: int, step: Callable[[], None]) -> None:
    """Run a step after `turns` turns of the loop."""
    if turns:
        asyncio.get_running_loop().call_soon(run_after, turns - 1, step)
    else:
        step()


async def test_plain_request_is_parsed_once(broker: RunningBroker, feeds: list[Feed]) -> None:
    async with connected(broker) as (reader, writer):
        writer.write(REQUEST)
        async with asyncio.timeout(60):
            await reader.readuntil(b"\r\n\r\n")

    assert [feed.size for feed in feeds] == [len(REQUEST)]


def _sid(text: str) -> str:
    return text.partition('"sid":"')[2].partition('"')[0]
