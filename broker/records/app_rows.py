"""Rows of the table `apps`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import RowMapping

from broker.apps.model import App, AppRecord, parse_options
from broker.infrastructure.crypto.sealing import EncryptedSecret, SecretBox


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRow:
    """An app with its secrets. created_at, changed_at: Unix time in seconds."""

    app: App
    encrypted_secret: EncryptedSecret | None = field(repr=False)
    encrypted_webhook_secret: EncryptedSecret | None = field(repr=False)
    api_secret_hash: bytes | None = field(repr=False)
    created_at: float
    changed_at: float

    def to_record(self) -> AppRecord:
        """Return the app without its secrets."""
        return AppRecord(
            app=self.app,
            has_provider_secret=self.encrypted_secret is not None,
            has_api_secret=self.api_secret_hash is not None,
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
        encrypted_secret=_encrypted(row, "provider_secret"),
        encrypted_webhook_secret=_encrypted(row, "webhook_secret"),
        api_secret_hash=row["api_secret_hash"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


def _encrypted(row: RowMapping, name: str) -> EncryptedSecret | None:
    ciphertext = row[name]
    return None if ciphertext is None else EncryptedSecret(ciphertext, row[f"{name}_key"])


def decrypt_webhook_secrets(row: AppRow, secret_box: SecretBox) -> Sequence[str]:
    """Return the secrets that sign requests to the app, the newest first.

    Raises SecretDecryptionFailed.
    """
    encrypted = row.encrypted_webhook_secret
    if encrypted is None:
        return ()
    return secret_box.decrypt(encrypted, webhook_secret_owner(row.app.id)).split()


def webhook_secret_owner(app_id: str) -> str:
    """Return the name under which a webhook secret is encrypted: no app has this id."""
    return f"{app_id}~webhook"
