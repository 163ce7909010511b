"""python-socketio over the broker's Engine.IO and room manager."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from aiohttp import web
from socketio import packet

from broker.infrastructure.transport.engineio.server import EngineIOServer
from broker.infrastructure.transport.rate_limit import TransportRateLimiter
from broker.infrastructure.transport.socketio.rooms import RoomManager
from broker.infrastructure.transport.socketio.server import SocketIOServer, silent_logger


class NativeServer(SocketIOServer):
    """A Socket.IO server over `EngineIOServer`.

    is_origin_allowed: whether a page of this Origin may connect.
    rate_limiter: limits what clients send; None for no limits.
    """

    def __init__(
        self,
        *,
        is_origin_allowed: Callable[[str], bool],
        describe_request: Callable[[web.Request], Any],
        rate_limiter: TransportRateLimiter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            describe_request=describe_request,
            client_manager=RoomManager(),
            is_origin_allowed=is_origin_allowed,
            rate_limiter=rate_limiter,
            engineio_logger=silent_logger,
            **options,
        )
        self.eio.sessions.has_joined = self.has_joined
        self.eio.sessions.on_connect = self._on_connect

    async def emit_to_all(
        self, event: str, data: Any, *, sids: Collection[str], namespace: str
    ) -> None:
        self.manager.send_to_all(event, data, sids=sids, namespace=namespace)

    def _engineio_server_class(self) -> type[EngineIOServer]:
        return EngineIOServer

    def _on_connect(self, eio_sid: str, request: Any) -> str:
        description = self.environ[eio_sid] = self._describe_request(request)
        key: str = self.eio.sessions.rate_limiter.key_of(description)
        return key

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        name = namespace or "/"
        is_known = name in self.handlers or name in self.namespace_handlers
        if is_known and self.manager.sid_from_eio_sid(eio_sid, name) is None:
            await super()._handle_connect(eio_sid, namespace, data)
            return
        # The protocol requires an object here; python-socketio sends a string.
        error = {"message": "Already connected" if is_known else "Invalid namespace"}
        await self._send_packet(
            eio_sid, self.packet_class(packet.CONNECT_ERROR, data=error, namespace=name)
        )

    async def _handle_disconnect(
        self, eio_sid: str, namespace: str, reason: str | None = None
    ) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        if not self.has_joined(eio_sid):
            self.eio.start_join_timer(eio_sid)
