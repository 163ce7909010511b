"""Takes websockets in at the door, before aiohttp has made anything of them.

Most connections to a broker are browsers whose first words are a websocket's
handshake, whole in one piece.  For such a one aiohttp would make a protocol, two
tasks, a request and an answer, all for a connection that it then gives away.  Its
parser reads the words here; whoever is no such browser is led to aiohttp with
what was said, and answered there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDictProxy

HEADERS_MAX_BYTES = 8190
"""Of a handshake's headers; as aiohttp has it for one of them."""


class UpgradeRequest(NamedTuple):
    """A handshake, as far as it has been read.

    remote: the address it came from.  early: what was sent along behind it.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: CIMultiDictProxy[str]
    remote: str | None
    transport: asyncio.Transport
    early_data: bytes


UpgradeHandler = Callable[[UpgradeRequest], bool]
"""Takes the connection of a handshake over; False leaves it, untouched, to aiohttp."""

WELCOME: web.AppKey[UpgradeHandler] = web.AppKey("welcome", Callable)  # type: ignore[arg-type]
"""Where an application keeps who is asked at the door."""


class UpgradeAcceptor(asyncio.Protocol):
    """One connection until its first words.

    lead_on: makes aiohttp's protocol for it.  patience: seconds that it may be silent.
    silent: where it stands until it has said something.
    """

    __slots__ = ("_lead_on", "_silent", "_timer", "_transport", "_welcome")

    def __init__(
        self,
        welcome: UpgradeHandler,
        fallback: Callable[[], asyncio.Protocol],
        idle_timeout: float,
        idle_connections: set[UpgradeAcceptor],
    ) -> None:
        self._welcome = welcome
        self._lead_on = fallback
        self._transport: Any = None
        self._silent = idle_connections
        self._timer = asyncio.get_running_loop().call_later(idle_timeout, self.close)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._silent.add(self)

    def data_received(self, data: bytes) -> None:
        self._leave()
        knock = parse_upgrade(data, self._transport)
        if knock is None or not self._welcome(knock):
            protocol = self._lead_on()
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            protocol.data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()

    def close(self) -> None:
        """Close it: it has said nothing."""
        self._transport.close()

    def _leave(self) -> None:
        self._timer.cancel()
        self._silent.discard(self)


def parse_upgrade(data: bytes, transport: asyncio.Transport) -> UpgradeRequest | None:
    """The websocket's handshake that `data` begins with, whole; None for anything else."""
    if not data.startswith(b"GET /") or b"\r\n\r\n" not in data[: HEADERS_MAX_BYTES + 4]:
        return None
    loop = asyncio.get_running_loop()
    try:
        messages, upgraded, early_data = HttpRequestParser(
            BaseProtocol(loop), loop, HEADERS_MAX_BYTES
        ).feed_data(data)
    except HttpProcessingError:
        return None
    if not upgraded or len(messages) != 1 or messages[0][1] is not EMPTY_PAYLOAD:
        return None
    said = messages[0][0]
    peer = transport.get_extra_info("peername")
    return UpgradeRequest(
        said.method,
        said.url.path,
        said.url.query,
        said.headers,
        str(peer[0]) if peer else None,
        transport,
        early_data,
    )
