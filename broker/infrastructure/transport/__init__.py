"""Socket.IO over WebSocket and HTTP long polling.

websocket/     WebSocket connections (RFC 6455); other features may use it by itself
engineio/      Engine.IO 4 sessions
socketio/      Socket.IO 5: python-socketio with stricter rules and its own room manager
fallback/      python-engineio's transport, hardened
compat.py      private names of other packages that the above use
rate_limit.py  limits what a socket and an address send
step_queue.py  shares the event loop between connections that send much

`websocket` imports no other folder, `engineio` imports `websocket`, `socketio` imports both.
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
from broker.infrastructure.transport.socketio.server import SocketIOServer

log = structlog.get_logger()

ENGINES: Mapping[str, str] = {
    "own": "broker.infrastructure.transport.socketio.native:NativeServer",
    "stock": "broker.infrastructure.transport.fallback.server:FallbackServer",
}


def open_server(
    engine: str,
    *,
    is_origin_allowed: Callable[[str], bool],
    describe_request: Callable[[web.Request], Any],
    rate_limiter: TransportRateLimiter | None = None,
) -> SocketIOServer:
    """Return the Socket.IO server of an engine in `ENGINES`.

    If `own` cannot work with the installed packages, it is `stock`, with a warning in the log.
    """
    if engine == "own" and (missing := missing_attributes()):
        log.warning("transport fallback used", missing=missing)
        engine = "stock"
    server: SocketIOServer = resolve_name(ENGINES[engine])(
        is_origin_allowed=is_origin_allowed,
        describe_request=describe_request,
        rate_limiter=rate_limiter,
    )
    return server


class ConnectionRefused(_ConnectionRefused):  # type: ignore[misc]  # python-socketio has no types
    """Raised by a CONNECT handler to refuse a client.

    The client's `connect_error` has the error description as message and `body` as data.
    """

    def __init__(self, body: Mapping[str, str | int]) -> None:
        super().__init__(body["error_description"], dict(body))
