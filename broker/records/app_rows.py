"""Rows of the table `apps`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import RowMapping

from broker.apps.model import App, AppRecord, parse_options
from broker.infrastructure.crypto.sealing import EncryptedSecret, SecretBox

SECRET_OWNERS: Mapping[str, str] = {
    "provider_secret": "{}",
    "webhook_secret": "{}~webhook",
    "wafer_key": "{}~wafer",
}
"""The columns of encrypted secrets, and the name under which each is encrypted for an app id. No
app has an id with a tilde. The column `<name>_key` has the id of the seal key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRow:
    """An app with its secrets.

    encrypted: the secrets that it has, by a name of `SECRET_OWNERS`.
    created_at, changed_at: Unix time in seconds.
    """

    app: App
    encrypted: Mapping[str, EncryptedSecret] = field(repr=False)
    api_secret_hash: bytes | None = field(repr=False)
    created_at: float
    changed_at: float

    def to_record(self) -> AppRecord:
        """Return the app without its secrets."""
        return AppRecord(
            app=self.app,
            has_provider_secret="provider_secret" in self.encrypted,
            has_api_secret=self.api_secret_hash is not None,
            has_wafer_key="wafer_key" in self.encrypted,
            created_at=self.created_at,
            changed_at=self.changed_at,
        )


def parse_app_row(row: RowMapping) -> AppRow:
    app = App(
        id=row["id"],
        name=row["name"],
        origins=frozenset(row["origins"]),
        register_url=row["register_url"],
        redirect_urls=frozenset(row["redirect_urls"]),
        provider=row["provider"],
        provider_app_id=row["provider_app_id"],
        code_source=row["code_source"],
        login_lifetime=row["login_lifetime"],
        incarnation=row["incarnation"] or "",
        **parse_options(row["options"] or {}),
    )
    return AppRow(
        app=app,
        encrypted={
            name: EncryptedSecret(row[name], row[f"{name}_key"])
            for name in SECRET_OWNERS
            if row[name] is not None
        },
        api_secret_hash=row["api_secret_hash"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


def decrypt_webhook_secrets(row: AppRow, secret_box: SecretBox) -> Sequence[str]:
    """Return the secrets that sign requests to the app, the newest first.

    Raises SecretDecryptionFailed.
    """
    encrypted = row.encrypted.get("webhook_secret")
    if encrypted is None:
        return ()
    return secret_box.decrypt(encrypted, secret_owner("webhook_secret", row.app.id)).split()


def secret_owner(name: str, app_id: str) -> str:
    """Return the name under which a secret of the app is encrypted."""
    return SECRET_OWNERS[name].format(app_id)
