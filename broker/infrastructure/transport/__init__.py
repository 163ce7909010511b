"""The transport under python-socketio.

own.py       python-socketio over an engine of our own:
  doorman.py   takes websockets in before aiohttp has made anything of them
  sessions.py  Engine.IO: handshakes, polling, upgrades, messages in order
  handshakes.py  what a request must be, and how it is refused
  sockets.py   a websocket and a long-polling session, nothing else for each
  frames.py    RFC 6455, without any I/O
  turns.py     shares the event loop between sockets that send much
  rates.py     how much a socket and an address may send
  wheel.py     one timer for all heartbeats
  rooms.py     who is in which namespace and room
  names.py     what of other packages it leans on
stock.py     python-engineio's transport, to fall back on
strict.py    what both have in common: python-socketio, stricter

`ConnectionRefused` is what a CONNECT handler raises to turn a socket away with an error body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

import structlog
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as _ConnectionRefused

from broker.infrastructure.transport.compat import missing_attributes
from broker.infrastructure.transport.rate_limit import TransportRateLimiter
from broker.infrastructure.transport.socketio.server import SocketIOServer as Server

log = structlog.get_logger()

__all__ = [
    "ENGINES",
    "WELCOME",
    "ClientLimits",
    "ConnectionRefused",
    "Server",
    "TransportRateLimiter",
    "UpgradeAcceptor",
    "UpgradeHandler",
    "open_server",
    "origin_of",
]

ENGINES: Mapping[str, str] = {
    "own": "broker.infrastructure.transport.socketio.native:NativeServer",
    "stock": "broker.infrastructure.transport.fallback:FallbackServer",
}


def open_server(
    engine: str,
    *,
    is_origin_allowed: Callable[[str], bool],
    describe_request: Callable[[web.Request], Any],
    rates: TransportRateLimiter | None = None,
) -> Server:
    """python-socketio's server over the `engine` of that name in `ENGINES`.

    The stock one in place of our own, with a warning, where that could not work.
    """
    if engine == "own" and (lacking := missing_attributes()):
        log.warning(
            "falling back on the stock engine: other packages have changed", lacking=lacking
        )
        engine = "stock"
    server: Server = resolve_name(ENGINES[engine])(
        is_origin_allowed=is_origin_allowed, describe_request=describe_request, rates=rates
    )
    return server


class ConnectionRefused(_ConnectionRefused):  # type: ignore[misc]  # python-socketio has no types
    """The client sees `connect_error` with the description as message and `body` as data."""

    def __init__(self, body: Mapping[str, str | int]) -> None:
        super().__init__(body["error_description"], dict(body))
