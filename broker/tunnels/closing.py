"""Ends tunnels, so that each end is reported to the backend.

    number ──▶ schedule tunnel.close ──▶ end the record ──▶ notify the instance
                                                                │
                    its callback in flight is answered, then tunnel.close is sent

A scheduled callback is in the state before the tunnel ends. If this process or the tunnel's
instance fails, any other instance sends it.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from broker.infrastructure.background import BackgroundTasks
from broker.tunnels.model import ClosedBy, ClosedTunnel, CloseRequest, Tunnel, TunnelState
from broker.tunnels.news import NewsSender
from broker.tunnels.ports import TunnelCallbacks, TunnelStores

log = structlog.get_logger()

HANDOVER_DELAY = 15.0
"""Seconds after which any instance sends `tunnel.close`. Until then the tunnel's instance can
wait for the answer of a message, which takes at most 10 s."""

CLOSE_TIMEOUT = 3.0
"""Seconds to wait for callbacks in flight when the process ends. Others repeat them later."""


class TunnelCloser:
    """Ends tunnels.

    callbacks: by the `api` of a tunnel.
    """

    def __init__(
        self, *, stores: TunnelStores, callbacks: Mapping[str, TunnelCallbacks], news: NewsSender
    ) -> None:
        self._stores = stores
        self._callbacks = callbacks
        self._news = news
        self._tasks = BackgroundTasks()

    async def end(self, tunnel: Tunnel, why: CloseRequest, by: ClosedBy) -> ClosedTunnel | None:
        """End a tunnel; None if it has another attachment than `tunnel`, or has ended before.

        The callback of an open tunnel is sent by its instance, which reads the end. Raises
        Unavailable. The tunnel may have ended then, and its callback is scheduled.
        """
        closed = await self.end_silently(tunnel, why, by)
        if closed is not None and closed.tunnel.state is TunnelState.AWAY:
            self.report(closed)
        return closed

    async def end_silently(
        self, tunnel: Tunnel, why: CloseRequest, by: ClosedBy
    ) -> ClosedTunnel | None:
        """As `end`, for a caller that reports the end after its callbacks in flight."""
        numbered = await self._stores.inboxes.number(tunnel.id, tunnel.attachment)
        if numbered is None:
            return None
        closed = ClosedTunnel(
            tunnel=numbered.tunnel, seq=numbered.seq, code=why.code, reason=why.reason, by=by
        )
        callbacks = self._callbacks[tunnel.api]
        await callbacks.schedule_close(closed, delay=HANDOVER_DELAY)
        notify = await self._stores.records.end(closed)
        if notify is None:
            await callbacks.cancel_close(closed)
            return None
        log.info("tunnel closed", app=tunnel.app, tunnel_id=tunnel.id, code=why.code, by=by)
        await self._news.send(notify, tunnel.id)
        return closed

    async def discard(self, tunnel: Tunnel) -> None:
        """End a tunnel that the backend has not accepted. It gets no callback.

        Raises Unavailable.
        """
        closed = ClosedTunnel(tunnel=tunnel, seq=0, code=0, reason="", by=ClosedBy.SERVER)
        await self._stores.records.end(closed)

    def report(self, closed: ClosedTunnel) -> None:
        """Send `tunnel.close` now, in the background. No other callback may be in flight."""
        if closed.seq:
            self._tasks.spawn("tunnel close", self._callbacks[closed.tunnel.api].close(closed))

    async def close(self) -> None:
        """Wait up to `CLOSE_TIMEOUT` for callbacks in flight."""
        await self._tasks.close(grace=CLOSE_TIMEOUT)
