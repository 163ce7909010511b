"""HTTP responses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from aiohttp import web

from broker.errors import BrokerError
from broker.infrastructure.codec import encode

Payload = Mapping[str, object]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ResponseHook = Callable[[web.Request, web.StreamResponse], Awaitable[object]]
"""Changes a response before it is sent."""


class StreamedResponse(web.Response):
    """A response from a generator, which is closed at the end, also if the client has left.

    aiohttp drops the generator of a client that has left, and its `finally` blocks then wait for
    the garbage collector.
    """

    def __init__(self, chunks: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        super().__init__(body=chunks, headers=headers)
        self._chunks = chunks

    async def write_eof(self, data: bytes = b"") -> None:
        try:
            await super().write_eof(data)
        finally:
            await self._chunks.aclose()


JSON_HEADERS = {"Content-Type": "application/json; charset=utf-8"}


class JSONResponse(web.Response):
    """A response with a body of known length, neither chunked nor compressed."""


def json_response(
    body: object, headers: Mapping[str, str] | None = None, *, status: int = 200
) -> JSONResponse:
    """Return `body` as a JSON response."""
    return JSONResponse(
        body=encode(body), status=status, headers={**JSON_HEADERS, **(headers or {})}
    )


def error_response(
    error: BrokerError, *, status: int | None = None, scheme: str | None = None
) -> web.Response:
    """Return the error as a response.  status, scheme: override those of the error class."""
    status = status or error.status
    headers = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if status == 401:
        headers["WWW-Authenticate"] = scheme or error.auth_scheme
    return json_response(error.body(), headers, status=status)


FIXED_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Server": "scan-login",  # hides the versions of the libraries
}
"""Sent with every response."""


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add `FIXED_HEADERS`."""
    response.headers.update(FIXED_HEADERS)


def no_store_response(body: Payload, status: int = 200) -> web.Response:
    """Return a JSON response that no cache stores."""
    return json_response(body, {"Cache-Control": "no-store", "Pragma": "no-cache"}, status=status)
