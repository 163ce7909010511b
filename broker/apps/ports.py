"""Where apps and their secrets are read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from broker.apps.model import App


class Apps(Protocol):
    async def get(self, app_id: str) -> App | None:
        """The app, or None."""

    def with_pool(self) -> Collection[App]:
        """Those whose codes come from a pool."""

    def origins(self) -> frozenset[str]:
        """Every origin that any app allows; the same object for as long as none changes."""


class AppSecrets(Protocol):
    def provider_secret(self, app_id: str) -> str | None:
        """What the app shows its provider (WeChat: AppSecret); None where it has none.

        Raises SecretDecryptionFailed.
        """

    def is_api_secret(self, app_id: str, shown: str) -> bool:
        """Whether `shown` is the secret by which the app's own servers prove themselves."""
