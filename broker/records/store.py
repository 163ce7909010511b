"""Records in SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from broker.audit.ports import AuditExport, AuditTrail
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.crypto.sealing import KeyList, SecretBox
from broker.login.ports import AuditLog
from broker.oidc.ports import ReuseLog
from broker.records.app_admin import SqlAppAdmin
from broker.records.app_cache import AppCache
from broker.records.audit_export import SqlAuditExport
from broker.records.audit_log import SqlAuditLog
from broker.records.change_numbers import ChangeNumbers
from broker.records.database import Database, MigrationStatus
from broker.records.ended_subjects import SqlEndedSubjectLog
from broker.records.errors import RecordsStartupError, RecordsUnavailable
from broker.records.files import SqlFileRecords
from broker.records.pool_codes import SqlCodeStore
from broker.records.urls import without_statement_caches
from broker.records.user_admin import SqlUserAdmin
from broker.records.user_lookup import SqlUserLookup

CLOSE_TIMEOUT = 1.0
"""Seconds for a server to close connections. A server that hangs must not block the shutdown."""


class Records:
    """The records in one database: apps, users, pool codes and the audit log.

    apps: the cached apps.
    location: the URL without its password.
    load_seal_keys: reads the keys that encrypt secrets.
    providers: names that an app may have; the first is the default.
    reserved_ids: ids of apps in the settings.
    clock: Unix time in seconds.
    trail_lifetime: seconds for which an entry of the audit log is kept.
    instance: the name of this process.
    has_audit_chain: whether entries of the audit log are chained by hashes.
    """

    def __init__(
        self,
        url: str,
        *,
        load_seal_keys: Callable[[], KeyList],
        providers: Sequence[str],
        reserved_ids: Collection[str],
        clock: Callable[[], float],
        trail_lifetime: int,
        own_origin: str = "",
        instance: str = "",
        has_audit_chain: bool = False,
    ) -> None:
        self._database = Database(url)
        self.secret_box = SecretBox(load_seal_keys)
        self._audit_log = SqlAuditLog(
            self._database, lifetime=trail_lifetime, clock=clock, instance=instance
        )
        self.location = self._database.location
        self.audit_log: AuditLog = self._audit_log
        self.reuse_log: ReuseLog = self._audit_log
        self.audit_trail: AuditTrail = self._audit_log
        self.audit_export: AuditExport = SqlAuditExport(self._database, chains=has_audit_chain)
        self.code_store = SqlCodeStore(self._database, clock=clock)
        changes = ChangeNumbers()
        self.apps = AppCache(self._database, self.secret_box, changes, own_origin)
        self.app_admin = SqlAppAdmin(
            self._database,
            self.secret_box,
            providers=providers,
            reserved_ids=reserved_ids,
            clock=clock,
        )
        self._tasks = [
            BackgroundTask("app cache", self.apps.refresh_forever),
            BackgroundTask("audit log", self._audit_log.write_forever),
        ]
        self.files = SqlFileRecords(self._database)
        self.ended_subjects = SqlEndedSubjectLog(self._database, changes)
        self.user_lookup = SqlUserLookup(self._database, clock=clock)
        self.user_admin = SqlUserAdmin(self._database, providers=providers, clock=clock)

    async def open(self) -> None:
        """Migrate the tables, read the apps, and start the app cache and the audit log.

        Raises RecordsStartupError, or KeyFileError for the seal keys.
        """
        self.secret_box.load()
        try:
            await self.migrate()
            with _startup_errors(self._database):
                await self.apps.refresh()
        except BaseException:
            await self._database.close()
            raise
        for task in self._tasks:
            task.start()

    async def store_audit_entries(self) -> None:
        """Write pending audit entries now. Raises RecordsUnavailable."""
        await self._audit_log.store_queued()

    async def close(self) -> None:
        """Write pending audit entries and close. A database that hangs delays this by seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.gather(*(task.stop() for task in self._tasks))
        await self._audit_log.flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._database.close()

    @property
    def was_created(self) -> bool:
        """Whether this process created the SQLite file."""
        return self._database.was_created

    def file_problem(self) -> str | None:
        """Return how the SQLite file was lost: deleted or replaced. None otherwise.

        A temporary outage does not count.
        """
        return self._database.file_problem()

    async def check_options(self) -> None:
        """Raise ValueError if the driver refuses the URL's options. Does not connect."""
        await self._database.check_options()

    async def status(self) -> MigrationStatus:
        """Return the revision of the tables. Raises RecordsStartupError."""
        await self._check_startup_options()
        with _startup_errors(self._database):
            return await self._database.status()

    async def migrate(self) -> Sequence[str]:
        """Apply the missing revisions and return them. Raises RecordsStartupError."""
        await self._check_startup_options()
        with _startup_errors(self._database):
            return await self._database.migrate()

    async def _check_startup_options(self) -> None:
        try:
            await self.check_options()
        except ValueError as error:
            raise RecordsStartupError(f"SCAN_LOGIN_RECORDS_URL: {error}") from None


@contextmanager
def _startup_errors(database: Database) -> Iterator[None]:
    try:
        yield
    except RecordsUnavailable as error:
        raise RecordsStartupError(
            f"the records in {database.location} are unavailable: {error.reason}", error.remedy
        ) from None


def open_records(
    url: str,
    *,
    load_seal_keys: Callable[[], KeyList],
    providers: Sequence[str],
    reserved_ids: Collection[str],
    clock: Callable[[], float],
    trail_lifetime: int,
    own_origin: str = "",
    pgbouncer: bool = False,
    instance: str = "",
    has_audit_chain: bool = False,
) -> Records:
    """Return the records at `url`, not connected yet. Raises ValueError for an invalid URL.

    pgbouncer: whether the server is behind PgBouncer in transaction mode.
    The other arguments are those of `Records`.
    """
    if pgbouncer:
        url = without_statement_caches(url)
    return Records(
        url,
        load_seal_keys=load_seal_keys,
        providers=providers,
        reserved_ids=reserved_ids,
        clock=clock,
        trail_lifetime=trail_lifetime,
        own_origin=own_origin,
        instance=instance,
        has_audit_chain=has_audit_chain,
    )
