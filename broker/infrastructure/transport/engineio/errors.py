"""Responses to polling requests, and rejections of Engine.IO requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import hdrs, web


class HandshakeRejection(NamedTuple):
    """The body of a 400 response. Codes and messages are those of Socket.IO's own server."""

    code: int
    message: str


UNKNOWN_TRANSPORT = HandshakeRejection(0, "Transport unknown")

UNKNOWN_SID = HandshakeRejection(1, "Session ID unknown")

BAD_METHOD = HandshakeRejection(2, "Bad handshake method")

BAD_REQUEST = HandshakeRejection(3, "Bad request")

FORBIDDEN = HandshakeRejection(4, "Forbidden")

BAD_VERSION = HandshakeRejection(5, "Unsupported protocol version")


def text_response(body: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(text=body, headers={hdrs.CACHE_CONTROL: "no-store", **headers})


def rejection_response(
    rejection: HandshakeRejection, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.json_response(rejection._asdict(), status=400, headers=headers)
