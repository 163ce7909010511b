"""The two ways of Engine.IO: a websocket, and long polling.

An idle socket is one of these objects and nothing else: no task, no queue, no
timer, no buffer.  Both speak to the engine in packets: text as it stands on the
wire (`4…` is a message), binary as bytes.
"""

from __future__ import annotations

import asyncio
import socket

from broker.infrastructure.transport.engineio.packets import HeartbeatPhase, Packet
from broker.infrastructure.transport.engineio.sessions import SessionHandler
from broker.infrastructure.transport.rate_limit import Address
from broker.infrastructure.transport.turns import STEP
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.frames import ProtocolViolation

SEND_BUFFER_BYTES = 64 * 1024
"""What the kernel may keep for a socket that does not read; it doubles the figure."""

BACKLOG_BYTES = 256 * 1024
"""What may wait here on top of it: a reader slower than that is dropped."""

POLLING_BACKLOG_BYTES = 32 * 1024
"""Bytes queued for the next poll, besides the largest packet.  That one may be a code's image;
other packets are below 1 KB, and a client polls again at once."""

FRAMES_PER_WRITE = 64
"""Frames that wait for each other in one turn of the loop, at most."""

CLOSE_TIMEOUT = 1.0
"""Seconds that a peer gets to close its side of a socket that we close."""


class WebSocketConnection(asyncio.Protocol):
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
        "is_probe",
        "phase",
        "received",
        "sid",
        "slot",
    )

    def __init__(self, engine: SessionHandler, sid: str, transport: asyncio.Transport) -> None:
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
        self.phase = HeartbeatPhase.JOIN
        self.is_probe = False
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        transport.set_protocol(self)

    @property
    def is_closed(self) -> bool:
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
            self._engine.on_closed(self, "transport close")

    def send(self, packet: Packet) -> None:
        if isinstance(packet, str):
            self.write(frames.build_frame(frames.TEXT, packet.encode()))
        else:
            self.write(frames.build_frame(frames.BINARY, packet))

    def write(self, framed: bytes) -> None:
        """Send whole frames, together with what else is sent in this turn of the loop."""
        if self._closed:
            return
        if self._out is None:
            self._out = []
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(framed)
        if len(self._out) == FRAMES_PER_WRITE:
            self._flush()

    def _flush(self) -> None:
        write_queue, self._out = self._out, None
        if write_queue is None or self._transport.is_closing():
            return
        self._transport.write(b"".join(write_queue))
        if not self._closed and self._transport.get_write_buffer_size() > BACKLOG_BYTES:
            self.abort()
            self._engine.on_closed(self, "transport error")

    def close(self, code: int = frames.NORMAL) -> None:
        if self._closed:
            return
        self._closed = True
        self._rest = None
        self._out = [*(self._out or ()), frames.build_close_frame(code)]
        self._flush()
        self._engine.closing.add(self._transport)
        self._transport.resume_reading()  # to hear the peer close
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.abort)

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
        self._engine.on_closed(self, reason)

    def _step(self, data: bytes | bytearray) -> None:
        """Handle the next frames of `data`, and leave the others for a later turn of the loop."""
        try:
            self._keep(data, self._read(data))
        except ProtocolViolation as violation:
            self._end(violation.code, "transport error")

    def _read(self, data: bytes | bytearray) -> int:
        """Handle at most `STEP` frames; return the offset of the next one."""
        at = count = self._need = 0
        while count < STEP and not (self._closed or self._paused):
            held = len(self._parts) if self._parts is not None else 0
            found = frames.parse_frame(data, at, self._engine.max_message_bytes - held)
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
            raise ProtocolViolation(frames.POLICY, "too many frames")
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
        partial = self._rest
        if self._closed or self._paused or partial is None:
            return
        self._rest = None
        self._step(partial)
        self._go_on()

    def _control(self, found: frames.Frame) -> None:
        if found.opcode == frames.PING:
            self.write(frames.build_frame(frames.PONG, found.payload))
        elif found.opcode == frames.CLOSE:
            # A goodbye, unlike a connection that breaks: nothing was cut off on its way.
            self._end(frames.parse_close_code(found.payload), "client disconnect")
            self._transport.close()

    def _gather(self, found: frames.Frame) -> None:
        """Take a fragment, or a whole message."""
        begun = self._parts is not None
        if begun is not (found.opcode == frames.CONTINUATION):
            raise ProtocolViolation(frames.PROTOCOL_ERROR, "a fragment out of place")
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
            self._engine.on_packet(self, frames.decode_text(message))
        else:
            self._engine.on_packet(self, bytes(message))
