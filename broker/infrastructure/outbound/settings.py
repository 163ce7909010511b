"""The setting of requests to URLs of sites, and checks of such URLs and their secrets."""

from __future__ import annotations

import base64
from typing import Annotated
from urllib.parse import SplitResult

from pydantic import AfterValidator, Field, SecretStr

from broker.infrastructure.outbound.ssrf import is_loopback, may_be_public
from broker.infrastructure.settings import SecretList, SettingsGroup
from broker.infrastructure.settings_sources import variable

SECRET_BYTES = range(24, 65)
"""A secret has 24 to 64 bytes (Standard Webhooks)."""


def check_signing_secrets(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for secret in value:
        check_signing_secret(secret.get_secret_value())
    return value


def check_signing_secret(text: str) -> None:
    """Raises ValueError, which contains no part of the secret."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not text.startswith("whsec_") or len(key) not in SECRET_BYTES:
        raise ValueError(
            "use whsec_ and 24 to 64 bytes in base64: echo whsec_$(openssl rand -base64 32)"
        )


SigningSecrets = Annotated[SecretList, AfterValidator(check_signing_secrets)]
"""Secrets of Standard Webhooks."""

SIGNING_KEY_ADVICE = (
    "missing; make one with echo whsec_$(openssl rand -base64 32), and give it to the webhook too"
)


def webhook_url_problem(url: SplitResult, *, is_private_allowed: bool, setting: str) -> str | None:
    """Return why a webhook may not have this URL; None if it may.

    setting: the one that allows addresses that are not public.
    """
    host, allow = url.hostname or "", f"{variable(setting)}=true"
    if url.port == 0 or url.username is not None or url.password is not None:
        return "use no port 0, and no password: the signature authenticates the broker"
    if url.scheme == "http" and not (is_private_allowed and is_loopback(host)):
        return (
            "use https: with http, anyone on the network can read the ids; http on loopback "
            f"requires {allow}"
        )
    if not is_private_allowed and not may_be_public(host):
        return f"{host} is not a public address: to allow it, set {allow}"
    return None


class OutboundSettings(SettingsGroup):
    webhooks_private: bool = Field(
        False,
        description="allow the webhooks of apps, of the login policy and of the audit log to use "
        "http, and to have addresses that are not public",
    )
