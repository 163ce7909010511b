"""python-socketio over the broker's Engine.IO and room manager."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from aiohttp import web
from socketio import packet

from broker.infrastructure.transport.engineio.server import EngineIOServer
from broker.infrastructure.transport.rate_limit import TransportRateLimiter
from broker.infrastructure.transport.socketio.rooms import RoomManager
from broker.infrastructure.transport.socketio.server import (
    ConnectionRefused,
    SocketIOServer,
    silent_logger,
)
from broker.infrastructure.transport.socketio.text_events import build_connect


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
        if name not in self.handlers:
            await self._refuse(eio_sid, name, {"message": "Invalid namespace"})
            return
        sid = await self.manager.pre_connect(eio_sid, name)
        if sid is None:
            await self._refuse(eio_sid, name, {"message": "Already connected"})
            return
        try:
            await self._trigger_event("connect", name, sid, self.environ[eio_sid], data or None)
        except ConnectionRefused as refusal:
            await self._refuse(eio_sid, name, refusal.error_args)
            self.manager.basic_disconnect(sid, name)
        else:
            self.eio.send_now([eio_sid], [build_connect(name, sid)])
            await self.manager.connect(sid, name)

    async def _refuse(self, eio_sid: str, namespace: str, error: Any) -> None:
        refusal = self.packet_class(packet.CONNECT_ERROR, data=error, namespace=namespace)
        await self._send_packet(eio_sid, refusal)

    async def _handle_disconnect(
        self, eio_sid: str, namespace: str, reason: str | None = None
    ) -> None:
        name = namespace or "/"
        sid = self.manager.sid_from_eio_sid(eio_sid, name)
        if sid is not None:
            await self._leave(sid, name, reason or self.reason.CLIENT_DISCONNECT)
        if not self.has_joined(eio_sid):
            self.eio.start_join_timer(eio_sid)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self._binary_packet.pop(eio_sid, None)
        for namespace in list(self.manager.get_namespaces()):
            sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
            if sid is not None:
                await self._leave(sid, namespace, reason)
        self.environ.pop(eio_sid, None)

    async def _leave(self, sid: str, namespace: str, reason: str) -> None:
        try:
            if self.manager.is_connected(sid, namespace):
                self.manager.pre_disconnect(sid, namespace)
                await self._trigger_event("disconnect", namespace, sid, reason)
        finally:
            self.manager.basic_disconnect(sid, namespace)
