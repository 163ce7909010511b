"""python-engineio's own transport on aiohttp, with its rough edges taken off.

What stock does not do and a server that faces the internet must: no
permessage-deflate (92 KB a socket), an end for a socket that joins nothing or
does not read, whole bodies, and a close that closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import engineio
from aiohttp import web
from engineio.async_drivers import aiohttp as driver

from broker.errors import InvalidRequest
from broker.infrastructure.transport.engineio.bodies import whole_body
from broker.infrastructure.transport.rate_limit import Address, TooManyPackets, TransportRateLimiter
from broker.infrastructure.transport.socketio.server import SocketIOServer, silent_logger
from broker.infrastructure.transport.turns import STEP, Turns
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.handshake import is_websocket_handshake

JOIN_TIMEOUT = 5.0
"""Seconds in which a socket must have joined a namespace, and a probe must be over."""

BACKLOG_MAX = 64
"""Packets that may wait for a slow reader; one that lets more pile up is dropped."""

CLOSE_TIMEOUT = 1.0
"""Seconds that a closed socket has to read the packet that says so."""

SEPARATOR = b"\x1e"
"""Between packets in a body of long polling."""


class _Sender:
    """An Engine.IO session as the rate limiter counts it.  polls: over long polling."""

    def __init__(self, *, polls: bool) -> None:
        self.polls = polls
        self.address: Address | None = None
        self.full_at = 0.0
        self.received = 0


class _PlainWebSocket(driver.WebSocket):  # type: ignore[misc]  # python-engineio has no types
    """The driver's websocket without compression, one to a session, closed with it."""

    async def __call__(self, environ: dict[str, Any]) -> web.StreamResponse:
        request = environ["aiohttp.request"]
        self._carries = socket = self.handler.__self__
        if getattr(socket, "transport", None) is not None:
            return web.Response(status=400, text='"Already upgrading"')
        if not is_websocket_handshake(request):
            return web.Response(status=400, text='"Bad Request"')
        socket.transport = request.transport
        self._sock = web.WebSocketResponse(
            autoping=False, compress=False, max_msg_size=self.server.max_http_buffer_size
        )
        try:
            await self._sock.prepare(request)
            await self.handler(self)
        except Exception:  # no Engine.IO packet: stock would leave the socket half open
            await _close(socket)
        finally:
            if not socket.upgraded:  # a probe that came to nothing; the session goes on polling
                socket.transport = None
                socket.upgrading = False
        return self._sock

    async def wait(self) -> str | bytes:
        within = None if self._carries.upgraded else JOIN_TIMEOUT
        async with asyncio.timeout(within):
            message = await self._receive()
        if message.type is web.WSMsgType.CLOSE and self._carries.upgraded:
            # A goodbye, which stock takes for a connection that breaks.
            await self._carries.close(
                wait=False, abort=True, reason=self.server.reason.CLIENT_DISCONNECT
            )
        if message.type not in (web.WSMsgType.TEXT, web.WSMsgType.BINARY):
            raise OSError
        data: str | bytes = message.data
        return data

    async def _receive(self) -> Any:
        """The next message.  aiohttp would answer all pings of a read in one turn of the loop."""
        while True:
            message = await self._sock.receive()
            if not await self.server.spend(self._carries):
                await self._sock.close(code=frames.POLICY)
                raise OSError
            if message.type is web.WSMsgType.PING:
                await self._sock.pong(message.data)
            elif message.type is not web.WSMsgType.PONG:
                return message


class _Backlog(asyncio.Queue[Any]):
    """What waits for a socket to read it.  `overflow` is called in place of keeping too much."""

    overflow: Callable[[], None] | None = None

    async def put(self, packet: Any) -> None:
        if self.qsize() < BACKLOG_MAX or self.overflow is None:
            self.put_nowait(packet)
        else:
            self.overflow()


