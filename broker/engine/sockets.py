"""The two ways of Engine.IO: a websocket, and long polling.

An idle socket is one of these objects and nothing else: no task, no queue, no
timer, no buffer.  Both speak to the engine in packets: text as it stands on the
wire (`4…` is a message), binary as bytes.
"""

from __future__ import annotations

import asyncio
import socket
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from enum import IntEnum
from typing import Protocol

from broker.engine import frames
from broker.engine.frames import Violation
from broker.engine.rates import Address
from broker.engine.turns import STEP, Turns
from broker.errors import TooManyPackets

Packet = str | bytes

SEPARATOR = "\x1e"
"""Between packets in a body of long polling."""

OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = "0123456"

SEND_BUFFER_BYTES = 64 * 1024
"""What the kernel may keep for a socket that does not read; it doubles the figure."""

BACKLOG_BYTES = 256 * 1024
"""What may wait here on top of it: a reader slower than that is dropped."""

POLLING_BACKLOG_BYTES = 32 * 1024
"""Bytes queued for the next poll, besides the largest packet.  That one may be a code's image;
other packets are below 1 KB, and a client polls again at once."""

JOINED = 64
"""Frames that wait for each other in one turn of the loop, at most."""

LINGER = 1.0
"""Seconds that a peer gets to close its side of a socket that we close."""


class Phase(IntEnum):
    """What a socket is waiting for on the wheel."""

    JOIN = 0
    PING = 1
    PONG = 2
    ANSWERED = 3


class Engine(Protocol):
    """What a socket tells whom it belongs to."""

    longest: int
    turns: Turns
    closing: set[asyncio.Transport]
    """Of sockets that are closed here and wait for the peer to close."""

    def receive(self, socket: Socket, packet: Packet) -> None:
        """A packet has come, in order."""

    def spend(self, socket: Socket, count: int) -> bool:
        """Count received frames; False if they exceed a rate limit."""

    def lost(self, socket: Socket, reason: str) -> None:
        """Nothing more will come or go."""


class Socket(Protocol):
    """One Engine.IO session on its present way.

    slot: its place on the wheel.  phase: what it is to do until its turn comes there.
    address, full_at, received: what is counted for its rate limits.
    """

    sid: str
    slot: int
    phase: Phase
    address: Address | None
    full_at: float
    received: int

    @property
    def gone(self) -> bool:
        """Whether its connection is closed, or closes without the peer."""

    def send(self, packet: Packet) -> None:
        """Send a packet, after all before it."""

    def close(self, code: int = frames.NORMAL) -> None:
        """Close it, once what was sent has gone; nothing that comes from then on is heard."""

    def abort(self) -> None:
        """Close it now."""

    def pause(self) -> None:
        """Take nothing more in, until `resume`: whoever handles it cannot keep up."""

    def resume(self) -> None: ...


