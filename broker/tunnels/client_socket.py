"""The native frames of clients, over a WebSocket.

    ticket in the path ──▶ opening ──▶ open ──▶ message, ack, ping, close
    no ticket ──▶ first frame: resume ─┘

An idle tunnel is one `ClientSocket`: no task, queue or timer belongs to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.transport.websocket.frames import Message
from broker.infrastructure.transport.websocket.handshake import HTTPRequest
from broker.tunnels.attaching import Attached, ResumeRequest, TunnelAttacher
from broker.tunnels.client_connection import AWAITS_RESUME, OPENING, ClientSocket
from broker.tunnels.client_frames import (
    ID_MAX,
    PONG,
    SUBPROTOCOL,
    ClientFrame,
    encode_open,
    parse_frame,
)
from broker.tunnels.hub import TunnelHub, TunnelLosses
from broker.tunnels.inbox import TunnelInboxes
from broker.tunnels.inbox_queue import CLOSE, WAITING_MAX, ClientMessage
from broker.tunnels.model import (
    DRAINING,
    INVALID_FRAME,
    SocketPeer,
    is_tunnel_id,
)
from broker.tunnels.socket_handler import SocketHandler

FIRST_FRAME_TIMEOUT = 5.0
"""Seconds in which a connection without a ticket sends `resume`."""


class ClientSockets(SocketHandler):
    """Opens tunnels for clients, and handles their frames. It is the `MessageHandler`.

    ping_interval: seconds, for the clients.
    """

    def __init__(
        self,
        *,
        hub: TunnelHub,
        losses: TunnelLosses,
        attacher: TunnelAttacher,
        inboxes: TunnelInboxes,
        drain: DrainGate,
        messages_per_second: int,
        ping_interval: int,
        idle_timeout: float,
    ) -> None:
        super().__init__(
            hub=hub,
            losses=losses,
            drain=drain,
            messages_per_second=messages_per_second,
            idle_timeout=idle_timeout,
        )
        self._attacher = attacher
        self._inboxes = inboxes
        self._ping_interval = ping_interval
        self._unnamed: set[ClientSocket] = set()  # may still send `resume` in time

    async def close(self) -> None:
        for socket in self._unnamed:
            if socket.attachment == AWAITS_RESUME:
                socket.finish(DRAINING)
        await super().close()

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
        if not self.drain.is_open:
            socket.finish(DRAINING)
        elif ticket:
            opening = self._attacher.open(ticket, client)
            self.tasks.spawn("tunnel open", self.attach(socket, opening))
        else:
            self._unnamed.add(socket)
            loop = asyncio.get_running_loop()
            loop.call_later(FIRST_FRAME_TIMEOUT, self._expire, socket)

    def greet(self, socket: ClientSocket, attached: Attached) -> None:
        socket.send_text(encode_open(attached, self._ping_interval))

    # ---- MessageHandler ----

    def on_message(self, connection: ClientSocket, message: Message) -> None:
        connection.quiet = 0
        frame = parse_frame(message)
        if frame is None:
            self.refuse(connection, INVALID_FRAME)
        elif connection.attachment == AWAITS_RESUME:
            self._handle_first(connection, frame)
        else:
            handle = HANDLERS.get(frame["type"], ClientSockets._handle_unknown)
            handle(self, connection, frame)

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
            self.refuse(socket, INVALID_FRAME)
            return
        socket.attachment = OPENING
        socket.pause()
        resuming = self._attacher.resume(request, socket.client)
        self.tasks.spawn("tunnel resume", self.attach(socket, resuming))

    def _handle_message(self, socket: ClientSocket, frame: ClientFrame) -> None:
        message_id = frame.get("id", "")
        if "data" not in frame or len(message_id) > ID_MAX:
            self.refuse(socket, INVALID_FRAME)
        elif self.charge_message(socket):
            self._put(socket, ClientMessage(bytes(frame["data"]), message_id))

    def _handle_ack(self, socket: ClientSocket, frame: ClientFrame) -> None:
        self.hub.ack(socket, frame.get("offset", 0))

    def _handle_ping(self, socket: ClientSocket, frame: ClientFrame) -> None:
        socket.send_text(PONG)

    def _handle_close(self, socket: ClientSocket, frame: ClientFrame) -> None:
        self._put(socket, CLOSE)

    def _handle_unknown(self, socket: ClientSocket, frame: ClientFrame) -> None:
        self.refuse(socket, INVALID_FRAME)

    def _put(self, socket: ClientSocket, message: ClientMessage) -> None:
        if self._inboxes.put(socket, message) >= WAITING_MAX:
            socket.pause()

    def _expire(self, socket: ClientSocket) -> None:
        self._unnamed.discard(socket)
        if socket.attachment == AWAITS_RESUME:
            socket.finish(INVALID_FRAME)


FrameHandler = Callable[[ClientSockets, ClientSocket, ClientFrame], None]

HANDLERS: Mapping[str, FrameHandler] = {
    "message": ClientSockets._handle_message,
    "ack": ClientSockets._handle_ack,
    "ping": ClientSockets._handle_ping,
    "close": ClientSockets._handle_close,
}
"""Handlers of the frames of an attached client, by `type`."""
