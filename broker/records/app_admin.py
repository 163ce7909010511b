"""Apps as an operator writes them down, by command or over the admin port."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.apps.errors import AppAlreadyExists, AppNotFound, InvalidApp
from broker.apps.model import AppRecord, hash_api_secret
from broker.apps.rules import FIELD_RULES
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.fields import check_fields
from broker.records import tables as t
from broker.records.app_cache import app_record_from_row
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
"""What an app has that was not said."""


class SqlAppAdmin:
    """providers: whose names an app may have; the first where none is said.

    reserved_ids: ids that are the settings' own.  clock: Unix time in seconds.
    Every method raises RecordsUnavailable, and then nothing has changed.
    """

    def __init__(
        self,
        database: Database,
        seal_keys: SecretBox,
        *,
        providers: Sequence[str],
        reserved_ids: Collection[str],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._seal_keys = seal_keys
        self._providers = providers
        self._reserved_ids = reserved_ids
        self._clock = clock

    async def list(self) -> list[AppRecord]:
        """All apps, by id."""
        async with self._database.read_connection() as connection:
            rows = await connection.execute(select(t.apps).order_by(t.apps.c.id))
            return [app_record_from_row(row) for row in rows.mappings()]

    async def get(self, app_id: str) -> AppRecord:
        """Raises AppNotFound."""
        async with self._database.read_connection() as connection:
            return await _read(connection, app_id)

    async def add(self, app_id: str, fields: Mapping[str, object]) -> AppRecord:
        """Record a new app; `fields` has at least `name`.  Raises InvalidApp or
        AppAlreadyExists.
        """
        if "name" not in fields:
            raise InvalidApp(["name: an app needs one"])
        said = {"provider": self._providers[0], **APP_DEFAULTS, **fields, "id": app_id}
        values = {
            **self._values(said, app_id),
            "created_at": self._clock(),
            "incarnation": secrets.token_hex(8),
        }
        try:
            async with self._database.write_transaction() as connection:
                await connection.execute(insert(t.apps).values(values))
                await _count(connection)
                return await _read(connection, app_id)
        except IntegrityError:
            raise AppAlreadyExists from None

    async def update(self, app_id: str, fields: Mapping[str, object]) -> AppRecord:
        """Write down what is said anew; the rest stays.  Raises InvalidApp or AppNotFound."""
        if "id" in fields:
            raise InvalidApp(["id: an app keeps its own"])
        values = self._values(fields, app_id)
        async with self._database.write_transaction() as connection:
            await _write(connection, app_id, values)
            return await _read(connection, app_id)

    async def remove(self, app_id: str) -> None:
        """Delete an app. Logins in progress finish; new ones are refused.

        An app that is added later under the same id is a different app without the
        sessions, logins or codes of this one. Raises AppNotFound.
        """
        async with self._database.write_transaction() as connection:
            done = await connection.execute(delete(t.apps).filter_by(id=app_id))
            if not done.rowcount:
                raise AppNotFound
            await _count(connection)

    async def rotate_secret(self, app_id: str) -> str:
        """Make the app's own secret anew and return it, this once: 256 random bits.

        The former one is worth nothing from then on.  Raises AppNotFound.
        """
        secret = secrets.token_urlsafe(32)
        values = {"api_secret_hash": hash_api_secret(secret), "changed_at": self._clock()}
        async with self._database.write_transaction() as connection:
            await _write(connection, app_id, values)
        return secret

    async def rewrap(self) -> int:
        """Seal every provider's secret anew that an older key has sealed; how many there were.

        Raises SecretDecryptionFailed for one whose key is not known, and then nothing has changed.
        """
        older = select(t.apps).where(t.apps.c.provider_secret_key != self._seal_keys.newest_key_id)
        async with self._database.write_transaction() as connection:
            rows = await connection.execute(older.with_for_update())
            apps = [app_record_from_row(row) for row in rows.mappings()]
            for one in apps:
                assert one.encrypted_secret is not None
                secret = self._seal_keys.decrypt(one.encrypted_secret, one.app.id)
                await _write(connection, one.app.id, self._sealed(secret, one.app.id))
        return len(apps)

    def _values(self, fields: Mapping[str, object], app_id: str) -> dict[str, object]:
        """The columns that `fields` want to be so."""
        if app_id in self._reserved_ids:
            raise InvalidApp([f"id: the app {app_id!r} is the settings' own, and changed there"])
        values = check_fields(fields, FIELD_RULES, InvalidApp)
        if values.get("provider", self._providers[0]) not in self._providers:
            raise InvalidApp([f"provider: want one of {', '.join(self._providers)}"])
        if "provider_secret" in values:
            secret = values.pop("provider_secret")
            values |= self._sealed(secret if isinstance(secret, str) else None, app_id)
        return {**values, "changed_at": self._clock()}

    def _sealed(self, secret: str | None, app_id: str) -> dict[str, object]:
        content, key = self._seal_keys.encrypt(secret, app_id) if secret else (None, None)
        return {"provider_secret": content, "provider_secret_key": key}


async def _read(connection: AsyncConnection, app_id: str) -> AppRecord:
    rows = await connection.execute(select(t.apps).filter_by(id=app_id))
    row = rows.mappings().one_or_none()
    if row is None:
        raise AppNotFound
    return app_record_from_row(row)


async def _write(connection: AsyncConnection, app_id: str, values: Mapping[str, object]) -> None:
    done = await connection.execute(update(t.apps).filter_by(id=app_id).values(values))
    if not done.rowcount:
        raise AppNotFound
    await _count(connection)


async def _count(connection: AsyncConnection) -> None:
    """Let every instance see that the apps have changed, once this transaction is through."""
    number = t.changes.c.number
    await connection.execute(update(t.changes).filter_by(what="apps").values(number=number + 1))
