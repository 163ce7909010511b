"""A Socket.IO client for load: one websocket, one namespace, no reconnecting.

It shares the machine with what it measures, so it does no more than it must:
one object a socket, no task, and frames of its own making.  It understands
what a server sends to such a client and nothing else: Engine.IO 4 and
Socket.IO 5 in text frames that are whole.  Like a browser it offers compression,
which a server may take up; it compresses nothing itself.
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
"""A client must mask.  This mask changes nothing, costs us nothing, and a server
unmasks it as it would any other."""

FINAL = 0x80
COMPRESSED = 0x40
OPCODE = 0x0F
SYNC = b"\x00\x00\xff\xff"
"""What ends a compressed message, and is not sent."""

MASKED = 0x80


class Opcode(IntEnum):
    TEXT = 0x1
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class Broken(Exception):
    """The server said something that was not expected, or went away."""


Heard = Callable[[str, Any, float], None]
"""Called with an event's name, its payload, and time.perf_counter() when it came in."""


class Client(asyncio.Protocol):
    """One socket in one namespace; `heard` gets what the server says unasked."""

    def __init__(self, *, namespace: str, auth: str, heard: Heard) -> None:
        self._prefix = "" if namespace == "/" else f"{namespace},"
        self._auth = auth
        self._heard = heard
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
    async def join(cls, url: str, *, namespace: str, auth: str, heard: Heard) -> Self:
        """Connect to the server at `url` and join `namespace` with `auth`, which is JSON.

        Raises Broken or OSError.
        """
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: cls(namespace=namespace, auth=auth, heard=heard), *address(url)
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
        """Leave as a browser does whose page is closed."""
        self._heard = _deaf
        if not self._transport.is_closing():
            self._send(f"41{self._prefix}")
            self._transport.write(_frame(Opcode.CLOSE, b""))
            self._transport.close()

    def drop(self) -> None:
        """Be gone as a browser is whose network is."""
        self._heard = _deaf
        self._transport.abort()

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    @property
    def pings(self) -> Pings:
        heard, late = self._pings
        return Pings(heard, max(late, time.perf_counter() - self._ping_due))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)
        host, port = transport.get_extra_info("peername")[:2]
        transport.write(UPGRADE % (host.encode(), port))

    def connection_lost(self, error: Exception | None) -> None:
        for waiting in (self._joined, *self._acks.values()):
            if not waiting.done():
                waiting.set_exception(Broken("the server closed the socket"))
        # Somebody may have ceased to wait, and is not to be told of it by the garbage collector.
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
        """A message of a server that compresses (RFC 7692), with the ones before as its context."""
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
            self._pings = self.pings._replace(heard=self._pings.heard + 1)
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
            self._fail(f"turned away: {packet}")

    def _expect_ping(self) -> None:
        self._ping_due = time.perf_counter() + self._ping_interval

    def _join(self, body: str) -> None:
        self._joined.set_result(None)

    def _event(self, body: str) -> None:
        event, *arguments = json.loads(body)
        self._heard(event, arguments[0] if arguments else None, time.perf_counter())

    def _ack(self, body: str) -> None:
        number, _, arguments = body.partition("[")
        waiting = self._acks.pop(int(number))
        if not waiting.done():
            waiting.set_result(json.loads(f"[{arguments}")[0])

    def _send(self, packet: str) -> None:
        self._transport.write(_frame(Opcode.TEXT, packet.encode()))

    def _fail(self, reason: str) -> None:
        if not self._joined.done():
            self._joined.set_exception(Broken(reason))
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
"""As much as a browser says, without an Origin."""


def _frame(opcode: Opcode, payload: bytes) -> bytes:
    """One whole frame of at most 64 KB; a login needs no more."""
    length = len(payload)
    if length < 126:
        return bytes((FINAL | opcode, MASKED | length)) + MASK + payload
    return struct.pack("!BBH", FINAL | opcode, MASKED | 126, length) + MASK + payload


def _frames(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Take every whole frame off the front of `buffer`: its first byte, and its payload."""
    taken = []
    start = 0
    while (span := _span(buffer, start)) is not None:
        first, end = span
        taken.append((buffer[start], bytes(buffer[first:end])))
        start = end
    del buffer[:start]
    return taken


def _span(buffer: bytearray, start: int) -> tuple[int, int] | None:
    """Where the payload of the frame at `start` begins and ends, once all of it is there."""
    there = len(buffer) - start
    if there < 2:
        return None
    length, head = buffer[start + 1], 2
    if length >= 126:
        head = 4 if length == 126 else 10
        if there < head:
            return None
        length = int.from_bytes(buffer[start + 2 : start + head])
    end = start + head + length
    return (start + head, end) if len(buffer) >= end else None


def _deaf(event: str, payload: Any, at: float) -> None:
    """What a socket hears that has left."""
