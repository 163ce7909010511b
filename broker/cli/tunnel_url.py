"""Checks the URL that receives the callbacks of an app's tunnels."""

from __future__ import annotations

import sys
import time

from broker.apps.model import App
from broker.backends import open_apps, open_webhook_secrets
from broker.infrastructure.outbound.keep_alive import KeepAliveClient
from broker.infrastructure.outbound.settings import OutboundSettings
from broker.infrastructure.settings import Settings
from broker.records.store import Records
from broker.tunnels.callback_sender import CallbackSender, NativeFormat, callback_turns
from broker.tunnels.ports import CallbackFailed


async def print_verification(settings: Settings, records: Records, app_id: str) -> None:
    """Send `tunnel.verify` to the app's URL, and print the result.

    records: they are open.
    """
    app = open_apps(settings, records).get(app_id)
    if app is None or app.tunnel_url is None:
        return
    try:
        await send_verification(settings, records, app, app.tunnel_url)
    except CallbackFailed as failed:
        print(f"{app.tunnel_url} gets no callbacks yet: {failed}", file=sys.stderr)
    else:
        print(f"{app.tunnel_url} has answered tunnel.verify")


async def send_verification(settings: Settings, records: Records, app: App, url: str) -> None:
    """Send `tunnel.verify` to a URL of the app. Raises CallbackFailed."""
    client = KeepAliveClient(allow_private_address=settings[OutboundSettings].webhooks_private)
    webhook_secrets = open_webhook_secrets(settings, records)
    sender = CallbackSender(
        format=NativeFormat(webhook_secrets, time.time), client=client, turns=callback_turns()
    )
    await client.open()
    try:
        await sender.verify(app, url)
    finally:
        await client.close()
