"""Valid Engine.IO requests, and CORS."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping

from aiohttp import hdrs

from broker.infrastructure.transport.engineio.errors import (
    BAD_METHOD,
    BAD_VERSION,
    FORBIDDEN,
    UNKNOWN_SID,
    UNKNOWN_TRANSPORT,
    HandshakeRejection,
)
from broker.infrastructure.transport.websocket.handshake import HTTPRequest, origin_of


class RequestRules:
    """Checks requests.

    transports: the names of the transports that clients may use.
    sids: the sids of present sessions.
    """

    def __init__(
        self,
        *,
        is_origin_allowed: Callable[[str], bool],
        transports: Collection[str],
        sids: Container[str],
    ) -> None:
        self._is_origin_allowed = is_origin_allowed
        self._transports = transports
        self._sids = sids

    def rejection(self, request: HTTPRequest) -> HandshakeRejection | None:
        """Why the request is invalid; None if it is valid."""
        query, origin = request.query, origin_of(request.headers)
        if origin and not self._is_origin_allowed(origin):
            return FORBIDDEN
        if request.method == hdrs.METH_OPTIONS:
            return None
        if query.get("EIO") != "4":
            return BAD_VERSION
        if query.get("transport") not in self._transports:
            return UNKNOWN_TRANSPORT
        if "sid" in query and query["sid"] not in self._sids:
            return UNKNOWN_SID
        methods = (hdrs.METH_GET,) if "sid" not in query else (hdrs.METH_GET, hdrs.METH_POST)
        return None if request.method in methods else BAD_METHOD

    def cors_headers(self, request: HTTPRequest) -> Mapping[str, str]:
        """Headers that let a page of an allowed Origin read the response, without cookies."""
        origin = origin_of(request.headers)
        if not origin or not self._is_origin_allowed(origin):
            return {}
        return {
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST",
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "content-type",
            hdrs.VARY: hdrs.ORIGIN,
        }
