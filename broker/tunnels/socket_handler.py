"""Limits sockets and ends them, for the handlers of all APIs."""

from __future__ import annotations

import asyncio

from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.transport.step_queue import StepQueue
from broker.infrastructure.transport.websocket.connection import CloseReason
from broker.tunnels.client_connection import OPENING, ClientSocket
from broker.tunnels.hub import TunnelHub, TunnelLosses
from broker.tunnels.metrics import DROPPED
from broker.tunnels.model import DRAINING, FRAME_MAX_BYTES, RATE_LIMITED, ClosedBy, CloseRequest

BURST_SECONDS = 3.0
"""Seconds whose messages a client may send at once."""

FRAMES_PER_MESSAGE = 10
"""Other frames, such as acknowledgements, that cost as much as one message."""

CLOSE_TIMEOUT = 1.0
"""Seconds in which clients answer the close of a drain."""

CLOSE_POLLS = 20


class SocketHandler:
    """Limits the sockets of one API, and ends them. It is part of a `MessageHandler`.

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
        self.closing: set[asyncio.Transport] = set()
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
        for transport in tuple(self.closing):
            transport.abort()

    def on_frames(self, connection: ClientSocket, count: int) -> bool:
        self._charge(connection, count * self._frame_cost)
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
