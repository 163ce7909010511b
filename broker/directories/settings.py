"""Settings of the directory and its webhook."""

from __future__ import annotations

import base64
from typing import Annotated
from urllib.parse import SplitResult

from pydantic import AfterValidator, Field, SecretStr, model_validator

from broker.infrastructure.fields import is_web_url
from broker.infrastructure.outbound.ssrf import is_loopback, may_be_public
from broker.infrastructure.settings import InvalidField, SecretList, SettingsGroup
from broker.infrastructure.urls import split

LOCAL_DIRECTORIES = ("open", "sql")

SECRET_BYTES = range(24, 65)
"""A secret has 24 to 64 bytes (Standard Webhooks)."""


def check_directory(value: str) -> str:
    split(value)  # names a wrong port
    if value not in LOCAL_DIRECTORIES and not is_web_url(value):
        raise ValueError("use open, sql, or the https URL of a webhook")
    return value


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


class DirectorySettings(SettingsGroup):
    directory: Annotated[str, AfterValidator(check_directory)] = Field(
        "open",
        description="maps identities to subjects: `open`, `sql`, or the https URL of a site's "
        "webhook",
    )
    directory_private: bool = Field(
        False, description="allow the site's webhook to have an address that is not public"
    )
    directory_secret: Annotated[SecretList, AfterValidator(check_signing_secrets)] = Field(
        (),
        description="secret that signs requests to the webhook, `whsec_…`; with several "
        "secrets, each one signs",
    )

    @model_validator(mode="after")
    def _check_webhook(self) -> DirectorySettings:
        url = split(self.directory)
        if not url.scheme:
            return self
        if reason := self._unusable_reason(url):
            raise InvalidField("directory", reason)
        if not self.directory_secret:
            raise InvalidField(
                "directory_secret",
                "missing; make one with echo whsec_$(openssl rand -base64 32), and give it to "
                "the webhook too",
            )
        return self

    def _unusable_reason(self, url: SplitResult) -> str | None:
        host = url.hostname or ""
        if url.port == 0 or url.username is not None or url.password is not None:
            return "use no port 0, and no password: the signature authenticates the broker"
        if url.scheme == "http" and not (self.directory_private and is_loopback(host)):
            return (
                "use https: with http, anyone on the network can read the ids; http on loopback "
                "requires SCAN_LOGIN_DIRECTORY_PRIVATE=true"
            )
        if not self.directory_private and not may_be_public(host):
            return (
                f"{host} is not a public address: to allow it, set "
                "SCAN_LOGIN_DIRECTORY_PRIVATE=true"
            )
        return None
