"""Reads the upgrade request of a new connection, before aiohttp.

Most connections to a broker come from browsers. Such a browser sends a complete WebSocket
handshake in its first segment. aiohttp would create a protocol, two tasks, a request and a
response for a connection that it gives away at once. Here only its parser reads the
handshake. Any other connection is passed to aiohttp, with the bytes that were read.

    new connection ──▶ UpgradeAcceptor ── handshake, accepted ──▶ upgrade handler
                              │
                              └────────── anything else ────────▶ aiohttp
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDictProxy

from broker.infrastructure.transport.timer_wheel import NO_SLOT, TimerWheel

HEADERS_MAX_BYTES = 8190
"""Limit of a handshake's headers together. aiohttp has the same limit for one header."""

HEAD_END = b"\r\n\r\n"
"""The end of the last header and the blank line after it."""

TARGET_MAX, TARGETS_MAX = 64, 64
"""Characters of a target that is remembered, and how many are."""


class UpgradeRequest(NamedTuple):
    """A complete WebSocket handshake. Its rules are not checked yet.

    remote: the peer's address.  early_data: bytes that the client sent after it.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: CIMultiDictProxy[str]
    remote: str | None
    transport: asyncio.Transport
    early_data: bytes


UpgradeHandler = Callable[[UpgradeRequest], bool]
"""Takes the connection over and returns True, or returns False and leaves it to aiohttp."""

UPGRADE_HANDLER: web.AppKey[UpgradeHandler] = web.AppKey("upgrade_handler", Callable)  # type: ignore[arg-type]
"""The upgrade handler of an application."""


class UpgradeAcceptor(asyncio.Protocol):
    """A new connection until its first data.

    fallback: creates aiohttp's protocol.
    idle: the connections that have sent nothing. It closes them after `idle_timeout` seconds.
    """

    __slots__ = ("_fallback", "_idle", "_idle_timeout", "_transport", "_upgrade_handler", "slot")

    def __init__(
        self,
        upgrade_handler: UpgradeHandler,
        fallback: Callable[[], asyncio.Protocol],
        idle_timeout: float,
        idle: TimerWheel[UpgradeAcceptor],
    ) -> None:
        self._upgrade_handler = upgrade_handler
        self._fallback = fallback
        self._idle_timeout = idle_timeout
        self._idle = idle
        self._transport: Any = None
        self.slot = NO_SLOT

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._idle.schedule(self, self._idle_timeout)

    def data_received(self, data: bytes) -> None:
        self._idle.cancel(self)
        request = parse_upgrade(data, self._transport)
        if request is None or not self._upgrade_handler(request):
            protocol = self._fallback()
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            protocol.data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._idle.cancel(self)

    def close(self) -> None:
        """Close the connection, which has sent nothing."""
        self._transport.close()


class RequestTarget(NamedTuple):
    """The path and the query of a request."""

    path: str
    query: Mapping[str, str]


class UsualTargets:
    """Short targets, parsed. Nearly all clients send the same one.

    A target with a `sid` is not remembered: it is that of one client, and secret.
    """

    def __init__(self) -> None:
        self._parsed: dict[str, RequestTarget] = {}

    def __len__(self) -> int:
        return len(self._parsed)

    def parse(self, message: RawRequestMessage) -> RequestTarget:
        text = message.path
        target = self._parsed.get(text)
        if target is None:
            target = RequestTarget(message.url.path, message.url.query)
            if len(text) <= TARGET_MAX and "sid" not in target.query:
                if len(self._parsed) >= TARGETS_MAX:
                    self._parsed.clear()
                self._parsed[text] = target
        return target


_usual_targets = UsualTargets()


def parse_upgrade(data: bytes, transport: asyncio.Transport) -> UpgradeRequest | None:
    """Return the complete handshake that `data` begins with; None for anything else.

    The parser gets the head only. It would handle all requests and chunks of a read at once.
    """
    if not data.startswith(b"GET /"):
        return None
    head, head_end, early_data = data.partition(HEAD_END)
    if not head_end or len(head) > HEADERS_MAX_BYTES or b"upgrade" not in head.lower():
        return None
    loop = asyncio.get_running_loop()
    try:
        messages, is_upgrade, _ = HttpRequestParser(
            BaseProtocol(loop), loop, HEADERS_MAX_BYTES
        ).feed_data(head + head_end)
    except HttpProcessingError:
        return None
    if not is_upgrade or len(messages) != 1 or messages[0][1] is not EMPTY_PAYLOAD:
        return None
    message = messages[0][0]
    peer = transport.get_extra_info("peername")
    return UpgradeRequest(
        message.method,
        *_usual_targets.parse(message),
        message.headers,
        str(peer[0]) if peer else None,
        transport,
        early_data,
    )
