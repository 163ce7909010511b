"""python-socketio over the engine of our own: Engine.IO in sessions.py, rooms in rooms.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web
from socketio import packet

from broker.infrastructure.transport.engineio.server import EngineIOServer
from broker.infrastructure.transport.rate_limit import TransportRateLimiter
from broker.infrastructure.transport.socketio.rooms import RoomManager
from broker.infrastructure.transport.socketio.server import SocketIOServer, silent_logger


class NativeServer(SocketIOServer):
    """is_origin_allowed: whether pages of an Origin may connect.  rates: what clients may send."""

    def __init__(
        self,
        *,
        is_origin_allowed: Callable[[str], bool],
        describe_request: Callable[[web.Request], Any],
        rates: TransportRateLimiter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            describe_request=describe_request,
            client_manager=RoomManager(),
            is_origin_allowed=is_origin_allowed,
            rates=rates,
            engineio_logger=silent_logger,
            **options,
        )
        self.eio.has_joined = self.has_joined
        self.eio.on_connect = self._on_connect

    def _engineio_server_class(self) -> type[EngineIOServer]:
        return EngineIOServer

    def _on_connect(self, eio_sid: str, request: Any) -> str:
        described = self.environ[eio_sid] = self._describe(request)
        key: str = self.eio.rates.key_of(described)
        return key

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        name = namespace or "/"
        known = name in self.handlers or name in self.namespace_handlers
        if known and self.manager.sid_from_eio_sid(eio_sid, name) is None:
            await super()._handle_connect(eio_sid, namespace, data)
            return
        # The protocol wants an object here; python-socketio sends a string.
        error = {"message": "Already connected" if known else "Invalid namespace"}
        await self._send_packet(
            eio_sid, self.packet_class(packet.CONNECT_ERROR, data=error, namespace=name)
        )

    async def _handle_disconnect(
        self, eio_sid: str, namespace: str, reason: str | None = None
    ) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        if not self.has_joined(eio_sid):
            self.eio.start_join_timer(eio_sid)
