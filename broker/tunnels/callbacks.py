"""The callbacks of native tunnels, with their repeats."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import Unavailable
from broker.infrastructure.codec import RawJSON, decoder, encode
from broker.infrastructure.coordination import DeferredCall
from broker.infrastructure.retries import CallOutcome, RetryWorker
from broker.tunnels.callback_answers import read_closed, read_message_answer, read_opening
from broker.tunnels.callback_sender import (
    BackendGone,
    Callback,
    CallbackKind,
    CallbackPaused,
    CallbackSender,
)
from broker.tunnels.model import (
    AcceptedOpening,
    ClosedTunnel,
    MessageAnswer,
    Opening,
    Tunnel,
)
from broker.tunnels.ports import CallbackFailed, OpeningRefused, TunnelStore

log = structlog.get_logger()

OPEN = CallbackKind("open", 3.0)
MESSAGE = CallbackKind("message", 10.0, max_bytes=64 * 1024)
CLOSE = CallbackKind("close", 10.0)

MESSAGE_DELAYS = (0.5, 2.0, 8.0)
"""Seconds before the second, third and fourth attempt of `tunnel.message`."""

CLOSE_DELAYS = (1.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds before the second to sixth attempt of `tunnel.close`."""

CLOSE_CALL = "tunnel-close"
"""The kind of the deferred calls."""

_decode_closed = decoder(ClosedTunnel)


class NoReceiver(CallbackPaused):
    """The app was deleted, or has no URL for callbacks."""


class NativeCallbacks:
    """Sends callbacks to the `tunnel_url` of apps. It is the `TunnelCallbacks` of native tunnels.

    retries: stores the calls of `tunnel.close`.
    """

    def __init__(
        self, *, apps: Apps, sender: CallbackSender, records: TunnelStore, retries: RetryWorker
    ) -> None:
        self._apps = apps
        self._sender = sender
        self._records = records
        self._retries = retries

    async def open(self, tunnel: Tunnel, seq: int, opening: Opening) -> AcceptedOpening:
        callback = _callback(tunnel, seq, **opening._asdict())
        try:
            app, url = await self._receiver(tunnel)
            accepted = await self._sender.send(app, url, OPEN, callback, read_opening)
        except CallbackFailed as failed:
            _log_failure(OPEN, tunnel, failed)
            raise
        if accepted is None:
            raise OpeningRefused
        return accepted

    async def message(
        self,
        tunnel: Tunnel,
        seq: int,
        data: bytes,
        message_id: str,
        *,
        may_repeat: Callable[[], Awaitable[bool]],
    ) -> MessageAnswer:
        more = {"id": message_id} if message_id else {}
        callback = _callback(tunnel, seq, **more, data=RawJSON(data))
        try:
            return await self._send_message(tunnel, callback, may_repeat)
        except CallbackFailed as failed:
            _log_failure(MESSAGE, tunnel, failed)
            raise

    async def schedule_close(self, closed: ClosedTunnel, *, delay: float) -> None:
        await self._retries.put(_close_call(closed), delay=delay)

    async def close(self, closed: ClosedTunnel) -> None:
        outcome = await self._send_close(closed)
        with suppress(Unavailable):  # it is sent again as scheduled
            await self._retries.record(_close_call(closed), outcome)

    async def cancel_close(self, closed: ClosedTunnel) -> None:
        await self._retries.cancel(_close_call(closed))

    async def send_scheduled(self, call: DeferredCall) -> CallOutcome:
        """Make one attempt of a scheduled `tunnel.close`. Raises Unavailable."""
        closed = _decode_closed(call.payload.encode())
        # After the first attempt, the tunnel has ended.
        if call.attempt == 1 and await self._records.end(closed) is None:
            return CallOutcome.REFUSED
        return await self._send_close(closed)

    async def _send_message(
        self, tunnel: Tunnel, callback: Callback, may_repeat: Callable[[], Awaitable[bool]]
    ) -> MessageAnswer:
        app, url = await self._receiver(tunnel)
        was_sent = False
        for delay in MESSAGE_DELAYS:
            try:
                return await self._sender.send(app, url, MESSAGE, callback, read_message_answer)
            except BackendGone:
                raise
            except CallbackFailed as failed:
                was_sent = was_sent or not isinstance(failed, CallbackPaused)
                if not was_sent:
                    raise
                last = failed
            await asyncio.sleep(delay)
            if not await may_repeat():
                raise last
        return await self._sender.send(app, url, MESSAGE, callback, read_message_answer)

    async def _send_close(self, closed: ClosedTunnel) -> CallOutcome:
        callback = _callback(
            closed.tunnel, closed.seq, code=closed.code, reason=closed.reason, by=closed.by.value
        )
        try:
            app, url = await self._receiver(closed.tunnel)
            await self._sender.send(app, url, CLOSE, callback, read_closed)
        except NoReceiver:
            return CallOutcome.REFUSED
        except CallbackFailed as failed:
            _log_failure(CLOSE, closed.tunnel, failed)
            return CallOutcome.FAILED
        return CallOutcome.DELIVERED

    async def _receiver(self, tunnel: Tunnel) -> tuple[App, str]:
        """Return the tunnel's app and the URL of its callbacks. Raises NoReceiver."""
        app = await self._apps.get(tunnel.app)
        if app is None or app.incarnation != tunnel.incarnation:
            raise NoReceiver("the app was deleted")
        url = tunnel.callback_url or app.tunnel_url
        if not url:
            raise NoReceiver("the app has no tunnel_url")
        return app, url


def _callback(tunnel: Tunnel, seq: int, **more: object) -> Callback:
    data: dict[str, object] = {"app": tunnel.app, "tunnel_id": tunnel.id, "seq": seq}
    if tunnel.subject:
        data["subject"] = tunnel.subject
    if tunnel.openid:
        data["openid"] = tunnel.openid
    data["meta"] = RawJSON(tunnel.meta.encode())
    return Callback(f"{tunnel.id}.{seq}", {**data, **more}, tunnel.id)


def _close_call(closed: ClosedTunnel) -> DeferredCall:
    tunnel = closed.tunnel
    return DeferredCall(
        f"{tunnel.id}.{closed.seq}", CLOSE_CALL, tunnel.app, encode(closed).decode()
    )


def _log_failure(kind: CallbackKind, tunnel: Tunnel, failed: CallbackFailed) -> None:
    if not isinstance(failed, CallbackPaused):
        log.warning(
            "tunnel callback failed",
            app=tunnel.app,
            type=kind.type,
            tunnel_id=tunnel.id,
            reason=str(failed),
        )
