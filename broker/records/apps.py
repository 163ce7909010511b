"""Apps as this instance holds them: all of them, read again once they have changed.

A login asks here and nowhere else, so none waits for the database, and a database
that is down changes nothing for apps that were known before.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import RowMapping, select

from broker.errors import RecordsDown
from broker.metrics import RECORDS_DOWN, RECORDS_FILE_LOST
from broker.outage import Outage
from broker.records import App
from broker.records import tables as t
from broker.records.database import Database
from broker.records.seal import Sealed, SealKeys

REFRESH = 2.0
"""Seconds between two looks at whether the apps have changed: so soon is a change known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An app as it is written down.  created_at, changed_at: Unix time in seconds."""

    app: App
    sealed: Sealed | None = field(repr=False)
    api_secret_hash: bytes | None = field(repr=False)
    created_at: float
    changed_at: float

    def shown(self) -> dict[str, object]:
        """What an operator may see of it: that it has secrets, and never which."""
        app = self.app
        return {
            "id": app.id,
            "name": app.name,
            "provider": app.provider,
            "provider_app_id": app.provider_app_id,
            "has_provider_secret": self.sealed is not None,
            "has_api_secret": self.api_secret_hash is not None,
            "origins": sorted(app.origins),
            "redirect_urls": sorted(app.redirect_urls),
            "register_url": app.register_url,
            "code_source": app.code_source,
            "login_lifetime": app.login_lifetime,
            "created_at": self.created_at,
            "changed_at": self.changed_at,
        }


def recorded(row: RowMapping) -> Recorded:
    """A row of the table `apps`."""
    content = row["provider_secret"]
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
    )
    return Recorded(
        app=app,
        sealed=None if content is None else Sealed(content, row["provider_secret_key"]),
        api_secret_hash=row["api_secret_hash"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


class RecordedApps:
    """Knows no app until it is refreshed."""

    def __init__(self, database: Database, seal_keys: SealKeys) -> None:
        self._database = database
        self._seal_keys = seal_keys
        self._known: Mapping[str, Recorded] = {}
        self._origins: frozenset[str] = frozenset()
        self._number: int | None = None
        self._outage = Outage("the records cannot be reached", "the records are back")

    async def get(self, app_id: str) -> App | None:
        known = self._known.get(app_id)
        return known.app if known else None

    def pooled(self) -> Collection[App]:
        return [one.app for one in self._known.values() if one.app.code_source == "pool"]

    def origins(self) -> frozenset[str]:
        return self._origins

    def provider_secret(self, app_id: str) -> str | None:
        known = self._known.get(app_id)
        if known is None or known.sealed is None:
            return None
        return self._seal_keys.open(known.sealed, app_id)

    def is_api_secret(self, app_id: str, shown: str) -> bool:
        known = self._known.get(app_id)
        expected = known.api_secret_hash if known else None
        # The same work, whether there is such an app and secret or not.
        return hmac.compare_digest(expected or b"", api_secret_hash(shown))

    async def refresh(self) -> None:
        """Take over what has changed; raises RecordsDown, and then nothing here has."""
        async with self._database.reading() as connection:
            # Read before the apps: what changes in between is taken over the next time.
            number = await connection.scalar(select(t.changes.c.number).filter_by(what="apps"))
            if number == self._number:
                return
            rows = (await connection.execute(select(t.apps))).mappings().all()
        self._known = {row["id"]: recorded(row) for row in rows}
        self._origins = frozenset().union(*(one.app.origins for one in self._known.values()))
        self._number = number

    async def keep_fresh(self) -> None:
        """Refresh again and again until cancelled; an outage is logged, and its end."""
        while True:
            await asyncio.sleep(REFRESH)
            try:
                await self.refresh()
            except RecordsDown as error:
                self._outage.fails(error.reason)
            else:
                self._outage.is_over()
            RECORDS_DOWN.set(self._outage.reason is not None)
            RECORDS_FILE_LOST.set(self._database.trouble() is not None)


def api_secret_hash(secret: str) -> bytes:
    """Of 256 random bits, so that no slow hash is needed."""
    return hashlib.sha256(secret.encode()).digest()
