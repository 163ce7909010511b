"""Administration of apps, by command and by the admin API."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.apps.errors import AppAlreadyExists, AppNotFound, InvalidApp
from broker.apps.model import OPTION_FIELDS, AppRecord, hash_api_secret, option_values
from broker.apps.rules import FIELD_RULES, find_conflicts
from broker.infrastructure.crypto.sealing import SecretBox, SecretDecryptionFailed
from broker.infrastructure.fields import check_fields
from broker.records import tables as t
from broker.records.app_rows import (
    SECRET_OWNERS,
    AppRow,
    decrypt_webhook_secrets,
    parse_app_row,
    secret_owner,
)
from broker.records.database import Database

APP_DEFAULTS: Mapping[str, object] = {
    "provider_app_id": "",
    "provider_secret": None,
    "origins": (),
    "redirect_urls": (),
    "register_url": None,
    "code_source": "live",
    "login_lifetime": None,
}
"""Values of the fields that a new app does not set."""


class SqlAppAdmin:
    """Lists and changes apps.

    providers: names that an app may have; the first is the default.
    reserved_ids: ids of apps in the settings.
    clock: Unix time in seconds.
    Every method raises RecordsUnavailable; nothing has changed then.
    """

    def __init__(
        self,
        database: Database,
        secret_box: SecretBox,
        *,
        providers: Sequence[str],
        reserved_ids: Collection[str],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._secret_box = secret_box
        self._providers = providers
        self._reserved_ids = reserved_ids
        self._clock = clock

    async def list(self) -> list[AppRecord]:
        """Return all apps by id."""
        async with self._database.read_connection() as connection:
            rows = await connection.execute(select(t.apps).order_by(t.apps.c.id))
            return [parse_app_row(row).to_record() for row in rows.mappings()]

    async def get(self, app_id: str) -> AppRecord:
        """Raises AppNotFound."""
        async with self._database.read_connection() as connection:
            return await _read(connection, app_id)

    async def add(self, app_id: str, fields: Mapping[str, object]) -> AppRecord:
        """Add an app; `fields` has at least `name`. Raises InvalidApp or AppAlreadyExists."""
        if "name" not in fields:
            raise InvalidApp(["name: an app needs one"])
        all_fields = {"provider": self._providers[0], **APP_DEFAULTS, **fields, "id": app_id}
        values = {
            **self._values(all_fields, app_id),
            "created_at": self._clock(),
            "incarnation": secrets.token_hex(8),
        }
        _check_app({**all_fields, **values, **values["options"]})
        try:
            async with self._database.write_transaction() as connection:
                await connection.execute(insert(t.apps).values(values))
                await _count_change(connection)
                return await _read(connection, app_id)
        except IntegrityError:
            raise AppAlreadyExists from None

    async def update(self, app_id: str, fields: Mapping[str, object]) -> AppRecord:
        """Change the given fields only. Raises InvalidApp or AppNotFound."""
        if "id" in fields:
            raise InvalidApp(["id: the id of an app cannot be changed"])
        values = self._values(fields, app_id)
        async with self._database.write_transaction() as connection:
            former = await _read(connection, app_id, is_locked=True)
            options = {**option_values(former.app), **values.pop("options")}
            before = {**former.as_dict(), **option_values(former.app)}
            _check_app({**before, **values, **options}, known=find_conflicts(before))
            await _write(connection, app_id, {**values, "options": options})
            return await _read(connection, app_id)

    async def remove(self, app_id: str) -> None:
        """Delete an app. Logins in progress finish; new ones are refused.

        An app that is added later under the same id is a different app without the
        sessions, logins or codes of this one. Raises AppNotFound.
        """
        async with self._database.write_transaction() as connection:
            deleted = await connection.execute(delete(t.apps).filter_by(id=app_id))
            if not deleted.rowcount:
                raise AppNotFound(f"the records have no app {app_id!r}; see scan-login app list")
            await _count_change(connection)

    async def rotate_secret(self, app_id: str) -> str:
        """Replace the secret of the app's own servers and return the new one, 256 random bits.

        Only its hash is stored. The previous secret is invalid at once. Raises AppNotFound.
        """
        secret = secrets.token_urlsafe(32)
        values = {"api_secret_hash": hash_api_secret(secret), "changed_at": self._clock()}
        async with self._database.write_transaction() as connection:
            await _write(connection, app_id, values)
        return secret

    async def rotate_webhook_secret(self, app_id: str) -> str:
        """Add a secret that signs requests to the app, and return it.

        It is stored encrypted. The previous one also signs, until the next call. Raises
        AppNotFound.
        """
        secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        async with self._database.write_transaction() as connection:
            row = await _read_row(connection, app_id, is_locked=True)
            active = " ".join([secret, *self._former_webhook_secrets(row)])
            columns = self._secret_columns("webhook_secret", active, app_id)
            values = {**columns, "changed_at": self._clock()}
            await _write(connection, app_id, values)
        return secret

    async def rewrap(self) -> int:
        """Encrypt with the newest key all secrets that an older key has encrypted.

        Returns the number of secrets. Raises SecretDecryptionFailed if a key is unknown;
        nothing has changed then.
        """
        newest = self._secret_box.newest_key_id
        older = select(t.apps).where(
            or_(*(t.apps.c[f"{name}_key"] != newest for name in SECRET_OWNERS))
        )
        async with self._database.write_transaction() as connection:
            found = await connection.execute(older.with_for_update())
            rows = [parse_app_row(row) for row in found.mappings()]
            rewrapped = [self._rewrapped(row) for row in rows]
            for row, columns in zip(rows, rewrapped, strict=True):
                await _write(connection, row.app.id, columns)
        return sum(len(columns) // 2 for columns in rewrapped)

    def _rewrapped(self, row: AppRow) -> dict[str, object]:
        """Return the columns of the secrets that an older key has encrypted."""
        app_id, newest, columns = row.app.id, self._secret_box.newest_key_id, dict[str, object]()
        for name, secret in row.encrypted.items():
            if secret.key_id != newest:
                plain = self._secret_box.decrypt(secret, secret_owner(name, app_id))
                columns |= self._secret_columns(name, plain, app_id)
        return columns

    def _values(self, fields: Mapping[str, object], app_id: str) -> dict[str, Any]:
        """Return the columns for `fields`. Raises InvalidApp."""
        if app_id in self._reserved_ids:
            raise InvalidApp(
                [f"id: the app {app_id!r} is defined by the settings; change it there"]
            )
        values = check_fields(fields, FIELD_RULES, InvalidApp)
        if values.get("provider", self._providers[0]) not in self._providers:
            raise InvalidApp([f"provider: use one of {', '.join(self._providers)}"])
        for name in SECRET_OWNERS.keys() & values.keys():
            secret = values.pop(name)
            values |= self._secret_columns(
                name, secret if isinstance(secret, str) else None, app_id
            )
        options = {name: values.pop(name) for name in OPTION_FIELDS if name in values}
        return {**values, "options": options, "changed_at": self._clock()}

    def _former_webhook_secrets(self, row: AppRow) -> Sequence[str]:
        """Return the newest secret, unless its key is lost."""
        try:
            return decrypt_webhook_secrets(row, self._secret_box)[:1]
        except SecretDecryptionFailed:
            return ()

    def _secret_columns(self, name: str, secret: str | None, app_id: str) -> dict[str, object]:
        """Return the columns of a secret; None deletes it."""
        ciphertext, key = (
            self._secret_box.encrypt(secret, secret_owner(name, app_id)) if secret else (None, None)
        )
        return {name: ciphertext, f"{name}_key": key}


def _check_app(fields: Mapping[str, Any], *, known: Collection[str] = ()) -> None:
    """Raises InvalidApp if fields do not fit together.

    known: conflicts that a stored app has already, under the rules of an older version.
    """
    if mistakes := [one for one in find_conflicts(fields) if one not in known]:
        raise InvalidApp(mistakes)


async def _read(connection: AsyncConnection, app_id: str, *, is_locked: bool = False) -> AppRecord:
    return (await _read_row(connection, app_id, is_locked=is_locked)).to_record()


async def _read_row(connection: AsyncConnection, app_id: str, *, is_locked: bool) -> AppRow:
    """is_locked: keep other transactions from changing the row until the end of this one."""
    query = select(t.apps).filter_by(id=app_id)
    rows = await connection.execute(query.with_for_update() if is_locked else query)
    row = rows.mappings().one_or_none()
    if row is None:
        raise AppNotFound(f"the records have no app {app_id!r}; see scan-login app list")
    return parse_app_row(row)


async def _write(connection: AsyncConnection, app_id: str, values: Mapping[str, object]) -> None:
    updated = await connection.execute(update(t.apps).filter_by(id=app_id).values(values))
    if not updated.rowcount:
        raise AppNotFound(f"the records have no app {app_id!r}; see scan-login app list")
    await _count_change(connection)


async def _count_change(connection: AsyncConnection) -> None:
    """Make every instance refresh its apps after this transaction."""
    number = t.changes.c.number
    await connection.execute(update(t.changes).filter_by(what="apps").values(number=number + 1))
