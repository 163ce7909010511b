"""The callbacks at the end of tunnels: stored, sent at once, and repeated by any instance."""

from __future__ import annotations

from contextlib import suppress

from broker.errors import Unavailable
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.coordination import DeferredCall
from broker.infrastructure.retries import CallOutcome, RetryWorker
from broker.tunnels.model import ClosedTunnel
from broker.tunnels.ports import TunnelStore

CLOSE_DELAYS = (1.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds before the second to sixth attempt of a close."""

_decode_closed = decoder(ClosedTunnel)


class DeferredCloses:
    """Part of a `TunnelCallbacks`. A subclass sends the callback.

    kind: of the deferred calls; each API has another one.
    retries: stores the calls.
    """

    def __init__(self, *, kind: str, records: TunnelStore, retries: RetryWorker) -> None:
        self._kind = kind
        self._records = records
        self._retries = retries

    async def send_close(self, closed: ClosedTunnel) -> CallOutcome:
        """Make one attempt to send the callback."""
        raise NotImplementedError

    async def schedule_close(self, closed: ClosedTunnel, *, delay: float) -> None:
        await self._retries.put(self._call(closed), delay=delay)

    async def close(self, closed: ClosedTunnel) -> None:
        outcome = await self.send_close(closed)
        with suppress(Unavailable):  # it is sent again as scheduled
            await self._retries.record(self._call(closed), outcome)

    async def cancel_close(self, closed: ClosedTunnel) -> None:
        await self._retries.cancel(self._call(closed))

    async def send_scheduled(self, call: DeferredCall) -> CallOutcome:
        """Make one attempt of a scheduled close. Raises Unavailable."""
        closed = _decode_closed(call.payload.encode())
        # After the first attempt, the tunnel has ended.
        if call.attempt == 1 and await self._records.end(closed) is None:
            return CallOutcome.REFUSED
        return await self.send_close(closed)

    def _call(self, closed: ClosedTunnel) -> DeferredCall:
        tunnel = closed.tunnel
        return DeferredCall(
            f"{tunnel.id}.{closed.seq}", self._kind, tunnel.app, encode(closed).decode()
        )
