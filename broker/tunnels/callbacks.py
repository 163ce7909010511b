"""The callbacks of native tunnels, with their repeats."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.infrastructure.codec import RawJSON
from broker.infrastructure.retries import RetryWorker
from broker.tunnels.callback_answers import read_closed, read_message_answer, read_opening
from broker.tunnels.callback_repeats import log_failure, send_with_repeats
from broker.tunnels.callback_sender import Callback, CallbackKind, CallbackSender
from broker.tunnels.deferred_closes import CLOSE, DeferredCloses, NoReceiver
from broker.tunnels.model import (
    AcceptedOpening,
    ClosedTunnel,
    MessageAnswer,
    Opening,
    Tunnel,
)
from broker.tunnels.ports import CallbackFailed, OpeningRefused, TunnelStore

OPEN = CallbackKind("open", 3.0)
MESSAGE = CallbackKind("message", 10.0, max_bytes=64 * 1024)

CLOSE_CALL = "tunnel-close"
"""The kind of the deferred calls."""


class NativeCallbacks(DeferredCloses):
    """Sends callbacks to the `tunnel_url` of apps. It is the `TunnelCallbacks` of native tunnels.

    retries: stores the calls of `tunnel.close`.
    """

    def __init__(
        self, *, apps: Apps, sender: CallbackSender, records: TunnelStore, retries: RetryWorker
    ) -> None:
        super().__init__(kind=CLOSE_CALL, apps=apps, records=records, retries=retries)
        self._sender = sender

    async def open(self, tunnel: Tunnel, seq: int, opening: Opening) -> AcceptedOpening:
        callback = _callback(tunnel, seq, **opening._asdict())
        try:
            app, url = await self._receiver(tunnel)
            accepted = await self._sender.send(app, url, OPEN, callback, read_opening)
        except CallbackFailed as failed:
            log_failure(OPEN, tunnel, failed)
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
            app, url = await self._receiver(tunnel)
            return await send_with_repeats(
                lambda: self._sender.send(app, url, MESSAGE, callback, read_message_answer),
                is_idempotent=True,
                may_repeat=may_repeat,
            )
        except CallbackFailed as failed:
            log_failure(MESSAGE, tunnel, failed)
            raise

    async def attempt_close(self, closed: ClosedTunnel) -> None:
        callback = _callback(
            closed.tunnel, closed.seq, code=closed.code, reason=closed.reason, by=closed.by.value
        )
        app, url = await self._receiver(closed.tunnel)
        await self._sender.send(app, url, CLOSE, callback, read_closed)

    async def _receiver(self, tunnel: Tunnel) -> tuple[App, str]:
        """Return the tunnel's app and the URL of its callbacks. Raises NoReceiver."""
        app = self.app_of(tunnel)
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
