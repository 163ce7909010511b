"""The native frames of clients, over a WebSocket.

    ticket in the path ──▶ opening ──▶ open ──▶ message, ack, ping, close
    no ticket ──▶ first frame: resume ─┘

An idle tunnel is one `ClientSocket`: no task, queue or timer belongs to it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.transport.step_queue import StepQueue
from broker.infrastructure.transport.websocket.connection import CloseReason
from broker.infrastructure.transport.websocket.frames import Message
from broker.infrastructure.transport.websocket.handshake import HTTPRequest
from broker.tunnels.attaching import Attached, Refused, ResumeRequest, TunnelAttacher
from broker.tunnels.client_connection import AWAITS_RESUME, OPENING, ClientSocket
from broker.tunnels.client_frames import (
    ID_MAX,
    PONG,
    SUBPROTOCOL,
    ClientFrame,
    encode_open,
    parse_frame,
)
from broker.tunnels.hub import TunnelHub
from broker.tunnels.inbox import (
    CLOSE,
    WAITING_MAX,
    ClientMessage,
    TunnelInboxes,
)
from broker.tunnels.metrics import DROPPED
from broker.tunnels.model import (
    DRAINING,
    FRAME_MAX_BYTES,
    INVALID_FRAME,
    RATE_LIMITED,
    UNAVAILABLE,
    ClosedBy,
    CloseRequest,
    SocketPeer,
    is_tunnel_id,
)

FIRST_FRAME_TIMEOUT = 5.0
"""Seconds in which a connection without a ticket sends `resume`."""

BURST_SECONDS = 3.0
"""Seconds whose messages a client may send at once."""

FRAMES_PER_MESSAGE = 10
"""Other frames, such as acknowledgements, that cost as much as one message."""

CLOSE_TIMEOUT = 1.0
"""Seconds in which clients answer the close of a drain."""

CLOSE_POLLS = 20


class ClientSockets:
    """Opens tunnels for clients, and handles their frames. It is the `MessageHandler`.

    drain: once it is closed, no further tunnel is opened.
    messages_per_second: of one tunnel, over `BURST_SECONDS`.
    ping_interval: seconds, for the clients.
    """

    max_message_bytes = FRAME_MAX_BYTES

    def __init__(
        self,
        *,
        hub: TunnelHub,
        attacher: TunnelAttacher,
        inboxes: TunnelInboxes,
        drain: DrainGate,
        messages_per_second: int,
        ping_interval: int,
    ) -> None:
        self.hub = hub
        self.steps = StepQueue()
        self.closing: set[asyncio.Transport] = set()
        self._attacher = attacher
        self._inboxes = inboxes
        self._frame_cost = 1 / messages_per_second / FRAMES_PER_MESSAGE
        self._message_cost = 1 / messages_per_second - self._frame_cost
        self._ping_interval = ping_interval
        self._tasks = BackgroundTasks()
        self._drain = drain

    def accept(
        self,
        request: HTTPRequest,
        transport: asyncio.Transport,
        early_data: bytes,
        *,
        ticket: str,
        client: SocketPeer,
    ) -> None:
        """Answer a valid handshake.  ticket: empty for a client that resumes."""
        socket = ClientSocket(self, transport, client)
        if ticket:
            socket.attachment = OPENING
            socket.pause()
        socket.start(request, early_data, subprotocol=SUBPROTOCOL)
        if not self._drain.is_open:
            socket.finish(DRAINING)
        elif ticket:
            self._tasks.spawn(
                "tunnel open", self._open(socket, self._attacher.open(ticket, client))
            )
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(FIRST_FRAME_TIMEOUT, self._expire, socket)

    async def close(self) -> None:
        """Close all sockets of a draining instance. Their clients resume at another one."""
        for socket in self.hub:
            self.hub.lose(socket, ClosedBy.DRAIN)
            socket.finish(DRAINING)
        await self._tasks.close(grace=CLOSE_TIMEOUT)
        for _ in range(CLOSE_POLLS):
            if not self.closing:
                break
            await asyncio.sleep(CLOSE_TIMEOUT / CLOSE_POLLS)
        for transport in tuple(self.closing):
            transport.abort()

    # ---- MessageHandler ----

    def on_frames(self, connection: ClientSocket, count: int) -> bool:
        self._charge(connection, count * self._frame_cost)
        return True

    def on_message(self, connection: ClientSocket, message: Message) -> None:
        connection.quiet = 0
        frame = parse_frame(message)
        if frame is None:
            self._refuse(connection, INVALID_FRAME)
        elif connection.attachment == AWAITS_RESUME:
            self._handle_first(connection, frame)
        else:
            handle = HANDLERS.get(frame["type"], ClientSockets._handle_unknown)
            handle(self, connection, frame)

    def on_closed(self, connection: ClientSocket, reason: CloseReason) -> None:
        if reason is CloseReason.ERROR and connection.attachment > OPENING:
            DROPPED.labels(connection.app, "protocol error").inc()
        self.hub.lose(connection)

    # ---- frames ----

    def _handle_first(self, socket: ClientSocket, frame: ClientFrame) -> None:
        request = ResumeRequest(
            frame.get("tunnel_id", ""),
            frame.get("resume", ""),
            frame.get("epoch", ""),
            frame.get("offset", 0),
        )
        if (
            frame["type"] != "resume"
            or socket.client is None
            or not is_tunnel_id(request.tunnel_id)
        ):
            self._refuse(socket, INVALID_FRAME)
            return
        socket.attachment = OPENING
        socket.pause()
        resuming = self._attacher.resume(request, socket.client)
        self._tasks.spawn("tunnel resume", self._open(socket, resuming))

    def _handle_message(self, socket: ClientSocket, frame: ClientFrame) -> None:
        message_id = frame.get("id", "")
        if "data" not in frame or len(message_id) > ID_MAX:
            self._refuse(socket, INVALID_FRAME)
        elif self._charge(socket, self._message_cost):
            self._put(socket, ClientMessage(bytes(frame["data"]), message_id))

    def _handle_ack(self, socket: ClientSocket, frame: ClientFrame) -> None:
        self.hub.ack(socket, frame.get("offset", 0))

    def _handle_ping(self, socket: ClientSocket, frame: ClientFrame) -> None:
        socket.send_text(PONG)

    def _handle_close(self, socket: ClientSocket, frame: ClientFrame) -> None:
        self._put(socket, CLOSE)

    def _handle_unknown(self, socket: ClientSocket, frame: ClientFrame) -> None:
        self._refuse(socket, INVALID_FRAME)

    def _put(self, socket: ClientSocket, message: ClientMessage) -> None:
        if self._inboxes.put(socket, message) >= WAITING_MAX:
            socket.pause()

    def _charge(self, socket: ClientSocket, cost: float) -> bool:
        """Take from the socket's bucket. False, after closing the socket, if it is empty."""
        now = asyncio.get_running_loop().time()
        socket.full_at = max(socket.full_at, now) + cost
        if socket.full_at <= now + BURST_SECONDS:
            return True
        self._refuse(socket, RATE_LIMITED)
        return False

    def _refuse(self, socket: ClientSocket, why: CloseRequest) -> None:
        """Close a socket that breaks a rule. Its tunnel is away."""
        if socket.attachment > OPENING:
            self.hub.drop(socket, why, why.reason)
        else:
            socket.finish(why)

    def _expire(self, socket: ClientSocket) -> None:
        if socket.attachment == AWAITS_RESUME:
            socket.finish(INVALID_FRAME)

    # ---- opening ----

    async def _open(self, socket: ClientSocket, attaching: Coroutine[Any, Any, Attached]) -> None:
        try:
            attached = await attaching
        except Refused as refused:
            socket.finish(refused.why)
        except Unavailable:
            socket.finish(UNAVAILABLE)
        else:
            self._start(socket, attached)

    def _start(self, socket: ClientSocket, attached: Attached) -> None:
        """Register an attached socket, which may be closed already."""
        tunnel = attached.tunnel
        socket.client = None
        socket.tunnel_id, socket.app = tunnel.id, sys.intern(tunnel.app)
        socket.attachment, socket.position = tunnel.attachment, attached.position
        socket.send_text(encode_open(attached, self._ping_interval))
        self.hub.attach(socket)
        if socket.is_closed:
            self.hub.lose(socket)
        elif not self._drain.is_open:
            self.hub.lose(socket, ClosedBy.DRAIN)
            socket.finish(DRAINING)
        else:
            socket.resume()


FrameHandler = Callable[[ClientSockets, ClientSocket, ClientFrame], None]

HANDLERS: Mapping[str, FrameHandler] = {
    "message": ClientSockets._handle_message,
    "ack": ClientSockets._handle_ack,
    "ping": ClientSockets._handle_ping,
    "close": ClientSockets._handle_close,
}
"""Handlers of the frames of an attached client, by `type`."""
