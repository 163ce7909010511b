"""A Socket.IO client for load: one WebSocket, one namespace, no reconnect.

It supports only the packets that a server sends to such a client: Engine.IO 4 and Socket.IO 5.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from bench.targets import Pings
from bench.websocket import ProtocolError, WebSocket

__all__ = ["Client", "EventHandler", "ProtocolError"]

PATH = "/socket.io/?EIO=4&transport=websocket"

EventHandler = Callable[[str, Any, float], None]
"""Called with the name of an event, its payload and the time.perf_counter() of its arrival."""


class Client(WebSocket):
    """One socket in one namespace. `on_event` gets the events of the server."""

    def __init__(self, *, namespace: str, auth: str, on_event: EventHandler) -> None:
        super().__init__(PATH)
        self._prefix = "" if namespace == "/" else f"{namespace},"
        self._auth = auth
        self._on_event = on_event
        self._next_id = 0
        self._acks: dict[int, asyncio.Future[Any]] = {}
        self._ping_interval = 0.0
        self._ping_due = math.inf
        self._pings = Pings(0, 0.0)

    @classmethod
    async def join(cls, url: str, *, namespace: str, auth: str, on_event: EventHandler) -> Self:
        """Connect to the server at `url` and join `namespace` with `auth`, which is JSON.

        Raises ProtocolError or OSError.
        """
        return await cls(namespace=namespace, auth=auth, on_event=on_event).open(url)

    async def call(self, event: str, payload: str) -> Any:
        """Emit an event with `payload`, which is JSON, and wait for its acknowledgement."""
        self._next_id += 1
        answer = self._acks[self._next_id] = self._loop.create_future()
        self._send(f'42{self._prefix}{self._next_id}["{event}",{payload}]')
        return await answer

    def close(self) -> None:
        """Disconnect and close, as a browser does when its page closes."""
        self._on_event = _ignore_event
        if self.is_open:
            self._send(f"41{self._prefix}")
        super().close()

    def drop(self) -> None:
        """Close the TCP connection without a close frame, as after a network failure."""
        self._on_event = _ignore_event
        self._transport.abort()

    @property
    def pings(self) -> Pings:
        received, delay = self._pings
        return Pings(received, max(delay, time.perf_counter() - self._ping_due))

    def _pending(self) -> Iterable[asyncio.Future[Any]]:
        return self._acks.values()

    def _on_text(self, text: str) -> None:
        self._packet(text)

    def _packet(self, packet: str) -> None:
        if packet == "2":
            self._pings = self.pings._replace(received=self._pings.received + 1)
            self._expect_ping()
            self._send("3")
        elif packet.startswith("0"):
            self._ping_interval = json.loads(packet[1:])["pingInterval"] / 1000
            self._expect_ping()
            self._send(f"40{self._prefix}{self._auth}")
        elif packet[:2] in ("40", "42", "43"):
            body = packet[2:].removeprefix(self._prefix)
            {"0": self._join, "2": self._event, "3": self._ack}[packet[1]](body)
        elif packet.startswith(("1", "41", "44")):
            self._fail(f"refused: {packet}")

    def _expect_ping(self) -> None:
        self._ping_due = time.perf_counter() + self._ping_interval

    def _join(self, body: str) -> None:
        self._ready.set_result(None)

    def _event(self, body: str) -> None:
        event, *arguments = json.loads(body)
        self._on_event(event, arguments[0] if arguments else None, time.perf_counter())

    def _ack(self, body: str) -> None:
        number, _, arguments = body.partition("[")
        future = self._acks.pop(int(number))
        if not future.done():
            future.set_result(json.loads(f"[{arguments}")[0])


def _ignore_event(event: str, payload: Any, at: float) -> None:
    """The event handler of a closed socket."""
