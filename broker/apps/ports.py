"""Where apps and their secrets are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from broker.apps.model import App, AppRecord


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
