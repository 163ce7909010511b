"""A server whose answers a test writes byte by byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Answer = Callable[["RawRequest"], Awaitable[None]]


class RawRequest:
    """A request.  connection: 1 for the server's first connection.

    head: the request line and the fields.
    """

    def __init__(
        self, connection: int, head: bytes, body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        self.connection = connection
        self.head = head
        self.body = body
        self.writer = writer

    async def write(self, *parts: bytes) -> None:
        """Send the parts in separate segments."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)


@dataclass
class RawServer:
    """answer: writes the answer to a request; the connection stays open after it."""

    port: int
    answer: Answer
    requests: list[RawRequest] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                request = RawRequest(number, head, await reader.readexactly(length), writer)
                self.requests.append(request)
                await self.answer(request)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(
    answer: Answer, context: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve on loopback until the block ends."""
    raw = RawServer(0, answer)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=context)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
