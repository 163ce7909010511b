"""The WebSockets of clients with a Wafer SDK.

    upgrade ──▶ timeout:N ──▶ connect callback ──▶ ping, message, close
                                                        │
    socket lost, or given up ──▶ the tunnel has ended ◀─┘

The SDK connects again after a lost socket, with another tunnel. It stops after a frame `close`,
and waits without an end after a refused upgrade. So each upgrade is accepted, and a failure only
closes the WebSocket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.frames import Message
from broker.infrastructure.transport.websocket.handshake import HTTPRequest
from broker.tunnels.attaching import Attached, TunnelAttacher
from broker.tunnels.client_connection import OPENING, SEND_BATCH_BYTES, ClientSocket
from broker.tunnels.hub import TunnelHub, TunnelLosses
from broker.tunnels.inbox import TunnelInboxes
from broker.tunnels.inbox_queue import CLOSE, ClientMessage
from broker.tunnels.model import (
    DRAINING,
    ENDED_BY_BACKEND,
    UNAVAILABLE,
    ClosedBy,
    CloseRequest,
    Opening,
    SocketPeer,
    StoredMessage,
)
from broker.tunnels.socket_handler import SocketHandler
from broker.wafer.rules import parse_frame

WAITING_MAX, WAITING_MAX_BYTES = 64, 256 * 1024
"""Messages of one client that wait, and their bytes. With more its socket is dropped: its pings
must be answered, so that it is always read."""


class WaferSocket(ClientSocket):
    """A client's connection. Its tunnel ends with it."""

    __slots__ = ()

    @property
    def sockets(self) -> WaferSockets:
        return cast("WaferSockets", self._handler)

    def deliver(self, messages: Sequence[StoredMessage]) -> None:
        size = 0
        for offset, data in messages:
            if size > SEND_BATCH_BYTES:
                break
            self.send_text(b"message:" + data)
            self.position = offset
            size += len(data)
        self.sockets.hub.ack(self, self.position)  # nothing is sent again

    def finish(self, why: CloseRequest) -> None:
        if why.code == ENDED_BY_BACKEND:
            self.send_text(b"close")
        self.close(why.code, why.reason)

    def on_lost(self, by: ClosedBy) -> None:
        if not self.sockets.inboxes.put(self, ClientMessage(end=by)):
            super().on_lost(by)

    def drop(self) -> None:
        """Close the socket. The tunnel ends when the state is available again."""
        self.sockets.hub.remove(self)
        super().on_lost(ClosedBy.NETWORK)
        self.finish(UNAVAILABLE)

    def on_handled(self, waiting: int) -> None:
        """The socket is always read."""


class WaferSockets(SocketHandler):
    """Opens tunnels for clients, and handles their frames. It is the `MessageHandler`.

    heartbeat_interval: seconds between two pings of a client.
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
        heartbeat_interval: int,
    ) -> None:
        super().__init__(
            hub=hub,
            losses=losses,
            drain=drain,
            messages_per_second=messages_per_second,
            idle_timeout=2 * heartbeat_interval,
        )
        self.inboxes = inboxes
        self._attacher = attacher
        self._greeting = frames.build_frame(frames.TEXT, b"timeout:%d" % heartbeat_interval)

    def accept(
        self,
        request: HTTPRequest,
        transport: asyncio.Transport,
        early_data: bytes,
        *,
        ticket: str,
        client: SocketPeer,
    ) -> None:
        """Answer a valid handshake."""
        socket = WaferSocket(self, transport, client)
        socket.attachment = OPENING
        socket.pause()
        socket.start(request, early_data, self._greeting)
        if self.drain.is_open:
            self.tasks.spawn("tunnel open", self.attach(socket, self._attacher.attach(ticket)))
        else:
            socket.finish(DRAINING)

    def greet(self, socket: ClientSocket, attached: Attached) -> None:
        assert socket.client is not None, "it is set until the socket is attached"
        self.inboxes.put(socket, ClientMessage(opening=Opening(*socket.client, resumed=False)))

    def on_message(self, connection: ClientSocket, message: Message) -> None:
        connection.quiet = 0
        if isinstance(message, bytes):
            return
        frame = parse_frame(message)
        if frame.type == "ping":
            connection.send_text(b"pong")
        elif frame.type == "close":
            self.inboxes.put(connection, CLOSE)
        elif frame.type == "message" and self.charge_message(connection):
            self._put(connection, frame.content.encode())

    def _put(self, socket: ClientSocket, content: bytes) -> None:
        waiting = self.inboxes.put(socket, ClientMessage(content))
        size = socket.queue.size_bytes if socket.queue is not None else 0
        if waiting > WAITING_MAX or size > WAITING_MAX_BYTES:
            self.hub.abort(socket, "waiting messages")
