"""Checks of the servers of sites that the broker calls.

The requests have the signatures of real ones. They name a person, a room and a file that do not
exist.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlsplit

from broker.audit.settings import AuditSettings
from broker.backends import default_app, open_apps, open_webhook_secrets
from broker.chat.settings import ChatSettings
from broker.cli.checks.model import Failed, Installation, Skipped
from broker.cli.tunnel_url import send_verification
from broker.directories.settings import DirectorySettings
from broker.infrastructure.outbound.settings import OutboundSettings
from broker.infrastructure.outbound.webhook import SiteClient, WebhookFailed, sign
from broker.providers.settings import ProviderSettings
from broker.tunnels.ports import CallbackFailed

UNKNOWN_NAME = "scan-login-doctor"

OFFER: Mapping[str, object] = {
    "openid": UNKNOWN_NAME,
    "subject": None,
    "size": 1,
    "media_type": "image/png",
    "purpose": "",
    "sha256": "0" * 64,
}

ROTATE = "run scan-login app rotate-webhook-secret {}, and give the secret to the app's server"

ANSWERS = (200, 403, 404)
"""The statuses of a decision."""


async def check_directory(installation: Installation) -> str:
    group = installation.settings[DirectorySettings]
    if not urlsplit(group.directory).scheme:
        raise Skipped(f"the directory is {group.directory}")
    identity = {
        "provider": installation.settings[ProviderSettings].provider,
        "provider_app_id": "",
        "openid": UNKNOWN_NAME,
        "unionid": None,
    }
    return await _ask(
        group.directory,
        "identity.find",
        identity,
        secrets=[secret.get_secret_value() for secret in group.directory_secret],
        allow_private_address=group.directory_private,
        answers=ANSWERS,
    )


async def check_chat(installation: Installation) -> str:
    url = installation.settings[ChatSettings].chat_rooms
    if not urlsplit(url).scheme:
        raise Skipped("the app default has no webhook for rooms")
    app = default_app(installation.settings)
    records = installation.records or installation.unopened_records
    return await _ask(
        url,
        "room.admit",
        {"app": app.id, "room": UNKNOWN_NAME, "subject": UNKNOWN_NAME},
        secrets=open_webhook_secrets(installation.settings, records).webhook_secrets(app.id),
        allow_private_address=_is_private_allowed(installation),
        answers=ANSWERS,
    )


async def check_files(installation: Installation) -> str:
    """Send `file.offered` to the URL of each app. The app default has none."""
    records = installation.records
    apps = [] if records is None else [one.app for one in await records.app_admin.list()]
    asked = {app.id: app.files_url for app in apps if app.files_url}
    if records is None or not asked:
        raise Skipped("no app decides about files")
    for app_id, url in asked.items():
        secrets = records.apps.webhook_secrets(app_id)
        if not secrets:
            raise Failed(f"the app {app_id} has no webhook secret", ROTATE.format(app_id))
        await _ask(
            url,
            "file.offered",
            {**OFFER, "app": app_id},
            secrets=secrets,
            allow_private_address=_is_private_allowed(installation),
            answers=(200, 403),
        )
    return f"file.offered is answered for {', '.join(asked)}"


async def check_audit(installation: Installation) -> str:
    group = installation.settings[AuditSettings]
    if group.audit_url is None:
        raise Skipped("the audit log is not pushed")
    return await _ask(
        group.audit_url,
        "audit.entry",
        {"entries": []},
        secrets=[secret.get_secret_value() for secret in group.audit_secret],
        allow_private_address=_is_private_allowed(installation),
        answers=range(200, 300),
    )


async def check_tunnels(installation: Installation) -> str:
    """Send `tunnel.verify` to the URL of each app."""
    settings = installation.settings
    records = installation.records or installation.unopened_records
    recorded = [] if installation.records is None else await records.app_admin.list()
    apps = [default_app(settings), *(record.app for record in recorded)]
    named = [app.id for app in apps if app.tunnel_url]
    if not named:
        raise Skipped("no app receives callbacks of tunnels")
    registry = open_apps(settings, records)
    problems = []
    for app_id in named:
        app = registry.get(app_id)
        try:
            if app and app.tunnel_url:
                await send_verification(settings, records, app, app.tunnel_url)
        except CallbackFailed as failed:
            problems.append(f"{app_id}: {failed}")
    if problems:
        raise Failed("; ".join(problems))
    return f"tunnel.verify is answered for {', '.join(named)}"


def _is_private_allowed(installation: Installation) -> bool:
    return installation.settings[OutboundSettings].webhooks_private


async def _ask(
    url: str,
    type: str,
    data: Mapping[str, object],
    *,
    secrets: Sequence[str],
    allow_private_address: bool,
    answers: Collection[int],
) -> str:
    client = SiteClient(allow_private_address=allow_private_address)
    await client.open()
    try:
        response = await client.post(url, sign(secrets, type=type, data=data, now=time.time()))
    except WebhookFailed as failed:
        raise Failed(f"{url}: {failed}") from None
    finally:
        await client.close()
    if response.status not in answers:
        raise Failed(f"{url} answers {type} with status {response.status}")
    return f"{url} answers {type}"
