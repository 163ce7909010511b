"""The clients of tunnels, and the backend that receives their messages.

    client ── message ──▶ server ── callback ──▶ backend
    client ◀── message ── server ◀─── push ───── backend

The backend is part of the load generator: its CPU does not count.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit

from standardwebhooks import Webhook

from bench.keepalive import Answer, Connection, content_length
from bench.load import close_all
from bench.websocket import ProtocolError, WebSocket
from tests.support.app_admin import TOKEN
from tests.support.webhook import SECRET

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class TunnelClient(WebSocket):
    """A client of a tunnel. It has at most one message in flight."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._echo: asyncio.Future[float] | None = None

    async def echo(self, data: object) -> float:
        """Send a message, and return the seconds until the backend's push of it has arrived."""
        self._echo = self._loop.create_future()
        start = time.perf_counter()
        self._send(json.dumps({"type": "message", "data": data}))
        return await self._echo - start

    def _pending(self) -> Iterable[asyncio.Future[Any]]:
        return [] if self._echo is None else [self._echo]

    def _on_text(self, text: str) -> None:
        frame = json.loads(text)
        if frame["type"] == "open":
            self._ready.set_result(None)
        elif frame["type"] == "message" and self._echo is not None and not self._echo.done():
            self._echo.set_result(time.perf_counter())
        elif frame["type"] == "close":
            self._fail(f"closed: {frame['reason']}")


class Backend:
    """Opens tunnels at the server at `url`, and pushes each message back to its tunnel."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free: deque[Connection] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.callbacks: set[asyncio.Transport] = set()
        self.webhook = Webhook(SECRET)

    async def open(self, number: int = 0) -> TunnelClient:
        """Return the client of a new tunnel. Raises ProtocolError."""
        created = await self._post("/tunnels", {"app": "default"})
        return await TunnelClient(urlsplit(created.body["url"]).path).open(self._url)

    def handle(self, fields: dict[str, Any]) -> bytes:
        """Return the response to a callback."""
        data = fields["data"]
        if fields["type"] == "tunnel.verify":
            body = json.dumps({"challenge": data["challenge"]}).encode()
            return OK % (len(body), body)
        if fields["type"] == "tunnel.message":
            task = asyncio.create_task(self._push(data["tunnel_id"], data["data"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return NO_CONTENT

    def close(self) -> None:
        close_all(self._free)
        close_all(self.callbacks)
        for task in self._tasks:
            task.cancel()

    async def _push(self, tunnel_id: str, data: object) -> None:
        await self._post(f"/tunnels/{tunnel_id}/push", {"app": "default", "data": data})

    async def _post(self, path: str, body: dict[str, object]) -> Answer:
        connection = self._free.popleft() if self._free else await self._connect()
        answer = await connection.post(path.encode(), json.dumps(body).encode())
        self._free.append(connection)
        if answer.status not in (200, 201):
            raise ProtocolError(f"{path}: {answer.status} {answer.body}")
        return answer

    async def _connect(self) -> Connection:
        connection = await Connection.open(self._url)
        connection.authorize(TOKEN)
        return connection


class CallbackConnection(asyncio.Protocol):
    """A connection on which a server sends callbacks. It verifies their signatures."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._buffer = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._backend.callbacks.add(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._backend.callbacks.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or len(body) < content_length(head):
            return
        self._buffer.clear()
        lines = (line.partition(":") for line in head.decode().split("\r\n")[1:])
        headers = {name.lower(): value.strip() for name, _, value in lines}
        fields = self._backend.webhook.verify(bytes(body), headers)
        self._transport.write(self._backend.handle(fields))


@asynccontextmanager
async def serving_backend(url: str, port: int) -> AsyncIterator[Backend]:
    """A backend of the server at `url`, with its callbacks at `port`."""
    backend = Backend(url)
    server = await asyncio.get_running_loop().create_server(
        lambda: CallbackConnection(backend), "127.0.0.1", port
    )
    try:
        yield backend
    finally:
        backend.close()
        server.close()
