"""A light HTTP client for load: one connection, one request at a time, JSON bodies."""

from __future__ import annotations

import asyncio
import json
import re
from functools import cache
from typing import Any, NamedTuple, Self, cast
from urllib.parse import urlsplit

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

REQUEST = (
    b"POST %b HTTP/1.1\r\n"
    b"Host: 127.0.0.1\r\n"
    b"%b"
    b"Content-Type: application/json\r\n"
    b"Content-Length: %d\r\n"
    b"\r\n"
    b"%b"
)


class Answer(NamedTuple):
    status: int
    body: Any


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Answer] | None = None
        self._bearer = b""
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, url: str) -> Self:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, *address(url))
        return connection

    async def post(self, path: bytes, body: bytes) -> Answer:
        """Send a request. Raises ConnectionError if the server closes before the answer."""
        self._answer = self._loop.create_future()
        self._transport.write(REQUEST % (path, self._bearer, len(body), body))
        return await self._answer

    def authorize(self, bearer: str) -> None:
        """Send this bearer token with all following requests."""
        self._bearer = f"Authorization: Bearer {bearer}\r\n".encode()

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("closed before the answer"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or len(body) < content_length(head):
            return
        self._buffer.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(int(head[9:12]), json.loads(body) if body else None))


@cache
def address(url: str) -> tuple[str, int]:
    """Host and port of a server's URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def content_length(head: bytes | bytearray) -> int:
    """The length of the body in the head of a request or response."""
    match = LENGTH.search(head)
    return int(match[1]) if match else 0
