"""Storage protocols of apps and their secrets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from broker.apps.model import App, AppRecord


class Apps(Protocol):
    """Reads apps."""

    def get(self, app_id: str) -> App | None:
        """Return the app, or None if it does not exist."""

    def with_pool(self) -> Collection[App]:
        """Return the apps whose codes come from a pool."""

    def origins(self) -> frozenset[str]:
        """Return the origins of all apps; the same object until one changes."""


class AppSecrets(Protocol):
    """Reads secrets of apps."""

    def provider_secret(self, app_id: str) -> str | None:
        """Return the secret of the app at its provider (WeChat: AppSecret), or None.

        Raises SecretDecryptionFailed.
        """

    def is_api_secret(self, app_id: str, secret: str) -> bool:
        """Return whether `secret` authenticates the app's own servers."""


class WebhookSecrets(Protocol):
    """Reads the secrets that sign requests to apps."""

    def webhook_secrets(self, app_id: str) -> Sequence[str]:
        """Return the secrets, `whsec_…`, the newest first; none if the app has none.

        Each one signs every request, so that the app can replace its own. Raises
        SecretDecryptionFailed.
        """


class WaferKeys(Protocol):
    """Reads the keys that sign Wafer's tunnel calls."""

    def wafer_key(self, app_id: str) -> str | None:
        """Return the key, or None if the app has none. Raises SecretDecryptionFailed."""


class AppAdmin(Protocol):
    """Lists and changes apps.

    Every method raises Unavailable if the records are unavailable; nothing has changed then.
    """

    async def list(self) -> Sequence[AppRecord]:
        """Return all apps by id."""

    async def get(self, app_id: str) -> AppRecord:
        """Raises AppNotFound."""

    async def add(self, app_id: str, fields: Mapping[str, object]) -> AppRecord:
        """Add an app; `fields` has at least `name`.  Raises InvalidApp or AppAlreadyExists."""

    async def update(self, app_id: str, fields: Mapping[str, object]) -> AppRecord:
        """Change the given fields only.  Raises InvalidApp or AppNotFound."""

    async def remove(self, app_id: str) -> None:
        """Delete an app.  Logins in progress finish; new ones are refused.  Raises AppNotFound."""

    async def rotate_secret(self, app_id: str) -> str:
        """Replace the secret of the app's own servers and return the new one.

        The previous secret is invalid at once.  Raises AppNotFound.
        """

    async def rotate_webhook_secret(self, app_id: str) -> str:
        """Add a secret that signs requests to the app, and return it.

        The previous one also signs until the next call. Raises AppNotFound.
        """
