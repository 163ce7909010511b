"""WebSocket frames and handshakes as bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from broker.infrastructure.transport.step_queue import StepQueue
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.closing import ClosingTransports
from broker.infrastructure.transport.websocket.connection import CloseReason
from broker.infrastructure.transport.websocket.frames import Message
from tests.support.engineio_client import Client

LONGEST = 64 * 1024

MASK = b"\x12\x34\x56\x78"


def masked(
    first: int, payload: bytes = b"", *, length: int | None = None, mask: bool = True
) -> bytes:
    """Return a frame of a client.

    first: its first byte.
    length: the length in the header, if it differs from that of the payload.
    """
    size = len(payload) if length is None else length
    bit = frames.MASKED if mask else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 1 << 16:
        head = bytes((first, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8, "big")
    return head + MASK + frames.unmask(MASK, payload) if mask else head + payload


def text(payload: bytes, *, fin: bool = True) -> bytes:
    return masked((frames.FIN if fin else 0) | frames.TEXT, payload)


def more(payload: bytes, *, fin: bool = True) -> bytes:
    return masked((frames.FIN if fin else 0) | frames.CONTINUATION, payload)


class Transport:
    """A transport that records written data; its socket accepts every option."""

    def __init__(self) -> None:
        self.written = b""
        self.writes = 0
        self.open = True

    def get_extra_info(self, name: str) -> Any:
        return self

    def setsockopt(self, *option: int) -> None: ...

    def set_protocol(self, protocol: asyncio.Protocol) -> None: ...

    def write(self, data: bytes) -> None:
        self.written += data
        self.writes += 1

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return not self.open

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        self.open = False

    abort = close


class RecordingHandler:
    """Records messages and close reasons of connections."""

    def __init__(self) -> None:
        self.max_message_bytes = LONGEST
        self.steps = StepQueue()
        self.closing = ClosingTransports()
        self.messages: list[Message] = []
        self.closed: list[CloseReason] = []

    def on_frames(self, connection: object, count: int) -> bool:
        return True

    def on_message(self, connection: object, message: Message) -> None:
        self.messages.append(message)

    def on_closed(self, connection: object, reason: CloseReason) -> None:
        self.closed.append(reason)


def read_sent(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the frames of a server; checks that they are complete and not masked."""
    while data:
        assert data[1] <= 126
        start = 2 if data[1] < 126 else 4
        size = data[1] if start == 2 else int.from_bytes(data[2:4], "big")
        yield data[0] & frames.OPCODE, data[start : start + size]
        data = data[start + size :]


def raw_transport(ws: aiohttp.ClientWebSocketResponse) -> asyncio.Transport:
    connection = ws._response.connection
    assert connection is not None
    assert connection.transport is not None
    return connection.transport


KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="

VERSION = "Sec-WebSocket-Version: 13"

ASKS = ["Host: x", "Connection: Upgrade", "Upgrade: websocket", KEY, VERSION]


class Wire:
    """A raw TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.write = writer.write
        self.close = writer.close

    @classmethod
    async def to(cls, url: str) -> Wire:
        address = urlsplit(url)
        return cls(*await asyncio.open_connection(address.hostname, address.port))

    async def answer(self) -> int:
        """Return the status of an answer. The next call skips its body."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)
        return int(re.findall(rb"HTTP/1\.[01] (\d+)", head)[0])

    async def frame(self) -> bytes:
        """Return the payload of a short frame."""
        head = await asyncio.wait_for(self._reader.readexactly(2), 30)
        return await self._reader.readexactly(head[1])

    async def ends(self) -> bool:
        try:
            await asyncio.wait_for(self._reader.read(), 30)
        except ConnectionError:
            return True
        finally:
            self.close()
        return True


def handshake(*headers: str) -> bytes:
    path = "/engine.io/?EIO=4&transport=websocket"
    return "\r\n".join([f"GET {path} HTTP/1.1", *headers, "", ""]).encode()


def url_of(client: Client) -> str:
    return str(client.http._base_url)
