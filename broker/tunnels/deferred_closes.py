"""The callbacks at the end of tunnels: stored, sent at once, and repeated by any instance."""

from __future__ import annotations

from contextlib import suppress

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import Unavailable
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.coordination import DeferredCall
from broker.infrastructure.retries import CallOutcome, RetryWorker
from broker.tunnels.callback_repeats import log_failure
from broker.tunnels.callback_sender import CallbackKind, CallbackPaused
from broker.tunnels.model import ClosedTunnel, Tunnel
from broker.tunnels.ports import CallbackFailed, TunnelStore

CLOSE = CallbackKind("close", 10.0)

CLOSE_DELAYS = (1.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds before the second to sixth attempt of a close."""

_decode_closed = decoder(ClosedTunnel)


class NoReceiver(CallbackPaused):
    """The app was deleted, or has no URL for callbacks."""


class DeferredCloses:
    """Part of a `TunnelCallbacks`. A subclass sends the callback.

    kind: of the deferred calls; each API has another one.
    retries: stores the calls.
    """

    def __init__(
        self, *, kind: str, apps: Apps, records: TunnelStore, retries: RetryWorker
    ) -> None:
        self._kind = kind
        self._apps = apps
        self._records = records
        self._retries = retries

    async def attempt_close(self, closed: ClosedTunnel) -> None:
        """Send the callback once. Raises CallbackFailed, or NoReceiver to end the attempts."""
        raise NotImplementedError

    def app_of(self, tunnel: Tunnel) -> App:
        """Return the app that the tunnel was created for. Raises NoReceiver."""
        app = self._apps.get(tunnel.app)
        if app is None or app.incarnation != tunnel.incarnation:
            raise NoReceiver("the app was deleted")
        return app

    async def send_close(self, closed: ClosedTunnel) -> CallOutcome:
        """Make one attempt to send the callback."""
        try:
            await self.attempt_close(closed)
        except NoReceiver:
            return CallOutcome.REFUSED
        except CallbackFailed as failed:
            log_failure(CLOSE, closed.tunnel, failed)
            return CallOutcome.FAILED
        return CallOutcome.DELIVERED

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
