"""Records in SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from broker.background import BackgroundTask
from broker.errors import RecordsDown, RecordsUnusable
from broker.records import Status, Trail
from broker.records.apps import RecordedApps
from broker.records.book import AppBook
from broker.records.codes import Codes
from broker.records.database import Database
from broker.records.people import People
from broker.records.seal import Keys, SealKeys
from broker.records.trail import SqlTrail
from broker.records.user_book import UserBook

CLOSE_WITHIN = 1.0
"""Seconds that a server gets to answer goodbyes: one that hangs must not keep us from ending."""


class SqlRecords:
    """The arguments are those of `open_records` in this room's first file."""

    def __init__(
        self,
        url: str,
        *,
        load_seal_keys: Callable[[], Keys],
        providers: Sequence[str],
        taken: Collection[str],
        clock: Callable[[], float],
        trail_lifetime: int,
    ) -> None:
        self._database = Database(url)
        self.seal_keys = SealKeys(load_seal_keys)
        self._writing = SqlTrail(self._database, lifetime=trail_lifetime, clock=clock)
        self.place = self._database.place
        self.trail: Trail = self._writing
        self.codes = Codes(self._database, clock=clock)
        self.apps = RecordedApps(self._database, self.seal_keys)
        self.book = AppBook(
            self._database, self.seal_keys, providers=providers, taken=taken, clock=clock
        )
        self._tasks = [
            BackgroundTask("app cache", self.apps.keep_fresh),
            BackgroundTask("audit trail", self._writing.keep_writing),
        ]
        self.people = People(self._database, clock=clock)
        self.users = UserBook(self._database, providers=providers, clock=clock)

    async def open(self) -> None:
        self.seal_keys.read()
        try:
            await self.migrate()
            with _usable(self._database):
                await self.apps.refresh()
        except RecordsUnusable:
            await self._database.close()
            raise
        for task in self._tasks:
            task.start()

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await asyncio.gather(*(task.stop() for task in self._tasks))
        await self._writing.flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await self._database.close()

    @property
    def was_created(self) -> bool:
        return self._database.was_created

    def trouble(self) -> str | None:
        return self._database.trouble()

    async def check_options(self) -> None:
        await self._database.check_options()

    async def status(self) -> Status:
        await self._checked()
        with _usable(self._database):
            return await self._database.status()

    async def migrate(self) -> Sequence[str]:
        await self._checked()
        with _usable(self._database):
            return await self._database.migrate()

    async def _checked(self) -> None:
        try:
            await self.check_options()
        except ValueError as error:
            raise RecordsUnusable(f"SCAN_LOGIN_RECORDS_URL: {error}") from None


@contextmanager
def _usable(database: Database) -> Iterator[None]:
    try:
        yield
    except RecordsDown as error:
        raise RecordsUnusable(
            f"the records in {database.place} cannot be used: {error.reason}; start the "
            "database, or say with SCAN_LOGIN_RECORDS_URL where it is"
        ) from None
