"""The tunnels with a socket at this instance.

A notice names a tunnel that has news. One task reads the news of all such tunnels at once, so
that a burst of notices costs few round trips. Every `CHANGED_INTERVAL` it also reads the set of
changed tunnels, which contains those whose notice was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import structlog

from broker.errors import Unavailable
from broker.infrastructure.coordination import Notice
from broker.infrastructure.notices import NoticeHandler
from broker.infrastructure.observability.feed import NO_FEED, Feed
from broker.tunnels.closing import TunnelCloser
from broker.tunnels.inbox_queue import TunnelInboxQueue
from broker.tunnels.metrics import DROPPED, TUNNELS
from broker.tunnels.model import (
    INVALID_GRANT,
    REPLACED,
    SLOW_READER,
    UNAVAILABLE,
    ClosedBy,
    ClosedTunnel,
    CloseRequest,
    StoredMessage,
)
from broker.tunnels.ports import TUNNEL_NEWS, StreamReading, TunnelStream

log = structlog.get_logger()

CHANGED_INTERVAL = 4.0
"""Seconds between two reads of the set of changed tunnels. A lost notice delays a message by at
most 5 s."""

RETRY_DELAY = 0.5
"""Seconds before a failed read is repeated."""

BATCH = 100
"""Tunnels of one read. A read has at most `READ_MAX` messages of 64 KB for each."""

UNSENT_MAX = 64
"""New messages that wait for a slow client. With more its socket is closed. Those that were in the
stream when it was attached may be more, and a client that reads them is not slow."""


class TunnelSocket(Protocol):
    """A client's connection. It is one object of the transport, and has no task while idle.

    tunnel_id, app: of the tunnel.
    attachment: the number under which it was attached.
    position: offset of the last message that was sent.
    queue: messages of the client that wait for their callback; None if there are none.
    replay_end: offset of the last message that was in the stream when the socket was attached;
        -1 before the first read.
    quiet: sweeps since the client's last frame.
    full_at: when its bucket of messages is full again, in seconds of the event loop.
    """

    tunnel_id: str
    app: str
    attachment: int
    position: int
    queue: TunnelInboxQueue | None
    replay_end: int
    quiet: int
    full_at: float

    @property
    def is_congested(self) -> bool:
        """Whether messages wait in the send buffer. The socket calls `TunnelHub.wake` when it
        is empty again."""

    def deliver(self, messages: Sequence[StoredMessage]) -> None:
        """Send the first messages that fit into the send buffer, and move `position`."""

    @property
    def is_read(self) -> bool:
        """Whether the client is read: not while too many of its messages wait."""

    @property
    def idle_timeout(self) -> float:
        """Seconds without a frame after which the socket is dropped."""

    def on_lost(self, by: ClosedBy) -> None:
        """Record that the tunnel has no socket any longer."""

    def finish(self, why: CloseRequest) -> None:
        """Send why the tunnel or its socket ends, and close the socket."""

    def abort(self) -> None:
        """Close the connection without a message."""


class TunnelLosses(Protocol):
    """Records sockets that were lost."""

    def add(self, tunnel_id: str, attachment: int, by: ClosedBy) -> None:
        """Let the tunnel be away, in the background."""


class TunnelHub:
    """Registers sockets, and sends them the news of their tunnels.

    instance: the name of this process on the bus.
    """

    def __init__(
        self, *, streams: TunnelStream, closer: TunnelCloser, instance: str, feed: Feed = NO_FEED
    ) -> None:
        self._streams = streams
        self._closer = closer
        self._instance = instance
        self._feed = feed
        self._sockets: dict[str, TunnelSocket] = {}
        self._waiting: dict[str, None] = {}
        """Tunnels with news that were not read yet, in the order of their notices."""
        self._has_news = asyncio.Event()
        self._acks: dict[str, int] = {}

    def __iter__(self) -> Iterator[TunnelSocket]:
        """All sockets; others may be attached and lost meanwhile."""
        return iter(tuple(self._sockets.values()))

    def __len__(self) -> int:
        return len(self._sockets)

    def notice_handler(self) -> NoticeHandler:
        return NoticeHandler([TUNNEL_NEWS], self._on_notice, self.catch_up)

    def attach(self, socket: TunnelSocket) -> None:
        """Register a socket, and send it the messages after its position."""
        former = self._sockets.get(socket.tunnel_id)
        if former is not None:
            self._close(former, REPLACED)
        self._sockets[socket.tunnel_id] = socket
        TUNNELS.labels(socket.app, "open").inc()
        self._feed.publish("tunnel", "open", id=socket.tunnel_id, app=socket.app)
        self.wake(socket.tunnel_id)

    def lose(self, socket: TunnelSocket, by: ClosedBy = ClosedBy.NETWORK) -> None:
        """The socket was lost. Its waiting messages are still delivered."""
        if self.remove(socket):
            socket.on_lost(by)

    def remove(self, socket: TunnelSocket) -> bool:
        """Unregister a socket. Returns whether it was registered."""
        if self._sockets.get(socket.tunnel_id) is not socket:
            return False
        del self._sockets[socket.tunnel_id]
        TUNNELS.labels(socket.app, "open").dec()
        self._feed.publish("tunnel", "lost", id=socket.tunnel_id, app=socket.app)
        return True

    def wake(self, tunnel_id: str) -> None:
        """Read the news of a tunnel, if its socket is here."""
        if tunnel_id in self._sockets:
            self._waiting[tunnel_id] = None
            self._has_news.set()

    def ack(self, socket: TunnelSocket, offset: int) -> None:
        """Delete the messages up to an offset that was sent, soon."""
        self._acks[socket.tunnel_id] = min(offset, socket.position)

    def drop(self, socket: TunnelSocket, why: CloseRequest, reason: str) -> None:
        """Close a socket whose tunnel stays.  reason: a label of `scanlogin_tunnel_dropped`."""
        DROPPED.labels(socket.app, reason).inc()
        self.lose(socket)
        socket.finish(why)

    def abort(self, socket: TunnelSocket, reason: str) -> None:
        """Drop a socket whose client does not answer.  reason: as of `drop`."""
        DROPPED.labels(socket.app, reason).inc()
        self.lose(socket)
        socket.abort()

    async def run(self) -> None:
        """Read news until cancelled."""
        while True:
            await self._has_news.wait()
            try:
                await self._read_batch()
                await asyncio.sleep(0)  # messages leave before the next ones are read
            except Unavailable:
                await asyncio.sleep(RETRY_DELAY)

    async def run_changed(self) -> None:
        """Read the set of changed tunnels, and store acknowledgements, until cancelled."""
        while True:
            await asyncio.sleep(CHANGED_INTERVAL)
            try:
                await self.read_changed()
                await self._flush_acks()
            except Unavailable:
                continue  # the next interval tries again

    async def catch_up(self) -> None:
        """Read the news of all tunnels: the state may have lost the set of changed ones."""
        for tunnel_id in self._sockets:
            self.wake(tunnel_id)

    async def read_changed(self) -> None:
        """Raises Unavailable."""
        for tunnel_id in await self._streams.changed(self._instance):
            self.wake(tunnel_id)

    async def _on_notice(self, notice: Notice) -> None:
        self.wake(notice.id)

    async def _read_batch(self) -> None:
        """Raises Unavailable. The tunnels wait for the next read then."""
        batch = list(islice(self._waiting, BATCH))
        sockets = [self._sockets[one] for one in batch if one in self._sockets]
        for tunnel_id in batch:
            del self._waiting[tunnel_id]
        if not self._waiting:
            self._has_news.clear()
        positions = {socket.tunnel_id: socket.position for socket in sockets}
        try:
            readings = await self._streams.read(positions, self._instance) if positions else {}
        except Unavailable:
            for tunnel_id in positions:
                self.wake(tunnel_id)
            raise
        for socket in sockets:
            if self._sockets.get(socket.tunnel_id) is socket:
                self._handle(socket, readings[socket.tunnel_id])

    def _handle(self, socket: TunnelSocket, reading: StreamReading) -> None:
        if reading.attachment != socket.attachment:
            self._close(socket, _lost_to(reading))
            return
        if socket.replay_end < 0:
            socket.replay_end = reading.last
        unsent = reading.last - max(socket.position, socket.replay_end)
        if not reading.is_complete or (socket.is_congested and unsent > UNSENT_MAX):
            self.drop(socket, SLOW_READER, "slow reader")
            return
        if reading.messages and not socket.is_congested:
            socket.deliver(reading.messages)
        if socket.position < reading.last:
            if not socket.is_congested:
                self.wake(socket.tunnel_id)
        elif reading.closed is not None:
            self._end(socket, reading.closed)

    def _close(self, socket: TunnelSocket, why: CloseRequest) -> None:
        """Close a socket that has lost its tunnel."""
        self.remove(socket)
        if socket.queue is not None:
            socket.queue.cancel()
        socket.finish(why)

    def _end(self, socket: TunnelSocket, closed: ClosedTunnel) -> None:
        """Close the socket of a tunnel that has ended. The backend gets `tunnel.close` after its
        answer to the message in flight."""
        self.remove(socket)
        socket.finish(CloseRequest(closed.code, closed.reason))
        if socket.queue is not None:
            socket.queue.stop(lambda: self._closer.report(closed))
        else:
            self._closer.report(closed)

    async def _flush_acks(self) -> None:
        """Raises Unavailable. A lost acknowledgement only keeps messages for longer."""
        acks, self._acks = self._acks, {}
        if acks:
            await self._streams.ack(acks)


def _lost_to(reading: StreamReading) -> CloseRequest:
    """Return why a socket with another attachment is closed.

    An away tunnel has no other socket: it was freed because this instance seemed to have ended.
    Its client resumes.
    """
    if not reading.attachment:
        return INVALID_GRANT
    return REPLACED if reading.is_open else UNAVAILABLE
