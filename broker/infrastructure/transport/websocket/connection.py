"""A WebSocket connection after its handshake (RFC 6455), as an asyncio protocol.

An idle connection is this one object. It has no task, no queue, no timer and no buffer.
"""

from __future__ import annotations

import asyncio
import socket
from enum import Enum
from typing import Protocol, Self, TypeVar, cast

from broker.infrastructure.transport.step_queue import STEP_SIZE, StepQueue
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.closing import ClosingTransports
from broker.infrastructure.transport.websocket.frames import Message, ProtocolViolation
from broker.infrastructure.transport.websocket.handshake import HTTPRequest, build_response

SEND_BUFFER_BYTES = 64 * 1024
"""Send buffer of the kernel for one connection. The kernel doubles the number."""

BACKLOG_BYTES = 256 * 1024
"""Bytes queued on top of the kernel's buffer. A connection that reads more slowly is closed."""

FRAMES_PER_WRITE = 64
"""Most frames that are joined in one write."""

C = TypeVar("C", contravariant=True)
"""The type of the connections of a handler."""


class CloseReason(Enum):
    """Why a connection ended that was not closed here."""

    PEER_CLOSED = "the peer sent a close frame"
    CONNECTION_LOST = "the TCP connection ended without one"
    ERROR = "the peer broke the protocol, exceeded a limit or read too slowly"


class MessageHandler(Protocol[C]):
    """Receives the messages of connections, and holds what these connections share.

    max_message_bytes: a longer message closes the connection, with 1009.
    steps: the step queue of all connections.
    closing: transports that were closed here and wait for the peer.
    """

    max_message_bytes: int
    steps: StepQueue
    closing: ClosingTransports

    def on_frames(self, connection: C, count: int) -> bool:
        """Count the frames of a step after it. False closes the connection, with 1008."""

    def on_message(self, connection: C, message: Message) -> None:
        """Handle a message. A ProtocolViolation closes the connection, with its code."""

    def on_closed(self, connection: C, reason: CloseReason) -> None:
        """The connection ended. Not called after `close` and `abort`."""


