"""Apps as an operator writes them down, by command or over the admin port."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.errors import AppExists, AppWrong, NoSuchApp
from broker.records import tables as t
from broker.records.apps import Recorded, api_secret_hash, recorded
from broker.records.database import Database
from broker.records.rules import RULES, checked
from broker.records.seal import SealKeys

DEFAULTS: Mapping[str, object] = {
    "provider_app_id": "",
    "provider_secret": None,
    "origins": (),
    "redirect_urls": (),
    "register_url": None,
    "code_source": "live",
    "login_lifetime": None,
}
"""What an app has that was not said."""


class AppBook:
    """providers: whose names an app may have; the first where none is said.

    taken: ids that are the settings' own.  clock: Unix time in seconds.
    Every method raises RecordsDown, and then nothing has changed.
    """

    def __init__(
        self,
        database: Database,
        seal_keys: SealKeys,
        *,
        providers: Sequence[str],
        taken: Collection[str],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._seal_keys = seal_keys
        self._providers = providers
        self._taken = taken
        self._clock = clock

    async def list(self) -> list[Recorded]:
        """All apps, by id."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(t.apps).order_by(t.apps.c.id))
            return [recorded(row) for row in rows.mappings()]

    async def get(self, app_id: str) -> Recorded:
        """Raises NoSuchApp."""
        async with self._database.reading() as connection:
            return await _read(connection, app_id)

    async def add(self, app_id: str, fields: Mapping[str, object]) -> Recorded:
        """Record a new app; `fields` has at least `name`.  Raises AppWrong or AppExists."""
        if "name" not in fields:
            raise AppWrong(["name: an app needs one"])
        said = {"provider": self._providers[0], **DEFAULTS, **fields, "id": app_id}
        values = {
            **self._values(said, app_id),
            "created_at": self._clock(),
            "incarnation": secrets.token_hex(8),
        }
        try:
            async with self._database.writing() as connection:
                await connection.execute(insert(t.apps).values(values))
                await _count(connection)
                return await _read(connection, app_id)
        except IntegrityError:
            raise AppExists from None

    async def change(self, app_id: str, fields: Mapping[str, object]) -> Recorded:
        """Write down what is said anew; the rest stays.  Raises AppWrong or NoSuchApp."""
        if "id" in fields:
            raise AppWrong(["id: an app keeps its own"])
        values = self._values(fields, app_id)
        async with self._database.writing() as connection:
            await _write(connection, app_id, values)
            return await _read(connection, app_id)

    async def remove(self, app_id: str) -> None:
        """Delete an app. Logins in progress finish; new ones are refused.

        An app that is added later under the same id is a different app without the
        sessions, logins or codes of this one. Raises NoSuchApp.
        """
        async with self._database.writing() as connection:
            done = await connection.execute(delete(t.apps).filter_by(id=app_id))
            if not done.rowcount:
                raise NoSuchApp
            await _count(connection)

    async def rotate_secret(self, app_id: str) -> str:
        """Make the app's own secret anew and return it, this once: 256 random bits.

        The former one is worth nothing from then on.  Raises NoSuchApp.
        """
        secret = secrets.token_urlsafe(32)
        values = {"api_secret_hash": api_secret_hash(secret), "changed_at": self._clock()}
        async with self._database.writing() as connection:
            await _write(connection, app_id, values)
        return secret

    async def rewrap(self) -> int:
        """Seal every provider's secret anew that an older key has sealed; how many there were.

        Raises CannotUnseal for one whose key is not known, and then nothing has changed.
        """
        older = select(t.apps).where(t.apps.c.provider_secret_key != self._seal_keys.newest)
        async with self._database.writing() as connection:
            rows = await connection.execute(older.with_for_update())
            apps = [recorded(row) for row in rows.mappings()]
            for one in apps:
                assert one.sealed is not None
                secret = self._seal_keys.open(one.sealed, one.app.id)
                await _write(connection, one.app.id, self._sealed(secret, one.app.id))
        return len(apps)

    def _values(self, fields: Mapping[str, object], app_id: str) -> dict[str, object]:
        """The columns that `fields` want to be so."""
        if app_id in self._taken:
            raise AppWrong([f"id: the app {app_id!r} is the settings' own, and changed there"])
        values = checked(fields, RULES, AppWrong)
        if values.get("provider", self._providers[0]) not in self._providers:
            raise AppWrong([f"provider: want one of {', '.join(self._providers)}"])
        if "provider_secret" in values:
            secret = values.pop("provider_secret")
            values |= self._sealed(secret if isinstance(secret, str) else None, app_id)
        return {**values, "changed_at": self._clock()}

    def _sealed(self, secret: str | None, app_id: str) -> dict[str, object]:
        content, key = self._seal_keys.seal(secret, app_id) if secret else (None, None)
        return {"provider_secret": content, "provider_secret_key": key}


async def _read(connection: AsyncConnection, app_id: str) -> Recorded:
    rows = await connection.execute(select(t.apps).filter_by(id=app_id))
    row = rows.mappings().one_or_none()
    if row is None:
        raise NoSuchApp
    return recorded(row)


async def _write(connection: AsyncConnection, app_id: str, values: Mapping[str, object]) -> None:
    done = await connection.execute(update(t.apps).filter_by(id=app_id).values(values))
    if not done.rowcount:
        raise NoSuchApp
    await _count(connection)


async def _count(connection: AsyncConnection) -> None:
    """Let every instance see that the apps have changed, once this transaction is through."""
    number = t.changes.c.number
    await connection.execute(update(t.changes).filter_by(what="apps").values(number=number + 1))
