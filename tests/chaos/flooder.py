"""Eight clients that send as much as the broker accepts, in a separate process.

    python -m tests.chaos.flooder HOST:PORT KIND

They read and discard the answers, and connect again after the broker closes them.
Prints a line when the flood starts.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from broker.infrastructure.transport.websocket import frames

CLIENTS = 8
BLOCK_BYTES = 256 * 1024
"""Size of one write, equal to one read of the broker's event loop."""

RECONNECT_DELAY = 0.05
"""Seconds before a closed client connects again."""

MASK = b"\x12\x34\x56\x78"
SEPARATOR = "\x1e"
EVENT = '42/login,1["nonsense"]'


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A client's frame of less than 126 bytes."""
    head = bytes(((frames.FIN if fin else 0) | opcode, frames.MASKED | len(payload)))
    return head + MASK + frames.unmask(MASK, payload)


def text(payload: str) -> bytes:
    return masked(frames.TEXT, payload.encode())


KINDS = {
    "events": text(EVENT),
    "begins": text('42/login,1["begin",{}]'),
    "unknown namespaces": text("40/nowhere,"),
    "malformed packets": text("4x"),
    "pings": masked(frames.PING),
    "pongs": masked(frames.PONG),
    "empty fragments": masked(frames.CONTINUATION, fin=False),
}
"""A WebSocket frame of each flood.  `polling` is one more kind."""

HANDSHAKE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


async def discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(BLOCK_BYTES):
        continue


async def flood(host: str, port: int, kind: str) -> None:
    """Send over one WebSocket until the broker closes it."""
    reader, writer = await asyncio.open_connection(host, port)
    discarding = asyncio.create_task(discard(reader))
    frame = KINDS[kind]
    try:
        writer.write(HANDSHAKE + text("40/login,"))
        if kind == "empty fragments":
            writer.write(masked(frames.TEXT, b"4", fin=False))
        while not discarding.done():
            writer.write(frame * (BLOCK_BYTES // len(frame)))
            await writer.drain()
    finally:
        writer.close()
        discarding.cancel()


async def post(host: str, port: int, kind: str) -> None:
    """Send full bodies over one polling session until the broker ends it."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        path = "/socket.io/?EIO=4&transport=polling"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = (await reader.readuntil(b'"sid":"')) and await reader.readuntil(b'"')
        session = f"{path}&sid={head[:-1].decode()}"
        await send_body(writer, session, "40/login,")
        discarding = asyncio.create_task(discard(reader))
        body = SEPARATOR.join([EVENT] * (60_000 // len(EVENT)))
        while not discarding.done():
            await send_body(writer, session, body)
            await asyncio.sleep(RECONNECT_DELAY)
        discarding.cancel()
    finally:
        writer.close()


async def send_body(writer: asyncio.StreamWriter, path: str, body: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body.encode())
    await writer.drain()


async def repeat(host: str, port: int, kind: str) -> None:
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            await (post if kind == "polling" else flood)(host, port, kind)
        await asyncio.sleep(RECONNECT_DELAY)


async def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(repeat(host, int(port), sys.argv[2]))
        print("flooding", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
