"""A Socket.IO client for load: one WebSocket, one namespace, no reconnect.

The client runs on the same machine as the servers, so it is light: one object per
socket, no task, and its frame codec. It supports only the packets that a server
sends to such a client: Engine.IO 4 and Socket.IO 5 in unfragmented text frames. It
offers compression as a browser does, but sends uncompressed messages.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
import time
import zlib
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Self, cast

from bench.keepalive import address
from bench.targets import Pings

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


EventHandler = Callable[[str, Any, float], None]
"""Called with the name of an event, its payload and the time.perf_counter() of its arrival."""


class Client(asyncio.Protocol):
    """One socket in one namespace. `on_event` gets the events of the server."""

    def __init__(self, *, namespace: str, auth: str, on_event: EventHandler) -> None:
        self._prefix = "" if namespace == "/" else f"{namespace},"
        self._auth = auth
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._inflate: zlib._Decompress | None = None
        self._upgraded = False
        self._next_id = 0
        self._joined: asyncio.Future[None] = self._loop.create_future()
        self._acks: dict[int, asyncio.Future[Any]] = {}
        self._transport: asyncio.Transport
        self._ping_interval = 0.0
        self._ping_due = math.inf
        self._pings = Pings(0, 0.0)

    @classmethod
    async def join(cls, url: str, *, namespace: str, auth: str, on_event: EventHandler) -> Self:
        """Connect to the server at `url` and join `namespace` with `auth`, which is JSON.

        Raises ProtocolError or OSError.
        """
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: cls(namespace=namespace, auth=auth, on_event=on_event), *address(url)
        )
        try:
            await client._joined
        except BaseException:
            client.close()
            raise
        return client

    async def call(self, event: str, payload: str) -> Any:
        """Emit an event with `payload`, which is JSON, and wait for its acknowledgement."""
        self._next_id += 1
        answer = self._acks[self._next_id] = self._loop.create_future()
        self._send(f'42{self._prefix}{self._next_id}["{event}",{payload}]')
        return await answer

    def close(self) -> None:
        """Disconnect and close, as a browser does when its page closes."""
        self._on_event = _ignore_event
        if not self._transport.is_closing():
            self._send(f"41{self._prefix}")
            self._transport.write(_frame(Opcode.CLOSE, b""))
            self._transport.close()

    def drop(self) -> None:
        """Close the TCP connection without a close frame, as after a network failure."""
        self._on_event = _ignore_event
        self._transport.abort()

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    @property
    def pings(self) -> Pings:
        received, delay = self._pings
        return Pings(received, max(delay, time.perf_counter() - self._ping_due))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)
        host, port = transport.get_extra_info("peername")[:2]
        transport.write(UPGRADE % (host.encode(), port))

    def connection_lost(self, error: Exception | None) -> None:
        for future in (self._joined, *self._acks.values()):
            if not future.done():
                future.set_exception(ProtocolError("the server closed the socket"))
        # Mark the exception as retrieved: a caller that timed out does not read it.
        if self._joined.done() and not self._joined.cancelled():
            self._joined.exception()

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
            self._packet(payload.decode())
        elif opcode == Opcode.PING:
            self._transport.write(_frame(Opcode.PONG, payload))
        elif opcode == Opcode.CLOSE:
            self._transport.close()
        else:
            self._fail(f"a frame of opcode {opcode}")

    def _packet(self, packet: str) -> None:
        if packet == "2":
            self._pings = self.pings._replace(received=self._pings.received + 1)
            self._expect_ping()
            self._send("3")
        elif packet.startswith("0"):
            self._ping_interval = json.loads(packet[1:])["pingInterval"] / 1000
            self._expect_ping()
            self._send(f"40{self._prefix}{self._auth}")
        elif packet[:2] in ("40", "42", "43"):
            body = packet[2:].removeprefix(self._prefix)
            {"0": self._join, "2": self._event, "3": self._ack}[packet[1]](body)
        elif packet.startswith(("1", "41", "44")):
            self._fail(f"refused: {packet}")

    def _expect_ping(self) -> None:
        self._ping_due = time.perf_counter() + self._ping_interval

    def _join(self, body: str) -> None:
        self._joined.set_result(None)

    def _event(self, body: str) -> None:
        event, *arguments = json.loads(body)
        self._on_event(event, arguments[0] if arguments else None, time.perf_counter())

    def _ack(self, body: str) -> None:
        number, _, arguments = body.partition("[")
        future = self._acks.pop(int(number))
        if not future.done():
            future.set_result(json.loads(f"[{arguments}")[0])

    def _send(self, packet: str) -> None:
        self._transport.write(_frame(Opcode.TEXT, packet.encode()))

    def _fail(self, reason: str) -> None:
        if not self._joined.done():
            self._joined.set_exception(ProtocolError(reason))
        self._transport.close()


UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
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
    """One unfragmented frame of at most 64 KB, which is enough for a login."""
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


def _ignore_event(event: str, payload: Any, at: float) -> None:
    """The event handler of a closed socket."""
