"""A connection of HTTP/1.1 that carries one request at a time."""

from __future__ import annotations

import asyncio
from typing import cast

from broker.infrastructure.outbound.http import HTTPResponse, ResponseTooLarge
from broker.infrastructure.outbound.http_response import MalformedResponse, ResponseParser


class ConnectionLost(OSError):
    """The server closed the connection before the response was complete.

    has_begun: whether a byte of the response had arrived.
    """

    def __init__(self, *, has_begun: bool) -> None:
        super().__init__("the server closed the connection")
        self.has_begun = has_begun


class KeepAliveConnection(asyncio.Protocol):
    """Use `exchange` again only while `is_reusable`.

    idle_since: when the last response was complete, in the event loop's time.
    """

    __slots__ = ("_parser", "_response", "_transport", "idle_since", "is_reusable")

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.is_reusable = True
        self.idle_since = 0.0
        self._parser: ResponseParser | None = None
        self._response: asyncio.Future[HTTPResponse] | None = None

    async def exchange(self, message: bytes, *, max_bytes: int) -> HTTPResponse:
        """Send a request and return the response.

        Raises ConnectionLost, MalformedResponse, ResponseTooLarge, or the error of `fail`. The
        connection is closed then, and also if the caller is cancelled.
        """
        loop = asyncio.get_running_loop()
        if not self.is_reusable or self._transport.is_closing():
            raise ConnectionLost(has_begun=False)
        self.is_reusable = False
        self._parser = parser = ResponseParser(max_bytes)
        self._response = loop.create_future()
        self._transport.write(message)
        try:
            response = await self._response
            # Between the end of the response and now, the connection can have been lost.
            self.is_reusable = parser.is_reusable and not self._transport.is_closing()
            return response
        finally:
            self._parser = self._response = None
            self.idle_since = loop.time()
            if not self.is_reusable:
                self.close()

    def fail(self, error: Exception) -> None:
        """End the exchange in progress with `error`."""
        if self._response is not None and not self._response.done():
            self._response.set_exception(error)

    def close(self) -> None:
        self.is_reusable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has its own classes

    def data_received(self, data: bytes) -> None:
        response, parser = self._response, self._parser
        if response is None or parser is None or response.done():
            self.close()  # no request has this response
            return
        try:
            complete = parser.feed(data)
        except (MalformedResponse, ResponseTooLarge) as error:
            response.set_exception(error)
        else:
            if complete is not None:
                response.set_result(complete)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_reusable = False
        response, parser = self._response, self._parser
        if response is None or parser is None or response.done():
            return
        try:
            complete = parser.feed_end() if exc is None else None
        except (MalformedResponse, ResponseTooLarge):
            complete = None
        if complete is None:
            response.set_exception(ConnectionLost(has_begun=parser.has_begun))
        else:
            response.set_result(complete)