class WebSocket(asyncio.Protocol):
    """A websocket whose handshake is done; `asyncio` calls it with what comes.

    rest: bytes that are not handled yet; need: how many make its first frame whole, 0
    where frames in it wait for their turn.  waits: it is in the queue of turns.
    paused: its handler cannot keep up.
    parts: a message in fragments, of which `kind` is the opcode.
    out: frames of this turn of the loop, which leave in one write at its end.
    probes: it is being tried for a session that still polls.
    """

    __slots__ = (
        "_closed",
        "_engine",
        "_kind",
        "_need",
        "_out",
        "_parts",
        "_paused",
        "_rest",
        "_transport",
        "_waits",
        "address",
        "full_at",
        "phase",
        "probes",
        "received",
        "sid",
        "slot",
    )

    def __init__(self, engine: Engine, sid: str, transport: asyncio.Transport) -> None:
        self._engine = engine
        self._transport = transport
        self._rest: bytearray | None = None
        self._need = 0
        self._parts: bytearray | None = None
        self._kind = 0
        self._out: list[bytes] | None = None
        self._closed = False
        self._waits = False
        self._paused = False
        self.address: Address | None = None
        self.full_at = 0.0
        self.received = 0
        self.sid = sid
        self.slot = -1
        self.phase = Phase.JOIN
        self.probes = False
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        transport.set_protocol(self)

    @property
    def gone(self) -> bool:
        return self._transport.is_closing()

    def data_received(self, data: bytes) -> None:
        if self._closed:
            if data[0] & frames.OPCODE == frames.CLOSE:
                self._transport.close()  # both sides have said it
            else:  # a peer that keeps sending is read in turn with others
                self._transport.pause_reading()
                self._engine.turns.add(self._transport.resume_reading)
            return
        whole: bytes | bytearray = data
        if self._rest is not None:
            self._rest += data
            if not self._need or len(self._rest) < self._need:
                return
            whole, self._rest = self._rest, None
        self._step(whole)

    def eof_received(self) -> None:
        """The transport closes itself, and says so."""

    def connection_lost(self, error: Exception | None) -> None:
        self._engine.closing.discard(self._transport)
        if not self._closed:
            self._closed = True
            self._engine.lost(self, "transport close")

    def send(self, packet: Packet) -> None:
        if isinstance(packet, str):
            self.write(frames.frame(frames.TEXT, packet.encode()))
        else:
            self.write(frames.frame(frames.BINARY, packet))

    def write(self, framed: bytes) -> None:
        """Send whole frames, together with what else is sent in this turn of the loop."""
        if self._closed:
            return
        if self._out is None:
            self._out = []
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(framed)
        if len(self._out) == JOINED:
            self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, None
        if out is None or self._transport.is_closing():
            return
        self._transport.write(b"".join(out))
        if not self._closed and self._transport.get_write_buffer_size() > BACKLOG_BYTES:
            self.abort()
            self._engine.lost(self, "transport error")

    def close(self, code: int = frames.NORMAL) -> None:
        if self._closed:
            return
        self._closed = True
        self._rest = None
        self._out = [*(self._out or ()), frames.close_frame(code)]
        self._flush()
        self._engine.closing.add(self._transport)
        self._transport.resume_reading()  # to hear the peer close
        asyncio.get_running_loop().call_later(LINGER, self._transport.abort)

    def abort(self) -> None:
        self._closed = True
        self._transport.abort()

    def pause(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        self._paused = False
        self._go_on()

    def _end(self, code: int, reason: str) -> None:
        self.close(code)
        self._engine.lost(self, reason)

    def _step(self, data: bytes | bytearray) -> None:
        """Handle the next frames of `data`, and leave the others for a later turn of the loop."""
        try:
            self._keep(data, self._read(data))
        except Violation as violation:
            self._end(violation.code, "transport error")

    def _read(self, data: bytes | bytearray) -> int:
        """Handle at most `STEP` frames; return the offset of the next one."""
        at = count = self._need = 0
        while count < STEP and not (self._closed or self._paused):
            held = len(self._parts) if self._parts is not None else 0
            found = frames.read_frame(data, at, self._engine.longest - held)
            if isinstance(found, int):
                self._need = found - at
                break
            at = found.end
            count += 1
            if found.opcode >= frames.CLOSE:
                self._control(found)
            else:
                self._gather(found)
        if not self._engine.spend(self, count):
            raise Violation(frames.POLICY, "too many frames")
        return at

    def _keep(self, data: bytes | bytearray, at: int) -> None:
        """Keep the bytes from `at` on; wait for a turn if they hold complete frames."""
        if at == len(data) or self._closed:
            return
        self._rest = data if isinstance(data, bytearray) else bytearray(data)
        del self._rest[:at]  # moves no bytes
        if not self._need:
            self._transport.pause_reading()
            self._go_on()

    def _go_on(self) -> None:
        """Queue for a turn if frames wait, else resume reading."""
        if self._waits or self._paused or self._closed:
            return
        if self._rest is not None and not self._need:
            self._waits = True
            self._engine.turns.add(self._turn)
        else:
            self._transport.resume_reading()

    def _turn(self) -> None:
        self._waits = False
        rest = self._rest
        if self._closed or self._paused or rest is None:
            return
        self._rest = None
        self._step(rest)
        self._go_on()

    def _control(self, found: frames.Frame) -> None:
        if found.opcode == frames.PING:
            self.write(frames.frame(frames.PONG, found.payload))
        elif found.opcode == frames.CLOSE:
            # A goodbye, unlike a connection that breaks: nothing was cut off on its way.
            self._end(frames.read_close(found.payload), "client disconnect")
            self._transport.close()

    def _gather(self, found: frames.Frame) -> None:
        """Take a fragment, or a whole message."""
        begun = self._parts is not None
        if begun is not (found.opcode == frames.CONTINUATION):
            raise Violation(frames.PROTOCOL_ERROR, "a fragment out of place")
        if not begun:
            self._kind = found.opcode
        if found.fin and not begun:
            message: bytes | bytearray = found.payload
        else:
            self._parts = self._parts or bytearray()
            self._parts += found.payload
            if not found.fin:
                return
            message, self._parts = self._parts, None
        if self._kind == frames.TEXT:
            self._engine.receive(self, frames.read_text(message))
        else:
            self._engine.receive(self, bytes(message))


class Polling:
    """A session by long polling: what waits for the next poll, and the poll that waits.

    upgrade: the websocket that is being tried for it.  changing: the client has found
    it good and sends no further poll, so that none may be kept waiting; what is closed
    then is closed once the client has come over, or it would hear nothing of it.
    """

    __slots__ = (
        "_engine",
        "_largest",
        "_out",
        "_poll",
        "_size",
        "address",
        "changing",
        "closed",
        "full_at",
        "phase",
        "posts",
        "received",
        "sid",
        "slot",
        "upgrade",
    )

    def __init__(self, engine: Engine, sid: str) -> None:
        self._engine = engine
        self._out: list[Packet] = []
        self._size = 0
        self._largest = 0
        self.address: Address | None = None
        self.full_at = 0.0
        self.received = 0
        self._poll: asyncio.Future[None] | None = None
        self.closed = False
        self.changing = False
        self.posts = False
        self.sid = sid
        self.slot = -1
        self.phase = Phase.JOIN
        self.upgrade: WebSocket | None = None

    @property
    def gone(self) -> bool:
        """Its own connections are aiohttp's."""
        return self.closed and (self.upgrade is None or self.upgrade.gone)

    @property
    def polls(self) -> bool:
        """Whether a poll waits."""
        return self._poll is not None

    def send(self, packet: Packet) -> None:
        self._out.append(packet)
        self._size += len(packet)
        self._largest = max(self._largest, len(packet))
        self.release()
        if self._size - self._largest > POLLING_BACKLOG_BYTES and not self.closed:
            self.abort()
            self._engine.lost(self, "transport error")

    def release(self) -> None:
        """Let the poll that waits be answered."""
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def take(self) -> list[Packet]:
        """What waits to be sent, which waits no more."""
        out, self._out = self._out, []
        self._size = self._largest = 0
        return out

    async def poll(self) -> str:
        """The body of a poll's answer: as soon as there is something to send."""
        if not (self._out or self.closed or self.changing):
            self._poll = asyncio.get_running_loop().create_future()
            try:
                await self._poll
            finally:
                self._poll = None
        return SEPARATOR.join(map(as_text, self.take())) or NOOP

    def post(self, body: str) -> None:
        """Take the packets of a POST.

        Raises ValueError or Violation for malformed packets, and TooManyPackets.
        """
        texts = body.split(SEPARATOR)
        if not self._engine.spend(self, len(texts)):
            raise TooManyPackets
        packets = [as_packet(text) for text in texts]
        for packet in packets:
            self._engine.receive(self, packet)

    def close(self, code: int = frames.NORMAL) -> None:
        self._shut(CLOSE)
        if not self.changing:
            self._end_upgrade()

    def abort(self) -> None:
        self._shut(CLOSE)
        self._end_upgrade()

    def end(self) -> None:
        """Close what the client has closed: nothing is said to a poll that waits."""
        self._shut(NOOP)
        self._end_upgrade()

    def pause(self) -> None:
        """A body is read before it is handled, and no other is taken meanwhile."""

    def resume(self) -> None: ...

    def _shut(self, last: Packet) -> None:
        if self.closed:
            return
        self.closed = True
        self._out.append(last)
        self.release()

    def _end_upgrade(self) -> None:
        if self.upgrade is not None:
            self.upgrade.abort()


def as_text(packet: Packet) -> str:
    """A packet as it stands in a body of long polling."""
    return packet if isinstance(packet, str) else "b" + b64encode(packet).decode()


def as_packet(text: str) -> Packet:
    """The packet that stands in a body; raises ValueError for a binary one that is no base64."""
    if text[:1] != "b":
        return text
    try:
        return b64decode(text[1:], validate=True)
    except NoBase64:
        raise ValueError("binary that is no base64") from None