class _Body:
    """A request's body, read already: stock takes the first piece of it for the whole."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self, length: int) -> bytes:
        return self._content


async def _close(socket: Any) -> None:
    """Close an Engine.IO socket now, without waiting for it to read what is left."""
    _abort(socket)
    await _part(socket)


async def _part(socket: Any) -> None:
    """Close an Engine.IO socket once it has been sent what is left, or after `CLOSE_TIMEOUT`.

    No packet says so: the official client comes back by itself only when the
    transport closes, and stays away when Socket.IO tells it to.
    """
    await socket.close(wait=False, abort=True)
    socket.queue.put_nowait(None)  # ends a pending poll and the writer


def _abort(socket: Any) -> None:
    transport = getattr(socket, "transport", None)
    if transport is not None:
        transport.abort()


class _Engine(engineio.AsyncServer):  # type: ignore[misc]
    """describe: what handlers of `connect` get of a request.  rates: limits what clients send."""

    def __init__(
        self,
        *,
        describe_request: Callable[[web.Request], Any],
        rates: TransportRateLimiter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._describe = describe_request
        self._rates = TransportRateLimiter() if rates is None else rates
        self._senders: dict[str, _Sender] = {}
        self._turns = Turns()
        self._async: dict[str, Any] = {
            **self._async,
            "websocket": _PlainWebSocket,
            "translate_request": self._read_environ,
        }

    async def _read_environ(self, request: web.Request) -> dict[str, Any]:
        """Return the environment for python-engineio.

        Raises TooManyPackets or InvalidRequest.
        """
        environ: dict[str, Any] = driver.translate_request(request)
        if request.method == "POST":
            body = await whole_body(request)
            environ |= {"wsgi.input": _Body(body), "CONTENT_LENGTH": str(len(body))}
            sender = self._senders.get(request.query.get("sid", ""))
            if sender and not self._rates.spend(sender, body.count(SEPARATOR) + 1):
                raise TooManyPackets
        return environ

    async def spend(self, socket: Any) -> bool:
        """Count a frame of a websocket, after a delay if it sends many; False if too many."""
        sender = self._senders.get(socket.sid)
        if sender is None:
            return True
        if sender.polls and socket.upgraded:
            sender = self._senders[socket.sid] = self._moved(sender)
        may_go_on = self._rates.spend(sender, 1)
        if sender.received % STEP == 0:
            await self._turns.next()
        return may_go_on

    def _moved(self, polling: _Sender) -> _Sender:
        sender = _Sender(polls=False)
        sender.address = polling.address
        self._rates.move(polling, sender)
        return sender

    def create_queue(self, *args: Any, **options: Any) -> _Backlog:
        return _Backlog()

    async def disconnect(self, sid: str) -> None:
        # Stock waits here until the client has read everything, which may be never.
        socket = self.sockets.pop(sid, None)
        if socket is not None:
            await _close(socket)

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        try:
            response = await super().handle_request(request)
        except (web.HTTPRequestEntityTooLarge, InvalidRequest, TooManyPackets):
            await self.disconnect(request.query.get("sid", ""))
            raise
        except (ValueError, KeyError, UnboundLocalError):
            # What stock trips over: a session that closes under its own request, bytes of no text.
            response = None
        if isinstance(response, web.StreamResponse):
            return response
        # A websocket request without the headers of one gives a list of packets.
        return web.Response(status=400, text='"Bad Request"')

    async def _trigger_event(self, event: str, *args: Any, **options: Any) -> Any:
        socket = self.sockets.get(args[0])
        if event == "connect":
            args = (args[0], self._admit(args[0], args[1]["aiohttp.request"]))
            socket.queue.overflow = lambda: self._drop(socket)
        if event == "disconnect" and (sender := self._senders.pop(args[0], None)):
            self._rates.close(sender, polls=sender.polls)
        if event == "disconnect" and socket is not None:
            # A writer that is stuck before a full window would hold the socket open for ever.
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, _abort, socket)
        return await super()._trigger_event(event, *args, **options)

    def _admit(self, sid: str, request: web.Request) -> Any:
        """Count a new session; return what handlers get of its request.

        Raises TooManyPackets, or ValueError if it is not a WebSocket handshake.
        """
        polls = request.query.get("transport") != "websocket"
        if not polls and not is_websocket_handshake(request):
            del self.sockets[sid]
            raise ValueError("not a websocket handshake")
        described = self._describe(request)
        sender = _Sender(polls=polls)
        if not self._rates.open(sender, self._rates.key_of(described), polls=sender.polls):
            del self.sockets[sid]
            raise TooManyPackets
        self._senders[sid] = sender
        return described

    def _drop(self, socket: Any) -> None:
        socket.queue.overflow = lambda: None
        self.start_background_task(_close, socket)


class FallbackServer(SocketIOServer):
    """is_origin_allowed: whether pages of an Origin may connect.  rates: what clients may send."""

    def __init__(
        self,
        *,
        is_origin_allowed: Callable[[str], bool],
        describe_request: Callable[[web.Request], Any],
        rates: TransportRateLimiter | None = None,
    ) -> None:
        self._engine = partial(_Engine, describe_request=describe_request, rates=rates)
        super().__init__(
            describe_request=describe_request,
            async_mode="aiohttp",
            cors_allowed_origins=lambda origin, environ: bool(origin) and is_origin_allowed(origin),
            cors_credentials=False,
            http_compression=False,
            engineio_logger=silent_logger,
        )

    def _engineio_server_class(self) -> Callable[..., _Engine]:
        return self._engine

    async def shutdown(self) -> None:
        for socket in list(self.eio.sockets.values()):
            await _part(socket)
        await super().shutdown()

    async def _handle_eio_connect(self, eio_sid: str, described: Any) -> None:
        await super()._handle_eio_connect(eio_sid, described)
        self._expect_to_join(eio_sid)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        await super()._handle_connect(eio_sid, namespace, data)
        if eio_sid not in self.environ:
            # Closed in the middle of it: stock has told nobody, and would keep its rooms.
            await self._forget(eio_sid, namespace or "/")

    async def _forget(self, eio_sid: str, namespace: str) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is not None:
            await self._trigger_event("disconnect", namespace, sid, self.reason.TRANSPORT_CLOSE)
            await self.manager.disconnect(sid, namespace, ignore_queue=True)

    async def _handle_disconnect(
        self, eio_sid: str, namespace: str, reason: str | None = None
    ) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        if eio_sid in self.environ and not self.has_joined(eio_sid):
            self._expect_to_join(eio_sid)

    def _expect_to_join(self, eio_sid: str) -> None:
        asyncio.get_running_loop().call_later(JOIN_TIMEOUT, self._check_joined, eio_sid)

    def _check_joined(self, eio_sid: str) -> None:
        if eio_sid in self.environ and not self.has_joined(eio_sid):
            self.start_background_task(self.eio.disconnect, eio_sid)
