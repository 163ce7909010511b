"""Long reads are parsed in slices, so that one client does not block the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp

from broker.infrastructure.runtime.http_runner import SLICE_BYTES
from tests.support.builders import RunningBroker

CHUNKS = b"1\r\na\r\n" * 40_000
"""240 KB, which aiohttp would parse in one iteration of the event loop."""

HEAD = (
    b"POST /phone/session HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


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


async def test_pipelined_requests_of_several_slices_are_all_answered(broker: RunningBroker) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: broker\r\n\r\n"
    count = 3 * SLICE_BYTES // len(request)
    async with connected(broker) as (reader, writer):
        writer.write(request * count)
        async with asyncio.timeout(60):
            for _ in range(count):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
                await reader.readexactly(length)


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


def _sid(text: str) -> str:
    return text.partition('"sid":"')[2].partition('"')[0]
