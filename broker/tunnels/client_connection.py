"""A client's connection: one object while it is idle, without a task, a queue or a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.connection import (
    MessageHandler,
    WebSocketConnection,
)
from broker.tunnels.client_frames import encode_close, encode_message, encode_reply
from broker.tunnels.hub import TunnelHub, TunnelLosses
from broker.tunnels.inbox_queue import WAITING_MAX, TunnelInboxQueue
from broker.tunnels.model import (
    UNAVAILABLE,
    ClosedBy,
    CloseRequest,
    MessageAnswer,
    SocketPeer,
    StoredMessage,
)

SEND_BATCH_BYTES = 64 * 1024
"""Bytes of one delivery. With one more message they fit into the send buffer."""

AWAITS_RESUME, OPENING = -1, 0
"""Values of `attachment` before a socket is attached."""


class SocketOwner(MessageHandler["ClientSocket"], Protocol):
    """The handler of connections, and what they share.

    hub: in which they are registered.  losses: records sockets whose tunnel is away.
    idle_timeout: seconds without a frame after which a connection is dropped.
    """

    hub: TunnelHub
    losses: TunnelLosses
    idle_timeout: float


class ClientSocket(WebSocketConnection):
    """A client's connection. `TunnelSocket` and `MessageSource` describe it.

    client: address and user agent, until it is attached; then None.
    full_at: when its bucket of messages is full again, in seconds of the event loop.
    quiet: sweeps since the last frame.
    """

    __slots__ = (
        "app",
        "attachment",
        "client",
        "full_at",
        "is_congested",
        "position",
        "queue",
        "quiet",
        "replay_end",
        "tunnel_id",
    )

    def __init__(
        self, owner: SocketOwner, transport: asyncio.Transport, client: SocketPeer
    ) -> None:
        super().__init__(owner, transport)
        self.client: SocketPeer | None = client
        self.tunnel_id = self.app = ""
        self.attachment = AWAITS_RESUME
        self.position = self.quiet = 0
        self.replay_end = -1
        self.full_at = 0.0
        self.is_congested = False
        self.queue: TunnelInboxQueue | None = None

    @property
    def owner(self) -> SocketOwner:
        return cast("SocketOwner", self._handler)

    @property
    def idle_timeout(self) -> float:
        return self.owner.idle_timeout

    def pause_writing(self) -> None:
        self.is_congested = True

    def resume_writing(self) -> None:
        self.is_congested = False
        self.owner.hub.wake(self.tunnel_id)

    def deliver(self, messages: Sequence[StoredMessage]) -> None:
        size = 0
        for message in messages:
            if size > SEND_BATCH_BYTES:
                return
            self.send_text(encode_message(message))
            self.position = message.offset
            size += len(message.data)

    def finish(self, why: CloseRequest) -> None:
        self.send_text(encode_close(why))
        self.close(why.code, why.reason)

    def send_text(self, text: bytes) -> None:
        self.write(frames.build_frame(frames.TEXT, text))

    def encode_reply(self, message_id: str, answer: MessageAnswer) -> bytes:
        return encode_reply(message_id, answer)

    def send_reply(self, text: bytes) -> None:
        self.send_text(text)

    def on_handled(self, waiting: int) -> None:
        if self._is_paused and waiting < WAITING_MAX:
            self.resume()

    def end(self, why: CloseRequest) -> None:
        self.owner.hub.remove(self)
        self.finish(why)

    def on_lost(self, by: ClosedBy) -> None:
        self.owner.losses.add(self.tunnel_id, self.attachment, by)

    def drop(self) -> None:
        self.owner.hub.drop(self, UNAVAILABLE, "state unavailable")

    def check(self) -> None:
        self.owner.hub.wake(self.tunnel_id)

    @property
    def is_read(self) -> bool:
        """Whether the socket is read: not while too many of its messages wait."""
        return not self._is_paused
