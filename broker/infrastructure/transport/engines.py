"""The two engines: the broker's transport, and the fallback."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

import structlog
from aiohttp import web

from broker.infrastructure.transport.compat import missing_attributes
from broker.infrastructure.transport.rate_limit import TransportRateLimiter
from broker.infrastructure.transport.settings import ENGINES
from broker.infrastructure.transport.socketio.server import SocketIOServer

log = structlog.get_logger()


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
