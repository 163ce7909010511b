"""All apps in memory, refreshed when they change.

Logins read apps from here only. So no login waits for the database, and known apps remain
available while the database is down.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import select

from broker.apps.model import App, hash_api_secret
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.observability.metrics import Gauge
from broker.infrastructure.observability.outage import OutageLog
from broker.records import tables as t
from broker.records.app_rows import (
    AppRow,
    decrypt_webhook_secrets,
    parse_app_row,
    secret_owner,
)
from broker.records.change_numbers import ChangeNumbers
from broker.records.database import RECORDS_FILE_LOST, Database
from broker.records.errors import RecordsUnavailable

REFRESH_INTERVAL = 2.0
"""Seconds between two checks whether apps have changed, or users were blocked or removed. A change
takes effect within this time."""


class AppCache:
    """Apps and their secrets. It is empty until the first refresh.

    changes: is read at each refresh.
    own_origin: the Origin of the broker's pages; empty if it has none.
    """

    def __init__(
        self,
        database: Database,
        secret_box: SecretBox,
        changes: ChangeNumbers,
        own_origin: str = "",
    ) -> None:
        self._database = database
        self._changes = changes
        self._own_origin = own_origin
        self._secret_box = secret_box
        self._rows: Mapping[str, AppRow] = {}
        self._origins: frozenset[str] = frozenset()
        self._change_number: int | None = None
        self._outage = OutageLog("records unavailable", "records recovered")

    def get(self, app_id: str) -> App | None:
        row = self._rows.get(app_id)
        return row.app if row else None

    def with_pool(self) -> Collection[App]:
        return [row.app for row in self._rows.values() if row.app.code_source == "pool"]

    def origins(self) -> frozenset[str]:
        return self._origins

    def provider_secret(self, app_id: str) -> str | None:
        return self._secret("provider_secret", app_id)

    def webhook_secrets(self, app_id: str) -> Sequence[str]:
        row = self._rows.get(app_id)
        return () if row is None else decrypt_webhook_secrets(row, self._secret_box)

    def wafer_key(self, app_id: str) -> str | None:
        return self._secret("wafer_key", app_id)

    def is_api_secret(self, app_id: str, secret: str) -> bool:
        row = self._rows.get(app_id)
        expected = row.api_secret_hash if row else None
        # The comparison takes the same time for an unknown app and for an app without a secret.
        return hmac.compare_digest(expected or b"", hash_api_secret(secret))

    async def refresh(self) -> None:
        """Read the apps if they have changed. Raises RecordsUnavailable; the cache stays then."""
        async with self._database.read_connection() as connection:
            # Read before the apps, so that a change in between is found by the next refresh.
            number = (await self._changes.read(connection)).get("apps")
            if number == self._change_number:
                return
            found = (await connection.execute(select(t.apps))).mappings().all()
        self._rows = {row["id"]: self._allowing_own_pages(parse_app_row(row)) for row in found}
        self._origins = frozenset().union(*(row.app.origins for row in self._rows.values()))
        self._change_number = number

    def _secret(self, name: str, app_id: str) -> str | None:
        """Return a secret, or None if the app has none. Raises SecretDecryptionFailed."""
        row = self._rows.get(app_id)
        secret = row.encrypted.get(name) if row else None
        return (
            None if secret is None else self._secret_box.decrypt(secret, secret_owner(name, app_id))
        )

    def _allowing_own_pages(self, row: AppRow) -> AppRow:
        """Let the broker's sign-in page begin logins of an app that uses OpenID Connect."""
        if not (self._own_origin and row.app.redirect_urls):
            return row
        app = replace(row.app, origins=row.app.origins | {self._own_origin})
        return replace(row, app=app)

    async def refresh_forever(self) -> None:
        """Refresh at an interval until cancelled, and log the begin and end of an outage."""
        while True:
            await asyncio.sleep(REFRESH_INTERVAL)
            try:
                await self.refresh()
            except RecordsUnavailable as error:
                self._outage.failed(error.reason)
            else:
                self._outage.recovered()
            RECORDS_DOWN.set(self._outage.reason is not None)
            RECORDS_FILE_LOST.set(self._database.file_problem() is not None)


RECORDS_DOWN = Gauge("scanlogin_records_down", "1 while the database is unavailable, else 0")
