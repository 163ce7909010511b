"""The messages of one client that wait for their callback."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from broker.tunnels.model import ClosedBy, CloseRequest, MessageAnswer, Opening

WAITING_MAX = 16
"""Messages of one tunnel that wait, with the one in flight. Then its socket is not read."""


class ClientMessage(NamedTuple):
    """data: JSON text in UTF-8.  id: the client's; empty if it has none.

    opening: calls the backend with `TunnelCallbacks.open` instead. If the backend does not accept
        the tunnel, the socket is closed.
    end: ends the tunnel instead.
    """

    data: bytes = b""
    id: str = ""
    opening: Opening | None = None
    end: ClosedBy | None = None


CLOSE = ClientMessage(end=ClosedBy.CLIENT)
"""The client's wish to end the tunnel, after its messages."""


class MessageSource(Protocol):
    """The socket that a queue belongs to."""

    tunnel_id: str
    attachment: int
    queue: TunnelInboxQueue | None

    def encode_reply(self, message_id: str, answer: MessageAnswer) -> bytes:
        """Return the frame's text with the reply to a message."""

    def send_reply(self, text: bytes) -> None:
        """Send `encode_reply`. Does nothing if the socket is closed."""

    def on_handled(self, waiting: int) -> None:
        """A message was handled; `waiting` others wait."""

    def end(self, why: CloseRequest) -> None:
        """Close the socket. The tunnel has ended."""

    def drop(self) -> None:
        """Close the socket. The tunnel is away, because its end could not be stored."""

    def check(self) -> None:
        """The attachment is not the current one: read why."""


class TunnelInboxQueue:
    """The waiting messages of one tunnel, the first of which is in flight."""

    __slots__ = ("_messages", "_on_end", "is_stopped", "task")

    def __init__(self) -> None:
        self._messages: deque[ClientMessage] = deque()
        self.is_stopped = False
        self._on_end: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def size_bytes(self) -> int:
        """Bytes of the messages."""
        return sum(len(message.data) for message in self._messages)

    def append(self, message: ClientMessage) -> None:
        if not self.is_stopped:
            self._messages.append(message)

    def first(self) -> ClientMessage | None:
        return self._messages[0] if self._messages else None

    def pop(self) -> None:
        if self._messages:
            self._messages.popleft()

    def stop(self, on_end: Callable[[], None] | None = None) -> None:
        """Drop the waiting messages. The one in flight ends without repeats.

        on_end: called after it.
        """
        self.is_stopped = True
        self._on_end = on_end
        self._messages.clear()

    def cancel(self) -> None:
        """Drop all messages, also the one in flight."""
        self.stop()
        if self.task is not None:
            self.task.cancel()

    def end(self) -> None:
        """No message is in flight any longer: call `on_end`."""
        if self._on_end is not None:
            self._on_end()
