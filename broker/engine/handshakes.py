"""What a request must be to become a session, and how one that may not is answered.

Whoever has read it, the doorman or aiohttp: `Asked` is what is looked at.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDictProxy


class Wrong(NamedTuple):
    """A request that is refused, with 400; codes and words are those of Socket.IO's own server."""

    code: int
    message: str


UNKNOWN_TRANSPORT = Wrong(0, "Transport unknown")
UNKNOWN_SID = Wrong(1, "Session ID unknown")
BAD_METHOD = Wrong(2, "Bad handshake method")
BAD_REQUEST = Wrong(3, "Bad request")
FORBIDDEN = Wrong(4, "Forbidden")
BAD_VERSION = Wrong(5, "Unsupported protocol version")

ONE_OF_EACH = (hdrs.SEC_WEBSOCKET_KEY, hdrs.SEC_WEBSOCKET_VERSION, hdrs.HOST, hdrs.UPGRADE)
"""Headers that a websocket's handshake has once: who sends two is read differently elsewhere."""


class Asked(Protocol):
    """What is looked at of a request, whoever has read it."""

    @property
    def method(self) -> str: ...

    @property
    def query(self) -> Mapping[str, str]: ...

    @property
    def headers(self) -> CIMultiDictProxy[str]: ...


class TakenOver(web.Response):
    """What aiohttp gets to see of a request whose connection is not its own any more."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None: ...


SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n"
)


def let_go(protocol: RequestHandler) -> bytes:
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


def is_handshake(request: Asked) -> bool:
    """Whether the request opens a websocket by the rules of RFC 6455, section 4.2.1."""
    headers = request.headers
    if request.method != hdrs.METH_GET or any(len(headers.getall(n, ())) != 1 for n in ONE_OF_EACH):
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


def text(body: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(text=body, headers={hdrs.CACHE_CONTROL: "no-store", **headers})


def refusal(wrong: Wrong, headers: Mapping[str, str] | None = None) -> web.Response:
    body = {"code": wrong.code, "message": wrong.message}
    return web.json_response(body, status=400, headers=headers)
