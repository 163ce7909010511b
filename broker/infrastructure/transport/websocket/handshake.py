"""What a request must be to become a session, and how one that may not is answered.

Whoever has read it, the doorman or aiohttp: `HTTPRequest` is what is looked at.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Mapping
from typing import Protocol

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDictProxy

SINGLE_HEADERS = (hdrs.SEC_WEBSOCKET_KEY, hdrs.SEC_WEBSOCKET_VERSION, hdrs.HOST, hdrs.UPGRADE)
"""Headers that a websocket's handshake has once: who sends two is read differently elsewhere."""


class HTTPRequest(Protocol):
    """What is looked at of a request, whoever has read it."""

    @property
    def method(self) -> str: ...

    @property
    def query(self) -> Mapping[str, str]: ...

    @property
    def headers(self) -> CIMultiDictProxy[str]: ...


class DetachedResponse(web.Response):
    """What aiohttp gets to see of a request whose connection is not its own any more."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None: ...


SWITCHING_PROTOCOLS = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n"
)


def detach(protocol: RequestHandler) -> bytes:
    """Have aiohttp forget a connection; what it has read of it beyond the request."""
    early: bytes = protocol._message_tail
    protocol.transport = None  # or it would be closed with the request
    protocol.force_close()
    protocol.connection_lost(None)
    return early


def origin_of(headers: CIMultiDictProxy[str]) -> str | None:
    """The page's Origin; None for a client that is no page.

    Several are joined, as proxies join them, and so match no Origin that may come.
    """
    origins = headers.getall(hdrs.ORIGIN, ())
    return ", ".join(origins) if origins else None


def is_websocket_handshake(request: HTTPRequest) -> bool:
    """Whether the request opens a websocket by the rules of RFC 6455, section 4.2.1."""
    headers = request.headers
    if request.method != hdrs.METH_GET or any(
        len(headers.getall(n, ())) != 1 for n in SINGLE_HEADERS
    ):
        return False
    connection = {word.strip().lower() for word in headers.get(hdrs.CONNECTION, "").split(",")}
    return (
        headers[hdrs.UPGRADE].lower() == "websocket"
        and "upgrade" in connection
        and headers[hdrs.SEC_WEBSOCKET_VERSION] == "13"
        and _is_key(headers[hdrs.SEC_WEBSOCKET_KEY])
    )


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) == 16
    except (NoBase64, ValueError):
        return False
