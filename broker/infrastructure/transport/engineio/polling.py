"""Sessions over HTTP long polling."""

from __future__ import annotations

import asyncio

from broker.infrastructure.transport.engineio.packets import (
    CLOSE,
    NOOP,
    SEPARATOR,
    HeartbeatPhase,
    Packet,
    decode_packet,
    encode_packet,
)
from broker.infrastructure.transport.engineio.sessions import SessionHandler
from broker.infrastructure.transport.rate_limit import Address, TooManyPackets
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.connection import (
    POLLING_BACKLOG_BYTES,
    WebSocketConnection,
)


class PollingSession:
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
        "closed",
        "full_at",
        "is_posting",
        "is_upgrading",
        "phase",
        "received",
        "sid",
        "slot",
        "upgrade",
    )

    def __init__(self, engine: SessionHandler, sid: str) -> None:
        self._engine = engine
        self._out: list[Packet] = []
        self._size = 0
        self._largest = 0
        self.address: Address | None = None
        self.full_at = 0.0
        self.received = 0
        self._poll: asyncio.Future[None] | None = None
        self.closed = False
        self.is_upgrading = False
        self.is_posting = False
        self.sid = sid
        self.slot = -1
        self.phase = HeartbeatPhase.JOIN
        self.upgrade: WebSocketConnection | None = None

    @property
    def is_closed(self) -> bool:
        """Its own connections are aiohttp's."""
        return self.closed and (self.upgrade is None or self.upgrade.is_closed)

    @property
    def has_pending_poll(self) -> bool:
        """Whether a poll waits."""
        return self._poll is not None

    def send(self, packet: Packet) -> None:
        self._out.append(packet)
        self._size += len(packet)
        self._largest = max(self._largest, len(packet))
        self.answer_poll()
        if self._size - self._largest > POLLING_BACKLOG_BYTES and not self.closed:
            self.abort()
            self._engine.on_closed(self, "transport error")

    def answer_poll(self) -> None:
        """Let the poll that waits be answered."""
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def pop_all(self) -> list[Packet]:
        """What waits to be sent, which waits no more."""
        write_queue, self._out = self._out, []
        self._size = self._largest = 0
        return write_queue

    async def poll(self) -> str:
        """The body of a poll's answer: as soon as there is something to send."""
        if not (self._out or self.closed or self.is_upgrading):
            self._poll = asyncio.get_running_loop().create_future()
            try:
                await self._poll
            finally:
                self._poll = None
        return SEPARATOR.join(map(encode_packet, self.pop_all())) or NOOP

    def post(self, body: str) -> None:
        """Take the packets of a POST.

        Raises ValueError or ProtocolViolation for malformed packets, and TooManyPackets.
        """
        texts = body.split(SEPARATOR)
        if not self._engine.spend(self, len(texts)):
            raise TooManyPackets
        packets = [decode_packet(text) for text in texts]
        for packet in packets:
            self._engine.on_packet(self, packet)

    def close(self, code: int = frames.NORMAL) -> None:
        self._shut(CLOSE)
        if not self.is_upgrading:
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
        self.answer_poll()

    def _end_upgrade(self) -> None:
        if self.upgrade is not None:
            self.upgrade.abort()