class WebSocketConnection(asyncio.Protocol):
    """The server's end of a WebSocket.

    handler: receives the messages, and whether the connection ended.
    transport: the TCP connection. Its kernel send buffer becomes `SEND_BUFFER_BYTES`.

    _unparsed: received bytes that are not handled yet.
    _needed: length of `_unparsed` at which its first frame is complete; 0 if complete frames
        wait for a step.
    _is_queued: the next step is in the step queue.
    _fragments: payload of an unfinished message; `_message_opcode` is its opcode.
    _write_queue: frames of this iteration of the event loop. They leave in one write.
    """

    __slots__ = (
        "_fragments",
        "_handler",
        "_is_closed",
        "_is_paused",
        "_is_queued",
        "_message_opcode",
        "_needed",
        "_transport",
        "_unparsed",
        "_write_queue",
    )

    def __init__(self, handler: MessageHandler[Self], transport: asyncio.Transport) -> None:
        # The type argument is the class of this object, which is all that the handler gets.
        self._handler = cast("MessageHandler[WebSocketConnection]", handler)
        self._transport = transport
        self._unparsed: bytearray | None = None
        self._needed = 0
        self._fragments: bytearray | None = None
        self._message_opcode = 0
        self._write_queue: list[bytes] | None = None
        self._is_closed = False
        self._is_queued = False
        self._is_paused = False
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        transport.set_protocol(self)

    @property
    def is_closed(self) -> bool:
        """Whether the TCP connection is closed or closes without the peer."""
        return self._transport.is_closing()

    def start(
        self,
        request: HTTPRequest,
        early_data: bytes,
        greeting: bytes = b"",
        subprotocol: str = "",
    ) -> None:
        """Answer the handshake.

        early_data: bytes that the client sent after its request.
        greeting: frames that leave in one write with the answer.
        subprotocol: the one that the server speaks, echoed if the client offers it.
        """
        self._transport.write(build_response(request, subprotocol) + greeting)
        if early_data:
            asyncio.get_running_loop().call_soon(self.data_received, early_data)

    def send(self, message: Message) -> None:
        """Send a message after all earlier ones. A closed connection drops it."""
        self.write(frames.build_message(message))

    def write(self, data: bytes) -> None:
        """Send complete frames, in one write with all others of this iteration of the loop."""
        if self._is_closed:
            return
        if self._write_queue is None:
            self._write_queue = []
            asyncio.get_running_loop().call_soon(self._flush)
        self._write_queue.append(data)
        if len(self._write_queue) == FRAMES_PER_WRITE:
            self._flush()

    def close(self, code: int = frames.NORMAL, reason: str = "") -> None:
        """Close after all sent messages. Later messages of the peer are not handled.

        reason: at most 123 bytes.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._unparsed = None
        self._write_queue = [*(self._write_queue or ()), frames.build_close_frame(code, reason)]
        self._flush()
        self._handler.closing.add(self._transport)
        self._transport.resume_reading()  # to receive the peer's close

    def abort(self) -> None:
        """Close now, without a close frame."""
        self._is_closed = True
        self._transport.abort()

    def pause(self) -> None:
        """Handle no further frame until `resume`."""
        self._is_paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        self._is_paused = False
        self._continue()

    def data_received(self, data: bytes) -> None:
        if self._is_closed:
            self._receive_while_closing(data)
            return
        received: bytes | bytearray = data
        if self._unparsed is not None:
            self._unparsed += data
            if not self._needed or len(self._unparsed) < self._needed:
                return
            received, self._unparsed = self._unparsed, None
        self._handle_step(received)

    def eof_received(self) -> None:
        """The transport closes itself and then calls `connection_lost`."""

    def connection_lost(self, error: Exception | None) -> None:
        self._handler.closing.discard(self._transport)
        if not self._is_closed:
            self._is_closed = True
            self._handler.on_closed(self, CloseReason.CONNECTION_LOST)

    def _receive_while_closing(self, data: bytes) -> None:
        if data[0] & frames.OPCODE == frames.CLOSE:
            self._transport.close()  # both sides have sent a close frame
        else:  # a peer that keeps sending is read in turn with others
            self._transport.pause_reading()
            self._handler.steps.add(self._transport.resume_reading)

    def _flush(self) -> None:
        queue, self._write_queue = self._write_queue, None
        if queue is None or self._transport.is_closing():
            return
        self._transport.write(b"".join(queue))
        if not self._is_closed and self._transport.get_write_buffer_size() > BACKLOG_BYTES:
            self.abort()
            self._handler.on_closed(self, CloseReason.ERROR)

    def _handle_step(self, data: bytes | bytearray) -> None:
        """Handle the first frames of `data`. Keep the others for a later step."""
        try:
            self._keep_rest(data, self._handle_frames(data))
        except ProtocolViolation as violation:
            self.close(violation.code)
            self._handler.on_closed(self, CloseReason.ERROR)

    def _handle_frames(self, data: bytes | bytearray) -> int:
        """Handle at most `STEP_SIZE` frames. Return the offset of the next one."""
        at = count = self._needed = 0
        size = len(data)
        while at < size and count < STEP_SIZE and not (self._is_closed or self._is_paused):
            held = len(self._fragments) if self._fragments is not None else 0
            frame = frames.parse_frame(data, at, self._handler.max_message_bytes - held)
            if isinstance(frame, int):
                self._needed = frame - at
                break
            at = frame.end
            count += 1
            if frame.opcode >= frames.CLOSE:
                self._handle_control(frame)
            else:
                self._handle_data(frame)
        if not self._handler.on_frames(self, count):
            raise ProtocolViolation(frames.POLICY, "too many frames")
        return at

    def _keep_rest(self, data: bytes | bytearray, at: int) -> None:
        """Keep the bytes from `at` on. Queue a step if they contain complete frames."""
        if at == len(data) or self._is_closed:
            return
        self._unparsed = data if isinstance(data, bytearray) else bytearray(data)
        del self._unparsed[:at]  # moves no bytes
        if not self._needed:
            self._transport.pause_reading()
            self._continue()

    def _continue(self) -> None:
        """Queue a step if complete frames wait, else resume reading."""
        if self._is_queued or self._is_paused or self._is_closed:
            return
        if self._unparsed is not None and not self._needed:
            self._is_queued = True
            self._handler.steps.add(self._run_queued_step)
        else:
            self._transport.resume_reading()

    def _run_queued_step(self) -> None:
        self._is_queued = False
        unparsed = self._unparsed
        if self._is_closed or self._is_paused or unparsed is None:
            return
        self._unparsed = None
        self._handle_step(unparsed)
        self._continue()

    def _handle_control(self, frame: frames.Frame) -> None:
        if frame.opcode == frames.PING:
            self.write(frames.build_frame(frames.PONG, frame.payload))
        elif frame.opcode == frames.CLOSE:
            self.close(frames.parse_close_code(frame.payload))
            self._handler.on_closed(self, CloseReason.PEER_CLOSED)
            self._transport.close()

    def _handle_data(self, frame: frames.Frame) -> None:
        """Handle a complete message, or keep a fragment."""
        is_started = self._fragments is not None
        if is_started is not (frame.opcode == frames.CONTINUATION):
            raise ProtocolViolation(frames.PROTOCOL_ERROR, "unexpected fragment")
        if not is_started:
            self._message_opcode = frame.opcode
        if frame.fin and not is_started:
            payload: bytes | bytearray = frame.payload
        else:
            self._fragments = self._fragments or bytearray()
            self._fragments += frame.payload
            if not frame.fin:
                return
            payload, self._fragments = self._fragments, None
        if self._message_opcode == frames.TEXT:
            self._handler.on_message(self, frames.decode_text(payload))
        else:
            self._handler.on_message(self, bytes(payload))
