"""Cross-origin requests (CORS)."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import hdrs, web

from broker.infrastructure.api.responses import ResponseHook
from broker.infrastructure.transport.websocket.handshake import origin_of


def allow_cors(is_origin_allowed: Callable[[str], bool]) -> ResponseHook:
    """Let pages of allowed origins read responses under /oauth, without cookies."""

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        origin = origin_of(request.headers)
        if origin and "/oauth/" in request.path and is_origin_allowed(origin):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.VARY] = hdrs.ORIGIN

    return prepare


def preflight_response(method: str) -> web.Response:
    """Return the answer to a preflight request: allow the method and JSON or form bodies."""
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: method,
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "content-type",
        hdrs.ACCESS_CONTROL_MAX_AGE: "600",
    }
    return web.Response(status=204, headers=headers)
