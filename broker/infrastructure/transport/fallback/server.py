"""python-socketio over `FallbackEngine`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web

from broker.infrastructure.transport.engineio.heartbeat import JOIN_TIMEOUT
from broker.infrastructure.transport.fallback.engine import FallbackEngine, close_after_sending
from broker.infrastructure.transport.rate_limit import TransportRateLimiter
from broker.infrastructure.transport.socketio.server import SocketIOServer, silent_logger


class FallbackServer(SocketIOServer):
    """A Socket.IO server over python-engineio's transport, with the arguments of `NativeServer`."""

    def __init__(
        self,
        *,
        is_origin_allowed: Callable[[str], bool],
        describe_request: Callable[[web.Request], Any],
        rate_limiter: TransportRateLimiter | None = None,
    ) -> None:
        self._engine = partial(
            FallbackEngine, describe_request=describe_request, rate_limiter=rate_limiter
        )
        super().__init__(
            describe_request=describe_request,
            async_mode="aiohttp",
            cors_allowed_origins=lambda origin, environ: bool(origin) and is_origin_allowed(origin),
            cors_credentials=False,
            http_compression=False,
            engineio_logger=silent_logger,
        )

    def _engineio_server_class(self) -> Callable[..., FallbackEngine]:
        return self._engine

    async def shutdown(self) -> None:
        for session in list(self.eio.sockets.values()):
            await close_after_sending(session)
        await super().shutdown()

    async def _handle_eio_connect(self, eio_sid: str, description: Any) -> None:
        await super()._handle_eio_connect(eio_sid, description)
        self._start_join_timer(eio_sid)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        await super()._handle_connect(eio_sid, namespace, data)
        if eio_sid not in self.environ:
            # Closed during the handler: python-socketio calls no `disconnect` and keeps the rooms.
            await self._remove(eio_sid, namespace or "/")

    async def _remove(self, eio_sid: str, namespace: str) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is not None:
            await self._trigger_event("disconnect", namespace, sid, self.reason.TRANSPORT_CLOSE)
            await self.manager.disconnect(sid, namespace, ignore_queue=True)

    async def _handle_disconnect(
        self, eio_sid: str, namespace: str, reason: str | None = None
    ) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        if eio_sid in self.environ and not self.has_joined(eio_sid):
            self._start_join_timer(eio_sid)

    def _start_join_timer(self, eio_sid: str) -> None:
        asyncio.get_running_loop().call_later(JOIN_TIMEOUT, self._check_joined, eio_sid)

    def _check_joined(self, eio_sid: str) -> None:
        if eio_sid in self.environ and not self.has_joined(eio_sid):
            self.start_background_task(self.eio.disconnect, eio_sid)
