"""A WebSocket client for load: unfragmented text frames.

The client runs on the same machine as the servers, so it is light: one object per socket and no
task. It offers compression as a browser does, but sends uncompressed messages.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Self, cast

from bench.keepalive import address

MASK = bytes(4)
"""A client must mask frames. This mask does not change the payload, so the client saves the
work. The work of the server is the same."""

FINAL = 0x80
COMPRESSED = 0x40
OPCODE = 0x0F
SYNC = b"\x00\x00\xff\xff"
"""The end of a compressed message, which is not sent (RFC 7692)."""

MASKED = 0x80


class Opcode(IntEnum):
    TEXT = 0x1
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class ProtocolError(Exception):
    """The server sent an unexpected packet or closed the socket."""


class WebSocket(asyncio.Protocol):
    """One socket. A subclass sets `_ready` when the server has accepted it.

    path: of the upgrade request, with its query.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._inflate: zlib._Decompress | None = None
        self._upgraded = False
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport

    async def open(self, url: str) -> Self:
        """Connect to the server at `url`. Raises ProtocolError or OSError."""
        await self._loop.create_connection(lambda: self, *address(url))
        try:
            await self._ready
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Close the socket."""
        if not self._transport.is_closing():
            self._transport.write(_frame(Opcode.CLOSE, b""))
            self._transport.close()

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)
        host, port = transport.get_extra_info("peername")[:2]
        transport.write(UPGRADE % (self._path.encode(), host.encode(), port))

    def connection_lost(self, error: Exception | None) -> None:
        for future in (self._ready, *self._pending()):
            if not future.done():
                future.set_exception(ProtocolError("the server closed the socket"))
        # Mark the exception as retrieved: a caller that timed out does not read it.
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded and not self._upgrade():
            return
        for first, payload in _frames(self._buffer):
            if first & COMPRESSED:
                payload = self._inflated(payload)
            self._receive(first & OPCODE, payload)

    def _upgrade(self) -> bool:
        head, end, _ = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 101"):
            self._fail(f"no upgrade: {head.splitlines()[0].decode()}")
            return False
        del self._buffer[: len(head) + len(end)]
        self._upgraded = True
        return True

    def _inflated(self, payload: bytes) -> bytes:
        """Decompress a message (RFC 7692). Earlier messages are its context."""
        if self._inflate is None:
            self._inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        return self._inflate.decompress(payload + SYNC)

    def _receive(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.TEXT:
            self._on_text(payload.decode())
        elif opcode == Opcode.PING:
            self._transport.write(_frame(Opcode.PONG, payload))
        elif opcode == Opcode.CLOSE:
            self._transport.close()
        else:
            self._fail(f"a frame of opcode {opcode}")

    def _pending(self) -> Iterable[asyncio.Future[Any]]:
        """The futures of answers that have not arrived."""
        return ()

    def _on_text(self, text: str) -> None:
        """Called with each message."""

    def _send(self, text: str) -> None:
        self._transport.write(_frame(Opcode.TEXT, text.encode()))

    def _fail(self, reason: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(ProtocolError(reason))
        self._transport.close()


UPGRADE = (
    b"GET %b HTTP/1.1\r\n"
    b"Host: %b:%d\r\n"
    b"Connection: Upgrade\r\n"
    b"Upgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    b"Sec-WebSocket-Key: c2Nhbi1sb2dpbi1iZW5jaA==\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\n"
    b"Accept-Language: en-GB,en;q=0.5\r\n"
    b"Cache-Control: no-cache\r\n"
    b"Pragma: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"\r\n"
)
"""The headers of a browser, without an Origin."""


def _frame(opcode: Opcode, payload: bytes) -> bytes:
    """One unfragmented frame of at most 64 KB, which is enough for the benchmarks."""
    length = len(payload)
    if length < 126:
        return bytes((FINAL | opcode, MASKED | length)) + MASK + payload
    return struct.pack("!BBH", FINAL | opcode, MASKED | 126, length) + MASK + payload


def _frames(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Remove all complete frames from `buffer`. Returns the first byte and payload of each."""
    frames = []
    start = 0
    while (span := _span(buffer, start)) is not None:
        first, end = span
        frames.append((buffer[start], bytes(buffer[first:end])))
        start = end
    del buffer[:start]
    return frames


def _span(buffer: bytearray, start: int) -> tuple[int, int] | None:
    """Begin and end of the payload of the frame at `start`. None if it is incomplete."""
    available = len(buffer) - start
    if available < 2:
        return None
    length, head = buffer[start + 1], 2
    if length >= 126:
        head = 4 if length == 126 else 10
        if available < head:
            return None
        length = int.from_bytes(buffer[start + 2 : start + head])
    end = start + head + length
    return (start + head, end) if len(buffer) >= end else None
