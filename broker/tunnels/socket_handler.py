"""Attaches sockets, limits them and ends them, for the handlers of all APIs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.transport.rate_limit import NEW_SOCKET_FRAMES
from broker.infrastructure.transport.step_queue import StepQueue
from broker.infrastructure.transport.websocket.closing import ClosingTransports
from broker.infrastructure.transport.websocket.connection import CloseReason
from broker.tunnels.attaching import Attached, Refused
from broker.tunnels.client_connection import OPENING, ClientSocket
from broker.tunnels.hub import TunnelHub, TunnelLosses
from broker.tunnels.metrics import DROPPED
from broker.tunnels.model import (
    DRAINING,
    FRAME_MAX_BYTES,
    RATE_LIMITED,
    UNAVAILABLE,
    ClosedBy,
    CloseRequest,
)

BURST_SECONDS = 3.0
"""Seconds whose messages a client may send at once."""

FRAMES_PER_MESSAGE = 10
"""Other frames, such as acknowledgements, that cost as much as one message."""

UNATTACHED_FRAME_COST = BURST_SECONDS / NEW_SOCKET_FRAMES
"""Seconds of the bucket for a frame before the tunnel is known: `NEW_SOCKET_FRAMES` at once, and as
many in each `BURST_SECONDS`. The client is not authenticated. A new Socket.IO client of an address
that floods may send as many at once."""

CLOSE_TIMEOUT = 1.0
"""Seconds in which clients answer the close of a drain."""

CLOSE_POLLS = 20


class SocketHandler:
    """Attaches the sockets of one API, limits and ends them. It is part of a `MessageHandler`.

    A subclass accepts the handshakes, and greets the attached sockets.

    losses: records sockets whose tunnel is away.
    drain: once it is closed, no further tunnel is opened.
    messages_per_second: of one tunnel, over `BURST_SECONDS`.
    idle_timeout: seconds without a frame after which a socket is dropped.
    """

    max_message_bytes = FRAME_MAX_BYTES

    def __init__(
        self,
        *,
        hub: TunnelHub,
        losses: TunnelLosses,
        drain: DrainGate,
        messages_per_second: int,
        idle_timeout: float,
    ) -> None:
        self.hub = hub
        self.losses = losses
        self.idle_timeout = idle_timeout
        self.steps = StepQueue()
        self.closing = ClosingTransports()
        self.tasks = BackgroundTasks()
        self.drain = drain
        self._frame_cost = 1 / messages_per_second / FRAMES_PER_MESSAGE
        self._message_cost = 1 / messages_per_second - self._frame_cost

    async def close(self) -> None:
        """Close all sockets of a draining instance. Their clients connect to another one."""
        for socket in self.hub:
            self.hub.lose(socket, ClosedBy.DRAIN)
            socket.finish(DRAINING)
        await self.tasks.close(grace=CLOSE_TIMEOUT)
        for _ in range(CLOSE_POLLS):
            if not self.closing:
                break
            await asyncio.sleep(CLOSE_TIMEOUT / CLOSE_POLLS)
        self.closing.abort_all()

    def greet(self, socket: ClientSocket, attached: Attached) -> None:
        """Begin the tunnel of a socket, before it gets its first message."""
        raise NotImplementedError

    async def attach(self, socket: ClientSocket, attaching: Awaitable[Attached]) -> None:
        """Attach a socket, or close it with the reason why it is refused."""
        try:
            attached = await attaching
        except Refused as refused:
            socket.finish(refused.why)
        except Unavailable:
            socket.finish(UNAVAILABLE)
        except asyncio.CancelledError:  # the instance ends before the answer
            socket.finish(DRAINING)
            raise
        else:
            self._register(socket, attached)

    def _register(self, socket: ClientSocket, attached: Attached) -> None:
        """Register an attached socket, which may be closed already."""
        tunnel = attached.tunnel
        socket.tunnel_id, socket.app = tunnel.id, sys.intern(tunnel.app)
        socket.attachment, socket.position = tunnel.attachment, attached.position
        socket.full_at = 0.0  # the frames before were charged at another rate
        self.greet(socket, attached)
        socket.client = None
        self.hub.attach(socket)
        if socket.is_closed:
            self.hub.lose(socket)
        elif not self.drain.is_open:
            self.hub.lose(socket, ClosedBy.DRAIN)
            socket.finish(DRAINING)
        else:
            socket.resume()

    def on_frames(self, connection: ClientSocket, count: int) -> bool:
        is_attached = connection.attachment > OPENING
        frame_cost = self._frame_cost if is_attached else UNATTACHED_FRAME_COST
        self._charge(connection, count * frame_cost)
        return True

    def on_closed(self, connection: ClientSocket, reason: CloseReason) -> None:
        if reason is CloseReason.ERROR and connection.attachment > OPENING:
            DROPPED.labels(connection.app, "protocol error").inc()
        self.hub.lose(connection)

    def charge_message(self, socket: ClientSocket) -> bool:
        """Count a message. False, after closing the socket, if there are too many."""
        return self._charge(socket, self._message_cost)

    def refuse(self, socket: ClientSocket, why: CloseRequest) -> None:
        """Close a socket that breaks a rule."""
        if socket.attachment > OPENING:
            self.hub.drop(socket, why, why.reason)
        else:
            socket.finish(why)

    def _charge(self, socket: ClientSocket, cost: float) -> bool:
        """Take from the socket's bucket. False, after closing the socket, if it is empty."""
        now = asyncio.get_running_loop().time()
        socket.full_at = max(socket.full_at, now) + cost
        if socket.full_at <= now + BURST_SECONDS:
            return True
        self.refuse(socket, RATE_LIMITED)
        return False
