"""Access to the database: a SQLite file or PostgreSQL.

All errors of the database become RecordsUnavailable. Its reason contains no parameters of a
statement, because they may be secrets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.infrastructure.observability.metrics import Gauge
from broker.infrastructure.urls import hide_passwords
from broker.records import urls
from broker.records.engines import CHECKS, ENGINES, STATEMENT_TIMEOUT, use_file
from broker.records.errors import RecordsStartupError, RecordsUnavailable
from broker.records.migrations import HEAD, REVISIONS, revision_of, upgrade
from broker.records.sqlite_file import DatabaseFile
from broker.records.sqlite_threads import ConnectionThreads

MIGRATION_TIMEOUT = 120.0
"""Seconds for migrations, including the wait for another instance that migrates."""

MIGRATION_LOCK = 0x5CA10619
"""Key of PostgreSQL's advisory lock for migrations. The number is arbitrary and never changes."""

WRITE_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {"begin": "BEGIN IMMEDIATE"},
    "postgresql": {"isolation_level": "READ COMMITTED"},
}
"""Execution options of a transaction that writes."""

INSERT: Mapping[str, type[sqlite.Insert] | type[postgresql.Insert]] = {
    "sqlite": sqlite.Insert,
    "postgresql": postgresql.Insert,
}
"""INSERT … ON CONFLICT DO NOTHING, which standard SQL does not have."""


class Database:
    """A database. It connects at the first statement.

    location: the URL without its password.
    statement_timeout: seconds for a statement, including the wait for locks.
    Raises ValueError for an invalid URL.
    """

    def __init__(self, url: str, *, statement_timeout: float = STATEMENT_TIMEOUT) -> None:
        parsed = urls.parse(url)
        self.location = hide_passwords(url)
        self.dialect = parsed.get_backend_name()
        self._url = url
        self._file = DatabaseFile(parsed.database or "") if self.dialect == "sqlite" else None
        self._statement_timeout = statement_timeout
        self._engine = ENGINES[self.dialect](parsed, statement_timeout)
        self._threads: ConnectionThreads | None = None
        if self._file is not None:
            use_file(self._engine, self._file)
            self._threads = ConnectionThreads(self._engine)

    @property
    def was_created(self) -> bool:
        """Whether there was no SQLite file before the first connection."""
        return self._file is not None and self._file.was_created

    def file_problem(self) -> str | None:
        """Return how the SQLite file was lost: deleted or replaced. None otherwise."""
        return self._file.problem() if self._file is not None else None

    @asynccontextmanager
    async def read_connection(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for reads. Raises RecordsUnavailable."""
        with _database_errors():
            async with self._engine.connect() as connection:
                self._check_file()
                yield connection

    @asynccontextmanager
    async def write_transaction(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction, which is rolled back if the block raises.

        Raises RecordsUnavailable, and IntegrityError for rows that violate a constraint.
        """
        with _database_errors():
            async with self._engine.connect() as connection:
                await connection.execution_options(**WRITE_OPTIONS[self.dialect])
                async with connection.begin():
                    self._check_file()  # after the wait for other writers
                    yield connection

    async def check_options(self) -> None:
        """Raise ValueError if the driver refuses the URL's options. Does not connect."""
        await CHECKS[self.dialect](urls.parse(self._url))

    async def status(self) -> MigrationStatus:
        """Return the revision of the tables.

        Raises RecordsStartupError if the database is newer than this program.
        """
        async with self.read_connection() as connection:
            revision = await connection.run_sync(revision_of)
        if revision is None:
            return MigrationStatus(None, REVISIONS)
        if revision not in REVISIONS:
            raise RecordsStartupError(
                f"the records in {self.location} have revision {revision}, which is newer than "
                f"revision {HEAD} of this program",
                "install the version of scan-login that wrote them, or a newer one",
            )
        return MigrationStatus(revision, REVISIONS[REVISIONS.index(revision) + 1 :])

    async def migrate(self) -> tuple[str, ...]:
        """Apply the missing revisions and return them.

        If several instances start at once, one of them migrates and the others wait.
        Raises RecordsStartupError as `status` does.
        """
        missing = (await self.status()).missing
        if missing:
            database = Database(self._url, statement_timeout=MIGRATION_TIMEOUT)
            try:
                await database._upgrade()
            finally:
                await database.close()
        return missing

    async def _upgrade(self) -> None:
        async with self.write_transaction() as connection:  # SQLite needs no other lock
            if self.dialect == "postgresql":
                await connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            await connection.run_sync(upgrade)

    async def close(self) -> None:
        """Close all connections, and wait for statements whose caller was cancelled."""
        await self._engine.dispose()
        if self._threads is not None:
            await self._threads.join(self._statement_timeout)

    def _check_file(self) -> None:
        if self._file is not None:
            self._file.check()


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, OSError) as error:
        raise RecordsUnavailable(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Return one line without values. PostgreSQL's message about a statement may contain some."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error).partition("\n")[0] or type(error).__name__
    connecting = isinstance(error, DBAPIError) and error.statement is None
    if connecting or isinstance(error, OperationalError):
        return str(getattr(error, "orig", error)).partition("\n")[0]
    return type(error).__name__


RECORDS_FILE_LOST = Gauge(
    "scanlogin_records_file_lost", "1 while the SQLite file is deleted or replaced, else 0"
)


class MigrationStatus(NamedTuple):
    """revision: of the tables; None if there are none. missing: revisions to apply."""

    revision: str | None
    missing: tuple[str, ...]
