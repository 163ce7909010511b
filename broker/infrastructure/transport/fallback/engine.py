"""python-engineio's Engine.IO server, hardened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import engineio
from aiohttp import web
from engineio.async_drivers import aiohttp as driver

from broker.errors import InvalidRequest
from broker.infrastructure.transport.bodies import read_body
from broker.infrastructure.transport.engineio.heartbeat import JOIN_TIMEOUT
from broker.infrastructure.transport.engineio.packets import SEPARATOR
from broker.infrastructure.transport.rate_limit import (
    AddressUsage,
    TooManyPackets,
    TransportRateLimiter,
)
from broker.infrastructure.transport.step_queue import STEP_SIZE, StepQueue
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.closing import CLOSE_TIMEOUT
from broker.infrastructure.transport.websocket.handshake import is_websocket_handshake

BACKLOG_MAX = 64
"""Packets queued for one client. A client that reads more slowly is disconnected."""


@dataclass(slots=True)
class _Sender:
    """The rate limit counters of a session. polls: it uses long polling."""

    polls: bool
    address: AddressUsage | None = None
    full_at: float = 0.0
    received: int = 0


class _PlainWebSocket(driver.WebSocket):  # type: ignore[misc]  # python-engineio has no types
    """python-engineio's WebSocket without compression. A session has at most one."""

    async def __call__(self, environ: dict[str, Any]) -> web.StreamResponse:
        request = environ["aiohttp.request"]
        self._session = session = self.handler.__self__
        if getattr(session, "transport", None) is not None:
            return web.Response(status=400, text='"Already upgrading"')
        if not is_websocket_handshake(request):
            return web.Response(status=400, text='"Bad Request"')
        session.transport = request.transport
        self._sock = web.WebSocketResponse(
            autoping=False, compress=False, max_msg_size=self.server.max_http_buffer_size
        )
        try:
            await self._sock.prepare(request)
            await self.handler(self)
        except Exception:  # not an Engine.IO packet: python-engineio would not close the socket
            await _close(session)
        finally:
            if not session.upgraded:  # the probe failed, and the session continues to poll
                session.transport = None
                session.upgrading = False
        return self._sock

    async def wait(self) -> str | bytes:
        async with asyncio.timeout(None if self._session.upgraded else JOIN_TIMEOUT):
            message = await self._receive()
        if message.type is web.WSMsgType.CLOSE and self._session.upgraded:
            # python-engineio would report a lost connection.
            await self._session.close(
                wait=False, abort=True, reason=self.server.reason.CLIENT_DISCONNECT
            )
        if message.type not in (web.WSMsgType.TEXT, web.WSMsgType.BINARY):
            raise OSError
        data: str | bytes = message.data
        return data

    async def _receive(self) -> Any:
        """Return the next message. aiohttp would answer all pings of a read in one iteration."""
        while True:
            message = await self._sock.receive()
            if not await self.server.spend(self._session):
                await self._sock.close(code=frames.POLICY)
                raise OSError
            if message.type is web.WSMsgType.PING:
                await self._sock.pong(message.data)
            elif message.type is not web.WSMsgType.PONG:
                return message


class _Backlog(asyncio.Queue[Any]):
    """The packets queued for a client. `overflow` is called instead of exceeding the limit."""

    overflow: Callable[[], None] | None = None

    async def put(self, packet: Any) -> None:
        if self.qsize() < BACKLOG_MAX or self.overflow is None:
            self.put_nowait(packet)
        else:
            self.overflow()


