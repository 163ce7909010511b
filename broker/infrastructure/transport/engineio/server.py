"""An Engine.IO 4 server with the interface of python-engineio's.

aiohttp reads each request. The connection of a WebSocket is then taken over: its transport
gets an `EngineIOWebSocket` as its protocol, and aiohttp no longer has it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import engineio
from aiohttp import hdrs, web

from broker.errors import InvalidRequest
from broker.infrastructure.codec import encode
from broker.infrastructure.transport.bodies import read_body
from broker.infrastructure.transport.engineio.errors import (
    BAD_REQUEST,
    rejection_response,
    text_response,
)
from broker.infrastructure.transport.engineio.packets import MESSAGE, OPEN, Packet
from broker.infrastructure.transport.engineio.polling import PollingSession
from broker.infrastructure.transport.engineio.request_rules import RequestRules
from broker.infrastructure.transport.engineio.session_table import SessionTable
from broker.infrastructure.transport.engineio.sessions import EndReason, EngineIOWebSocket
from broker.infrastructure.transport.rate_limit import TooManyPackets, TransportRateLimiter
from broker.infrastructure.transport.websocket import frames
from broker.infrastructure.transport.websocket.acceptor import UPGRADE_HANDLER, UpgradeRequest
from broker.infrastructure.transport.websocket.frames import ProtocolViolation
from broker.infrastructure.transport.websocket.handshake import (
    DetachedResponse,
    HTTPRequest,
    detach,
    is_websocket_handshake,
)

SID_BYTES = 15
"""Random bytes of a sid. The sid of a polling session is a secret."""


class EngineIOServer(engineio.AsyncServer):  # type: ignore[misc]  # python-engineio has no types
    """A subclass of python-engineio's server that replaces its sessions and its transports.

    is_origin_allowed: whether a page of this Origin may connect.
    rate_limiter: limits what clients send; None for no limits.
    """

    def __init__(
        self,
        *,
        is_origin_allowed: Callable[[str], bool],
        rate_limiter: TransportRateLimiter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(async_mode="aiohttp", **options)
        self.sessions = SessionTable(
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
            max_message_bytes=self.max_http_buffer_size,
            handlers=self.handlers,
            rate_limiter=TransportRateLimiter() if rate_limiter is None else rate_limiter,
        )
        self.sockets = self.sessions.by_sid
        self._paths: set[str] = set()
        self._open_websocket = self._open_packet([])
        self._open_polling = self._open_packet(self._offered_upgrades())
        self._rules = RequestRules(
            is_origin_allowed=is_origin_allowed, transports=self.transports, sids=self.sockets
        )

    # ---- the interface of python-engineio ----

    def attach(self, app: web.Application, engineio_path: str = "engine.io") -> None:
        """Serve a path, for all methods: a wrong one gets an error. A server may have several."""
        path = f"/{engineio_path.strip('/')}/"
        self._paths.add(path)
        app.router.add_route("*", path, self.handle_request)
        app[UPGRADE_HANDLER] = self.accept_upgrade

    def generate_id(self) -> str:
        """Return a new sid, of a session or of a socket in a namespace."""
        return os.urandom(SID_BYTES).hex()

    def transport(self, sid: str) -> str:
        return "polling" if isinstance(self.sockets.get(sid), PollingSession) else "websocket"

    async def send(self, sid: str, data: Packet) -> None:
        self.send_now([sid], [data])

    async def send_packet(self, sid: str, packet: Any) -> None:
        await self.send(sid, packet.data)

    async def disconnect(self, sid: str) -> None:
        session = self.sockets.get(sid)
        if session is not None:
            self.sessions.close(session, frames.NORMAL, EndReason.SERVER_DISCONNECT)

    async def shutdown(self) -> None:
        await self.sessions.shutdown()

    # ---- further methods for the Socket.IO server ----

    def send_now(self, sids: Iterable[str], messages: Iterable[Packet]) -> None:
        """Send messages to several sessions. Each message is encoded once.

        Does not wait for slow readers: a session with a long queue is closed.
        """
        packets = [one if isinstance(one, bytes) else MESSAGE + one for one in messages]
        encoded = b"".join(map(frames.build_message, packets))
        for sid in sids:
            session = self.sockets.get(sid)
            if isinstance(session, EngineIOWebSocket):
                session.write(encoded)
            elif session is not None:
                for packet in packets:
                    session.send(packet)

    def start_join_timer(self, sid: str) -> None:
        """Close the session unless it joins a namespace in time."""
        session = self.sockets.get(sid)
        if session is not None:
            self.sessions.heartbeat.start(session)

    # ---- requests ----

    def accept_upgrade(self, request: UpgradeRequest) -> bool:
        """Start a session for a valid request of a new one. False leaves the others to aiohttp."""
        if (
            request.path not in self._paths
            or request.query.get("transport") != "websocket"
            or "sid" in request.query
            or self._rules.rejection(request) is not None
            or not is_websocket_handshake(request)
        ):
            return False
        self._start_websocket(request, request.transport, request.early_data)
        return True

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        headers = self._rules.cors_headers(request)
        rejection = self._rules.rejection(request)
        if rejection is not None:
            return rejection_response(rejection, headers)
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers=headers)
        if request.query.get("transport") == "websocket":
            return await self._handle_websocket(request)
        if request.method == hdrs.METH_POST:
            return await self._handle_post(request, headers)
        return await self._handle_poll(request, headers)

    async def _handle_websocket(self, request: web.Request) -> web.StreamResponse:
        session = self.sockets.get(request.query.get("sid", ""))
        transport = request.transport
        if (
            transport is None  # the client has disconnected
            or not is_websocket_handshake(request)
            or (isinstance(session, PollingSession) and session.probe)
        ):
            return rejection_response(BAD_REQUEST)
        early_data = detach(request.protocol)
        if session is None:
            self._start_websocket(request, transport, early_data)
            return DetachedResponse()
        websocket = EngineIOWebSocket(self.sessions, session.sid, transport)
        websocket.start(request, early_data)
        if isinstance(session, PollingSession):
            self.sessions.upgrades.start(session, websocket)
        else:
            websocket.close()  # the session has a WebSocket already
        return DetachedResponse()

    def _start_websocket(
        self, request: HTTPRequest, transport: asyncio.Transport, early_data: bytes
    ) -> None:
        websocket = EngineIOWebSocket(self.sessions, self.generate_id(), transport)
        greeting = frames.build_message(self._open_websocket % websocket.sid)
        websocket.start(request, early_data, greeting)
        self.sessions.start(websocket, request)

    async def _handle_poll(self, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        sid = request.query.get("sid")
        if sid is None:
            polling = PollingSession(self.sessions, self.generate_id())
            polling.send(self._open_polling % polling.sid)
            if not self.sessions.start(polling, request):
                raise TooManyPackets
            return text_response(await polling.poll(), headers)
        session = self.sockets[sid]
        if not isinstance(session, PollingSession):
            return rejection_response(BAD_REQUEST, headers)
        if session.has_pending_poll:  # two at once, or the client has dropped the first one
            self.sessions.close_with_error(sid)
            return rejection_response(BAD_REQUEST, headers)
        return text_response(await session.poll(), headers)

    async def _handle_post(self, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        session = self.sockets[request.query["sid"]]
        if not isinstance(session, PollingSession) or session.is_posting:
            self.sessions.close(session, frames.NORMAL, EndReason.TRANSPORT_ERROR)
            return rejection_response(BAD_REQUEST, headers)
        session.is_posting = True
        try:
            body = await read_body(request)
            session.post(body.decode())
        except (ProtocolViolation, ValueError):
            self.sessions.close(session, frames.NORMAL, EndReason.TRANSPORT_ERROR)
            return rejection_response(BAD_REQUEST, headers)
        except (web.HTTPRequestEntityTooLarge, InvalidRequest, TooManyPackets):
            self.sessions.close(session, frames.NORMAL, EndReason.TRANSPORT_ERROR)
            raise
        finally:
            session.is_posting = False
        await self.sessions.inboxes.wait_until_handled(session.sid)  # slows the client's POSTs down
        return text_response("ok", headers)

    def _open_packet(self, upgrades: list[str]) -> str:
        """Return the first packet of a session, with `%s` in place of its sid."""
        handshake = {
            "sid": "%s",
            "upgrades": upgrades,
            "pingInterval": round(self.ping_interval * 1000),
            "pingTimeout": round(self.ping_timeout * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        return OPEN + encode(handshake).decode()

    def _offered_upgrades(self) -> list[str]:
        return ["websocket"] if "websocket" in self.transports and self.allow_upgrades else []
