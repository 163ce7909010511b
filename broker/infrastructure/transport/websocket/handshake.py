"""The opening handshake (RFC 6455, section 4.2), and takeover of an aiohttp connection."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Protocol

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDictProxy

SINGLE_HEADERS = (hdrs.SEC_WEBSOCKET_KEY, hdrs.SEC_WEBSOCKET_VERSION, hdrs.HOST, hdrs.UPGRADE)
"""Headers that a handshake has exactly once. A proxy and a server may each use a different one
of two."""

KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
"""16 bytes in BASE64."""

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

SWITCHING_PROTOCOLS = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n"
)


class HTTPRequest(Protocol):
    """The parts of a request that the handshake reads. aiohttp's requests have them too."""

    @property
    def method(self) -> str: ...

    @property
    def query(self) -> Mapping[str, str]: ...

    @property
    def headers(self) -> CIMultiDictProxy[str]: ...


class DetachedResponse(web.Response):
    """The response to return to aiohttp after `detach`. It writes nothing."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None: ...


def is_websocket_handshake(request: HTTPRequest) -> bool:
    """Whether the request opens a WebSocket by the rules of section 4.2.1."""
    headers = request.headers
    if request.method != hdrs.METH_GET or any(
        len(headers.getall(name, ())) != 1 for name in SINGLE_HEADERS
    ):
        return False
    connection = {word.strip().lower() for word in headers.get(hdrs.CONNECTION, "").split(",")}
    return (
        headers[hdrs.UPGRADE].lower() == "websocket"
        and "upgrade" in connection
        and headers[hdrs.SEC_WEBSOCKET_VERSION] == "13"
        and KEY.fullmatch(headers[hdrs.SEC_WEBSOCKET_KEY]) is not None
    )


def build_response(request: HTTPRequest, subprotocol: str = "") -> bytes:
    """Return the 101 response to a valid handshake.

    subprotocol: echoed if the client offers it (section 4.2.2).
    """
    response = SWITCHING_PROTOCOLS % accept_key(request.headers[hdrs.SEC_WEBSOCKET_KEY].encode())
    if subprotocol and subprotocol in _offered_subprotocols(request):
        response += f"{hdrs.SEC_WEBSOCKET_PROTOCOL}: {subprotocol}\r\n".encode()
    return response + b"\r\n"


def _offered_subprotocols(request: HTTPRequest) -> set[str]:
    offers = request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ())
    return {word.strip() for word in ",".join(offers).split(",")}


def accept_key(key: bytes) -> bytes:
    """Return `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


def detach(protocol: RequestHandler) -> bytes:
    """Remove a connection from aiohttp. Return the bytes that it read after the request."""
    early_data: bytes = protocol._message_tail
    protocol.transport = None  # otherwise aiohttp closes it after the response
    protocol.force_close()
    protocol.connection_lost(None)
    return early_data


def origin_of(headers: CIMultiDictProxy[str]) -> str | None:
    """The page's Origin; None if the client is not a page."""
    return joined_header(headers, hdrs.ORIGIN)


def joined_header(headers: CIMultiDictProxy[str], name: str) -> str | None:
    """The value of a header; None without it.

    Several values are joined, as proxies join them. The result then equals no allowed value.
    """
    values = headers.getall(name, ())
    return ", ".join(values) if values else None
