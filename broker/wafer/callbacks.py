"""The callbacks of Wafer's tunnels, in the envelope that its server SDKs read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from broker.apps.model import App
from broker.apps.ports import Apps, WaferKeys, WebhookSecrets
from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decode, encode
from broker.infrastructure.outbound.http import HTTPResponse
from broker.infrastructure.outbound.webhook import (
    SignedRequest,
    WebhookAnswer,
    WebhookFailed,
    sign_body,
)
from broker.infrastructure.retries import RetryWorker
from broker.tunnels.callback_repeats import log_failure, send_with_repeats
from broker.tunnels.callback_sender import Callback, CallbackKind, CallbackSender
from broker.tunnels.deferred_closes import CLOSE, DeferredCloses
from broker.tunnels.model import AcceptedOpening, ClosedTunnel, MessageAnswer, Opening, Tunnel
from broker.tunnels.ports import CallbackFailed, OpeningRefused, TunnelStore
from broker.wafer.signing import signature

log = structlog.get_logger()

CONNECT = CallbackKind("connect", 10.0)
MESSAGE = CallbackKind("message", 10.0)

CLOSE_CALL = "wafer-close"
"""The kind of the deferred calls."""

BUSY = 503
"""The status with which a business server, or a proxy before it, has not processed a callback."""

ACCEPTED, REFUSED = "accepted", "refused"


class WaferFormat:
    """Wafer's envelope, signed with the app's key.

    The headers of Standard Webhooks are added if the app has a webhook secret.
    clock: Unix time in seconds.
    """

    is_verified = False

    def __init__(self, keys: WaferKeys, secrets: WebhookSecrets, clock: Clock) -> None:
        self._keys = keys
        self._secrets = secrets
        self._clock = clock

    def build(self, app: App, kind: CallbackKind, callback: Callback) -> SignedRequest:
        try:
            key, secrets = self._keys.wafer_key(app.id), self._secrets.webhook_secrets(app.id)
        except Unavailable as error:  # a secret cannot be decrypted
            raise WebhookFailed(str(error)) from None
        if key is None:
            raise WebhookFailed(f"the app has no key: scan-login app set {app.id} --wafer-key")
        data = encode(callback.data).decode()
        body = encode({"data": data, "dataEncode": "json", "signature": signature(data, key)})
        if not secrets:
            return SignedRequest(body, {"Content-Type": "application/json"})
        return sign_body(secrets, body, now=self._clock(), message_id=callback.id)


class WaferCallbacks(DeferredCloses):
    """Sends callbacks to the `receiveUrl` of tunnels. It is the `TunnelCallbacks` of Wafer.

    A packet has no id. So it is sent again only if the business server has not received it.
    """

    def __init__(
        self, *, apps: Apps, sender: CallbackSender, records: TunnelStore, retries: RetryWorker
    ) -> None:
        super().__init__(kind=CLOSE_CALL, apps=apps, records=records, retries=retries)
        self._sender = sender

    def is_paused(self, app: App, url: str) -> bool:
        """Return whether a `receiveUrl` gets no callbacks now, because it has failed too often."""
        return self._sender.is_paused(app, url)

    async def open(self, tunnel: Tunnel, seq: int, opening: Opening) -> AcceptedOpening:
        if not await self._send(tunnel, seq, CONNECT):
            raise OpeningRefused
        return AcceptedOpening()

    async def message(
        self,
        tunnel: Tunnel,
        seq: int,
        data: bytes,
        message_id: str,
        *,
        may_repeat: Callable[[], Awaitable[bool]],
    ) -> MessageAnswer:
        await self._send(tunnel, seq, MESSAGE, data.decode(), may_repeat)
        return MessageAnswer()

    async def attempt_close(self, closed: ClosedTunnel) -> None:
        tunnel = closed.tunnel
        await self._send_once(self.app_of(tunnel), tunnel, closed.seq, CLOSE)

    async def _send(
        self,
        tunnel: Tunnel,
        seq: int,
        kind: CallbackKind,
        content: str | None = None,
        may_repeat: Callable[[], Awaitable[bool]] | None = None,
    ) -> bool:
        """Return whether the business server has accepted the packet. Raises CallbackFailed."""
        try:
            app = self.app_of(tunnel)
            return await send_with_repeats(
                lambda: self._send_once(app, tunnel, seq, kind, content),
                is_idempotent=False,
                may_repeat=may_repeat,
            )
        except CallbackFailed as failed:
            log_failure(kind, tunnel, failed)
            raise

    async def _send_once(
        self, app: App, tunnel: Tunnel, seq: int, kind: CallbackKind, content: str | None = None
    ) -> bool:
        packet = {"tunnelId": tunnel.id, "type": kind.type}
        if content is not None:
            packet["content"] = content
        callback = Callback(f"{tunnel.id}.{seq}", packet, tunnel.id)
        is_accepted = await self._sender.send(app, tunnel.callback_url, kind, callback, read_answer)
        if not is_accepted:
            log.warning("tunnel callback refused", app=app.id, type=kind.type, tunnel_id=tunnel.id)
        return is_accepted


def read_answer(response: HTTPResponse) -> WebhookAnswer[bool]:
    """Return whether the packet is accepted. Raises WebhookFailed.

    | answer                                      | meaning       |
    |---------------------------------------------|---------------|
    | 2xx, without a JSON `code` other than 0     | accepted      |
    | 2xx or 4xx with another JSON `code`         | refused       |
    | 503                                         | not received  |
    | anything else                               | failed        |
    """
    code, is_success = _code_of(response), 200 <= response.status < 300
    if is_success and code in (None, 0):
        return WebhookAnswer(ACCEPTED, True)
    if code is not None and (is_success or 400 <= response.status < 500):
        return WebhookAnswer(REFUSED, False)
    raise WebhookFailed(f"status {response.status}", retryable=response.status == BUSY)


def _code_of(response: HTTPResponse) -> object:
    """Return the field `code` of a JSON object; None if there is none."""
    try:
        fields = decode(response.content)
    except (ValueError, RecursionError):
        return None
    return fields.get("code") if isinstance(fields, dict) else None
