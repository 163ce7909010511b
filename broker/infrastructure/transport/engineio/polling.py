"""Sessions over HTTP long polling."""

from __future__ import annotations

import asyncio

from broker.infrastructure.transport.engineio.packets import (
    CLOSE,
    NOOP,
    SEPARATOR,
    Packet,
    decode_packet,
    encode_packet,
)
from broker.infrastructure.transport.engineio.sessions import (
    EngineIOWebSocket,
    HeartbeatPhase,
    SessionHandler,
)
from broker.infrastructure.transport.rate_limit import AddressUsage, TooManyPackets
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.connection import CloseReason

POLLING_BACKLOG_BYTES = 32 * 1024
"""Bytes queued for the next poll, besides the largest packet. That one may be a code's image.
Other packets are below 1 KB, and a client polls again at once."""


class PollingSession:
    """A session over long polling: the packets for the next poll, and the poll that waits.

    probe: the WebSocket that the client tries.
    is_upgrading: the client has accepted the probe and sends no further poll, so each poll is
        answered at once. A close then waits for the WebSocket, because the client would not
        receive it by a poll.
    """

    __slots__ = (
        "_handler",
        "_largest",
        "_poll",
        "_size",
        "_write_queue",
        "address",
        "closed",
        "full_at",
        "is_posting",
        "is_upgrading",
        "phase",
        "probe",
        "received",
        "sid",
        "slot",
    )

    def __init__(self, handler: SessionHandler, sid: str) -> None:
        self._handler = handler
        self._write_queue: list[Packet] = []
        self._size = 0
        self._largest = 0
        self._poll: asyncio.Future[None] | None = None
        self.address: AddressUsage | None = None
        self.full_at = 0.0
        self.received = 0
        self.closed = False
        self.is_upgrading = False
        self.is_posting = False
        self.sid = sid
        self.slot = -1
        self.phase = HeartbeatPhase.JOIN
        self.probe: EngineIOWebSocket | None = None

    @property
    def is_closed(self) -> bool:
        """Its HTTP connections belong to aiohttp."""
        return self.closed and (self.probe is None or self.probe.is_closed)

    @property
    def has_pending_poll(self) -> bool:
        return self._poll is not None

    def send(self, packet: Packet) -> None:
        self._write_queue.append(packet)
        self._size += len(packet)
        self._largest = max(self._largest, len(packet))
        self.answer_poll()
        if self._size - self._largest > POLLING_BACKLOG_BYTES and not self.closed:
            self.abort()
            self._handler.on_closed(self, CloseReason.ERROR)

    def answer_poll(self) -> None:
        """Answer the poll that waits, if there is one."""
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def pop_all(self) -> list[Packet]:
        """Remove and return the queued packets."""
        packets, self._write_queue = self._write_queue, []
        self._size = self._largest = 0
        return packets

    async def poll(self) -> str:
        """Wait for a packet. Return the body of the response."""
        if not (self._write_queue or self.closed or self.is_upgrading):
            self._poll = asyncio.get_running_loop().create_future()
            try:
                await self._poll
            finally:
                self._poll = None
        return SEPARATOR.join(map(encode_packet, self.pop_all())) or NOOP

    def post(self, body: str) -> None:
        """Handle the packets of a POST.

        Raises ValueError or ProtocolViolation for malformed packets, and TooManyPackets.
        """
        texts = body.split(SEPARATOR)
        if not self._handler.on_frames(self, len(texts)):
            raise TooManyPackets
        packets = [decode_packet(text) for text in texts]
        for packet in packets:
            self._handler.on_message(self, packet)

    def close(self, code: int = frames.NORMAL) -> None:
        self._end(CLOSE)
        if not self.is_upgrading:
            self._abort_probe()

    def abort(self) -> None:
        self._end(CLOSE)
        self._abort_probe()

    def end(self) -> None:
        """End a session that the client closed or moved. A poll that waits gets no CLOSE."""
        self._end(NOOP)
        self._abort_probe()

    def pause(self) -> None:
        """Does nothing: the session accepts one body at a time, and waits until it is handled."""

    def resume(self) -> None: ...

    def _end(self, last: Packet) -> None:
        if self.closed:
            return
        self.closed = True
        self._write_queue.append(last)
        self.answer_poll()

    def _abort_probe(self) -> None:
        if self.probe is not None:
            self.probe.abort()