class _Body:
    """A complete request body. python-engineio itself would read only the first chunk."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self, length: int) -> bytes:
        return self._content


async def _close(session: Any) -> None:
    """Close an Engine.IO session now, without waiting for the client to read queued packets."""
    _abort(session)
    await close_after_sending(session)


async def close_after_sending(session: Any) -> None:
    """Close an Engine.IO session after its queued packets, or after `CLOSE_TIMEOUT`.

    Sends no CLOSE packet. The official client reconnects if only the transport closes, and
    does not reconnect if Socket.IO disconnects it.
    """
    await session.close(wait=False, abort=True)
    session.queue.put_nowait(None)  # ends a pending poll and the writer


def _abort(session: Any) -> None:
    transport = getattr(session, "transport", None)
    if transport is not None:
        transport.abort()


class FallbackEngine(engineio.AsyncServer):  # type: ignore[misc]
    """python-engineio's server with rate limits and bounded queues.

    describe_request: returns what `connect` handlers receive instead of the request.
    rate_limiter: limits what clients send; None for no limits.
    """

    def __init__(
        self,
        *,
        describe_request: Callable[[web.Request], Any],
        rate_limiter: TransportRateLimiter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._describe_request = describe_request
        self._rate_limiter = TransportRateLimiter() if rate_limiter is None else rate_limiter
        self._senders: dict[str, _Sender] = {}
        self._steps = StepQueue()
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
            body = await read_body(request)
            environ |= {"wsgi.input": _Body(body), "CONTENT_LENGTH": str(len(body))}
            sender = self._senders.get(request.query.get("sid", ""))
            if sender and not self._rate_limiter.spend(sender, body.count(SEPARATOR.encode()) + 1):
                raise TooManyPackets
        return environ

    async def spend(self, session: Any) -> bool:
        """Count a WebSocket frame, after a wait if the client sends many. False if too many."""
        sender = self._senders.get(session.sid)
        if sender is None:
            return True
        if sender.polls and session.upgraded:
            polling, sender = sender, _Sender(polls=False, address=sender.address)
            self._rate_limiter.move(polling, sender)
            self._senders[session.sid] = sender
        is_allowed = self._rate_limiter.spend(sender, 1)
        if sender.received % STEP_SIZE == 0:
            await self._steps.wait()
        return is_allowed

    def create_queue(self, *args: Any, **options: Any) -> _Backlog:
        return _Backlog()

    async def disconnect(self, sid: str) -> None:
        # python-engineio waits until the client has read everything, possibly forever.
        session = self.sockets.pop(sid, None)
        if session is not None:
            await _close(session)

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        try:
            response = await super().handle_request(request)
        except (web.HTTPRequestEntityTooLarge, InvalidRequest, TooManyPackets):
            await self.disconnect(request.query.get("sid", ""))
            raise
        except (ValueError, KeyError, UnboundLocalError):
            # Raised if the session closes during its request, or if the body is not UTF-8.
            response = None
        if isinstance(response, web.StreamResponse):
            return response
        # python-engineio returns a list of packets for an invalid WebSocket handshake.
        return web.Response(status=400, text='"Bad Request"')

    async def _trigger_event(self, event: str, *args: Any, **options: Any) -> Any:
        session = self.sockets.get(args[0])
        if event == "connect":
            args = (args[0], self._accept(args[0], args[1]["aiohttp.request"]))
            session.queue.overflow = lambda: self._drop(session)
        if event == "disconnect" and (sender := self._senders.pop(args[0], None)):
            self._rate_limiter.close(sender, polls=sender.polls)
        if event == "disconnect" and session is not None:
            # A writer that waits for a full TCP window would keep the socket open forever.
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, _abort, session)
        return await super()._trigger_event(event, *args, **options)

    def _accept(self, sid: str, request: web.Request) -> Any:
        """Count a new session and return the description of its request.

        Raises TooManyPackets, or ValueError if it is not a WebSocket handshake.
        """
        polls = request.query.get("transport") != "websocket"
        if not polls and not is_websocket_handshake(request):
            del self.sockets[sid]
            raise ValueError("not a websocket handshake")
        description = self._describe_request(request)
        sender = _Sender(polls=polls)
        key = self._rate_limiter.key_of(description)
        if not self._rate_limiter.open(sender, key, polls=polls):
            del self.sockets[sid]
            raise TooManyPackets
        self._senders[sid] = sender
        return description

    def _drop(self, session: Any) -> None:
        session.queue.overflow = lambda: None
        self.start_background_task(_close, session)
