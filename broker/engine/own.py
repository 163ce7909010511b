"""python-socketio over the engine of our own: Engine.IO in sessions.py, rooms in rooms.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web
from socketio import packet

from broker.engine.rates import RateLimiter
from broker.engine.rooms import Rooms
from broker.engine.sessions import Sessions
from broker.engine.strict import StrictServer, silent


class Server(StrictServer):
    """allow_origin: says whether pages of an Origin may connect.  rates: what clients may send."""

    def __init__(
        self,
        *,
        allow_origin: Callable[[str], bool],
        describe: Callable[[web.Request], Any],
        rates: RateLimiter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            describe=describe,
            client_manager=Rooms(),
            allow_origin=allow_origin,
            rates=rates,
            engineio_logger=silent,
            **options,
        )
        self.eio.joined = self.joined
        self.eio.came = self._came

    def _engineio_server_class(self) -> type[Sessions]:
        return Sessions

    def _came(self, eio_sid: str, request: Any) -> str:
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
        if not self.joined(eio_sid):
            self.eio.expect_to_join(eio_sid)
