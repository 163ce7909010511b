"""Callbacks of native tunnels, sent once each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from broker.apps.ports import Apps, WebhookSecrets
from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decode, encode
from broker.infrastructure.outbound.http import HTTPResponse
from broker.infrastructure.outbound.webhook import SiteClient, WebhookFailed, read_object, sign
from broker.tunnels.model import (
    AcceptedOpening,
    ClosedTunnel,
    CloseRequest,
    MessageAnswer,
    Opening,
    Tunnel,
)
from broker.tunnels.ports import CallbackFailed, OpeningRefused
from broker.tunnels.rules import check_groups, check_meta, check_subject


class DirectCallbacks:
    def __init__(
        self, *, apps: Apps, secrets: WebhookSecrets, client: SiteClient, clock: Clock
    ) -> None:
        self._apps = apps
        self._secrets = secrets
        self._client = client
        self._clock = clock

    async def start(self) -> None:
        await self._client.open()

    async def stop(self) -> None:
        await self._client.close()

    async def open(self, tunnel: Tunnel, seq: int, opening: Opening) -> AcceptedOpening:
        response = await self._post(tunnel, seq, "tunnel.open", opening._asdict(), 3.0)
        if response.status in (401, 403):
            raise OpeningRefused
        if response.status == 204:
            return AcceptedOpening()
        if response.status != 200:
            raise CallbackFailed
        fields = read_object(response)
        return AcceptedOpening(
            meta=check_meta(fields["meta"]) if "meta" in fields else None,
            groups=check_groups(fields["groups"]) if "groups" in fields else None,
            subject=check_subject(fields["subject"]) if "subject" in fields else None,
        )

    async def message(
        self,
        tunnel: Tunnel,
        seq: int,
        data: bytes,
        message_id: str,
        *,
        may_repeat: Callable[[], Awaitable[bool]],
    ) -> MessageAnswer:
        more: dict[str, object] = {"data": decode(data)}
        if message_id:
            more["id"] = message_id
        response = await self._post(tunnel, seq, "tunnel.message", more, 10.0)
        if response.status == 204:
            return MessageAnswer()
        fields = read_object(response)
        if 400 <= response.status < 500:
            return MessageAnswer(
                error=(str(fields.get("error")), str(fields.get("error_description")))
            )
        if response.status != 200:
            raise CallbackFailed
        close = fields.get("close")
        return MessageAnswer(
            reply=encode(fields["reply"]) if "reply" in fields else None,
            close=CloseRequest(close["code"], close["reason"]) if isinstance(close, dict) else None,
        )

    async def schedule_close(self, closed: ClosedTunnel, *, delay: float) -> None:
        return

    async def close(self, closed: ClosedTunnel) -> None:
        more = {"code": closed.code, "reason": closed.reason, "by": closed.by.value}
        try:
            await self._post(closed.tunnel, closed.seq, "tunnel.close", more, 10.0)
        except CallbackFailed:
            return

    async def cancel_close(self, closed: ClosedTunnel) -> None:
        return

    async def _post(
        self, tunnel: Tunnel, seq: int, type: str, more: dict[str, object], limit: float
    ) -> HTTPResponse:
        app = await self._apps.get(tunnel.app)
        secret = self._secrets.webhook_secret(tunnel.app)
        if app is None or not app.tunnel_url or secret is None:
            raise CallbackFailed
        data: dict[str, object] = {"app": tunnel.app, "tunnel_id": tunnel.id, "seq": seq}
        data["meta"] = decode(tunnel.meta)
        if tunnel.subject:
            data["subject"] = tunnel.subject
        if tunnel.openid:
            data["openid"] = tunnel.openid
        request = sign(
            [secret],
            type=type,
            data={**data, **more},
            now=self._clock(),
            message_id=f"{tunnel.id}.{seq}",
        )
        try:
            async with asyncio.timeout(limit):
                return await self._client.post(app.tunnel_url, request)
        except (WebhookFailed, TimeoutError):
            raise CallbackFailed from None
