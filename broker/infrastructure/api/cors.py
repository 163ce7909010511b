"""Cross-origin requests (CORS)."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aiohttp import hdrs, web

from broker.infrastructure.api.responses import ResponseHook
from broker.infrastructure.transport.websocket.handshake import origin_of


def allow_cors(
    is_origin_allowed: Callable[[str], bool], endpoints: Collection[str]
) -> ResponseHook:
    """Let pages of allowed origins read responses of `/oauth/<endpoint>`, without cookies."""

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        origin = origin_of(request.headers)
        folder, _, name = request.path.rpartition("/")
        is_readable = folder.endswith("/oauth") and name in endpoints
        if origin and is_readable and is_origin_allowed(origin):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.VARY] = hdrs.ORIGIN

    return prepare


def preflight_response(methods: str) -> web.Response:
    """Return the answer to a preflight request: allow the methods and the usual headers."""
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: methods,
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "authorization, content-type, dpop",
        hdrs.ACCESS_CONTROL_MAX_AGE: "600",
    }
    return web.Response(status=204, headers=headers)
