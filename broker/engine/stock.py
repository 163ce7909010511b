"""python-engineio's own transport on aiohttp, with its rough edges taken off.

What stock does not do and a server that faces the internet must: no
permessage-deflate (92 KB a socket), a deadline for a socket that joins nothing,
an end for one that sends nonsense or does not read, and a real close.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import engineio
import socketio
from aiohttp import web
from engineio.async_drivers import aiohttp as driver

JOIN_WITHIN = 5.0
"""Seconds in which a socket must have joined a namespace."""

FRAME_MAX_BYTES = 64 * 1024
"""Longest message; a longer one closes the socket."""

BACKLOG_MAX = 64
"""Packets that may wait for a slow reader; one that lets more pile up is dropped."""

BINARY_PACKETS = ("5", "6")

NO_EVENTS = frozenset({"connect", "disconnect", "*"})
"""Names of handlers that stock would let a client call as if they were its events."""

# python-engineio logs packets, which hold secrets; what matters is logged by the edge.
silent = logging.getLogger("broker.engine")
silent.setLevel(logging.CRITICAL + 1)


class _PlainWebSocket(driver.WebSocket):  # type: ignore[misc]  # python-engineio has no types
    """The driver's websocket without compression."""

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        self._sock = web.WebSocketResponse(
            compress=False, max_msg_size=self.server.max_http_buffer_size
        )
        await self._sock.prepare(environ["aiohttp.request"])
        self.environ = environ
        socket = self.handler.__self__  # the Engine.IO socket that this one carries
        socket.transport = environ["aiohttp.request"].transport
        try:
            await self.handler(self)
        except (ValueError, KeyError):  # no Engine.IO packet: stock leaves the socket half open
            await _close(socket)
        return self._sock


async def _close(socket: Any) -> None:
    """Close an Engine.IO socket now, without waiting for it to read what is left."""
    transport = getattr(socket, "transport", None)
    if transport is not None:
        transport.abort()
    await socket.close(wait=False, abort=True)
    socket.queue.put_nowait(None)  # ends a pending poll and the writer


class _Engine(engineio.AsyncServer):  # type: ignore[misc]
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._async: dict[str, Any] = {**self._async, "websocket": _PlainWebSocket}

    async def disconnect(self, sid: str) -> None:
        # Stock waits here until the client has read everything, which may be never.
        socket = self.sockets.pop(sid, None)
        if socket is not None:
            await _close(socket)

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await super().handle_request(request)
        except (ValueError, KeyError, UnboundLocalError):
            # What stock trips over: a session that closes under its own request, bytes of no text.
            return web.Response(status=400, text='"Bad Request"')
        return response


class Server(socketio.AsyncServer):  # type: ignore[misc]
    """allow_origin: says whether pages of an Origin may connect at all.

    Events of one socket are handled one after the other, in the order they came.
    """

    def __init__(self, *, allow_origin: Callable[[str], bool]) -> None:
        super().__init__(
            async_mode="aiohttp",
            async_handlers=False,
            namespaces=[],
            cors_allowed_origins=lambda origin, environ: bool(origin) and allow_origin(origin),
            cors_credentials=False,
            max_http_buffer_size=FRAME_MAX_BYTES,
            http_compression=False,
            logger=silent,
            engineio_logger=silent,
        )
        self.namespaces: list[
            str
        ] = []  # none but those with handlers; an empty argument would mean "/"

    def _engineio_server_class(self) -> type[_Engine]:
        return _Engine

    async def close(self) -> None:
        """Close every socket and stop the background task."""
        for socket in list(self.eio.sockets.values()):
            await _close(socket)
        await self.shutdown()

    async def _drop(self, eio_sid: str) -> None:
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None:
            await _close(socket)

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self._expect_to_join(eio_sid)

    async def _handle_disconnect(
        self, eio_sid: str, namespace: str, reason: str | None = None
    ) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        if eio_sid in self.environ and not self._joined(eio_sid):
            self._expect_to_join(eio_sid)

    def _expect_to_join(self, eio_sid: str) -> None:
        asyncio.get_running_loop().call_later(JOIN_WITHIN, self._check_joined, eio_sid)

    def _check_joined(self, eio_sid: str) -> None:
        if eio_sid in self.environ and not self._joined(eio_sid):
            self.start_background_task(self._drop, eio_sid)

    def _joined(self, eio_sid: str) -> bool:
        return any(
            self.manager.sid_from_eio_sid(eio_sid, namespace) is not None
            for namespace in self.manager.get_namespaces()
        )

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        # No event of ours is binary, and stock collects attachments without bound.
        nonsense = isinstance(data, bytes) or data[:1] in BINARY_PACKETS
        try:
            if not nonsense:
                await super()._handle_eio_message(eio_sid, data)
        except Exception:  # whatever a packet trips over, the socket is done
            nonsense = True
        if nonsense:
            await self._drop(eio_sid)

    async def _handle_event(self, eio_sid: str, namespace: str, id: int | None, data: Any) -> None:
        if not isinstance(data, list) or not data or data[0] in NO_EVENTS:
            raise ValueError("not an event")
        await super()._handle_event(eio_sid, namespace, id, data)

    async def _send_packet(self, eio_sid: str, packet: Any) -> None:
        await super()._send_packet(eio_sid, packet)
        await self._drop_slow(eio_sid)

    async def _send_eio_packet(self, eio_sid: str, packet: Any) -> None:
        await super()._send_eio_packet(eio_sid, packet)
        await self._drop_slow(eio_sid)

    async def _drop_slow(self, eio_sid: str) -> None:
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None and socket.queue.qsize() > BACKLOG_MAX:
            await self._drop(eio_sid)
