"""Apps as this instance holds them: all of them, read again once they have changed.

A login asks here and nowhere else, so none waits for the database, and a database
that is down changes nothing for apps that were known before.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection, Mapping

from sqlalchemy import RowMapping, select

from broker.apps.model import App, AppRecord, hash_api_secret
from broker.infrastructure.crypto.sealing import EncryptedSecret, SecretBox
from broker.infrastructure.observability.metrics import Gauge
from broker.infrastructure.observability.outage import OutageLog
from broker.records import tables as t
from broker.records.database import RECORDS_FILE_LOST, Database
from broker.records.errors import RecordsUnavailable

REFRESH_INTERVAL = 2.0
"""Seconds between two looks at whether the apps have changed: so soon is a change known."""


def app_record_from_row(row: RowMapping) -> AppRecord:
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
    return AppRecord(
        app=app,
        encrypted_secret=None
        if content is None
        else EncryptedSecret(content, row["provider_secret_key"]),
        api_secret_hash=row["api_secret_hash"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


class AppCache:
    """Knows no app until it is refreshed."""

    def __init__(self, database: Database, seal_keys: SecretBox) -> None:
        self._database = database
        self._seal_keys = seal_keys
        self._known: Mapping[str, AppRecord] = {}
        self._origins: frozenset[str] = frozenset()
        self._number: int | None = None
        self._outage = OutageLog("the records cannot be reached", "the records are back")

    async def get(self, app_id: str) -> App | None:
        known = self._known.get(app_id)
        return known.app if known else None

    def with_pool(self) -> Collection[App]:
        return [one.app for one in self._known.values() if one.app.code_source == "pool"]

    def origins(self) -> frozenset[str]:
        return self._origins

    def provider_secret(self, app_id: str) -> str | None:
        known = self._known.get(app_id)
        if known is None or known.encrypted_secret is None:
            return None
        return self._seal_keys.decrypt(known.encrypted_secret, app_id)

    def is_api_secret(self, app_id: str, secret: str) -> bool:
        known = self._known.get(app_id)
        expected = known.api_secret_hash if known else None
        # The same work, whether there is such an app and secret or not.
        return hmac.compare_digest(expected or b"", hash_api_secret(secret))

    async def refresh(self) -> None:
        """Take over what has changed; raises RecordsUnavailable, and then nothing here has."""
        async with self._database.read_connection() as connection:
            # Read before the apps: what changes in between is taken over the next time.
            number = await connection.scalar(select(t.changes.c.number).filter_by(what="apps"))
            if number == self._number:
                return
            rows = (await connection.execute(select(t.apps))).mappings().all()
        self._known = {row["id"]: app_record_from_row(row) for row in rows}
        self._origins = frozenset().union(*(one.app.origins for one in self._known.values()))
        self._number = number

    async def refresh_forever(self) -> None:
        """Refresh again and again until cancelled; an outage is logged, and its end."""
        while True:
            await asyncio.sleep(REFRESH_INTERVAL)
            try:
                await self.refresh()
            except RecordsUnavailable as error:
                self._outage.failed(error.reason)
            else:
                self._outage.recovered()
            RECORDS_DOWN.set(self._outage.reason is not None)
            RECORDS_FILE_LOST.set(self._database.trouble() is not None)


RECORDS_DOWN = Gauge("scanlogin_records_down", "1 while the database cannot be reached, else 0")
