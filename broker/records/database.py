"""The one way to the database: SQLite in a file, or PostgreSQL.

What goes wrong there is RecordsUnavailable, with a reason that repeats no value: a
statement's parameters may be secrets.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from broker.infrastructure.observability.metrics import Gauge
from broker.infrastructure.urls import hide_passwords, unknown_option
from broker.records import urls
from broker.records.errors import RecordsStartupError, RecordsUnavailable
from broker.records.migrations import HEAD, REVISIONS, revision_of, upgrade
from broker.records.sqlite_file import DatabaseFile

STATEMENT_TIMEOUT = 5.0
"""Seconds that a statement gets as a rule."""

CONNECT_TIMEOUT = 5.0

MIGRATION_TIMEOUT = 120.0
"""Seconds that migrations get, waiting for another instance's included."""

MIGRATION_LOCK = 0x5CA10619
"""PostgreSQL's advisory lock of whoever migrates; any number, so long as it is always this."""

PRAGMAS = ("synchronous=NORMAL", "foreign_keys=ON")
"""What a connection to SQLite begins with, once it writes ahead."""

WRITE_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {"begin": "BEGIN IMMEDIATE"},
    "postgresql": {"isolation_level": "READ COMMITTED"},
}
"""How a connection is told that something will be written."""

INSERT: Mapping[str, type[sqlite.Insert] | type[postgresql.Insert]] = {
    "sqlite": sqlite.Insert,
    "postgresql": postgresql.Insert,
}
"""An insert that can leave alone what is there; SQL itself knows none."""

LOCK_POLL_INTERVAL = 0.05
"""Seconds between two looks at whether a file of SQLite's is still locked."""


class Database:
    """answer_within: seconds that a statement gets, waiting for others' locks included.

    Raises ValueError for a URL that names nothing.
    """

    def __init__(self, url: str, *, answer_within: float = STATEMENT_TIMEOUT) -> None:
        parsed = urls.parse(url)
        self.location = hide_passwords(url)
        self.dialect = parsed.get_backend_name()
        self._url = url
        self._file = DatabaseFile(parsed.database or "") if self.dialect == "sqlite" else None
        self._engine = ENGINES[self.dialect](parsed, answer_within)
        if self._file is not None:
            _use(self._engine, self._file)

    @property
    def was_created(self) -> bool:
        """Whether there was no SQLite file before the first connection."""
        return self._file is not None and self._file.was_created

    def trouble(self) -> str | None:
        """Why the SQLite file is not the one in use; None if it is, or with PostgreSQL."""
        return self._file.trouble() if self._file is not None else None

    @asynccontextmanager
    async def read_connection(self) -> AsyncIterator[AsyncConnection]:
        with _reached():
            async with self._engine.connect() as connection:
                self._check_file()
                yield connection

    @asynccontextmanager
    async def write_transaction(self) -> AsyncIterator[AsyncConnection]:
        """All of it or nothing.  Raises IntegrityError as well, for rows that contradict others."""
        with _reached():
            async with self._engine.connect() as connection:
                await connection.execution_options(**WRITE_OPTIONS[self.dialect])
                async with connection.begin():
                    self._check_file()  # after the wait for other writers
                    yield connection

    async def check_options(self) -> None:
        """Raise ValueError if the driver refuses the URL's options.  Connects to nothing."""
        await CHECKS[self.dialect](urls.parse(self._url))

    async def status(self) -> MigrationStatus:
        """Raises RecordsStartupError for a database that is newer than this program."""
        async with self.read_connection() as connection:
            revision = await connection.run_sync(revision_of)
        if revision is None:
            return MigrationStatus(None, REVISIONS)
        if revision not in REVISIONS:
            raise RecordsStartupError(
                f"the records in {self.location} are at revision {revision}, newer than "
                f"this program's {HEAD}: use the newer scan-login"
            )
        return MigrationStatus(revision, REVISIONS[REVISIONS.index(revision) + 1 :])

    async def migrate(self) -> tuple[str, ...]:
        """Bring the tables up to date; the revisions that were missing.

        Of instances that begin at once one does it, and the others wait for it.
        Raises RecordsStartupError as `status` does.
        """
        missing = (await self.status()).missing
        if missing:
            patient = Database(self._url, answer_within=MIGRATION_TIMEOUT)
            try:
                await patient._upgrade()
            finally:
                await patient.close()
        return missing

    async def _upgrade(self) -> None:
        async with self.write_transaction() as connection:  # in SQLite that is lock enough
            if self.dialect == "postgresql":
                await connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            await connection.run_sync(upgrade)

    async def close(self) -> None:
        await self._engine.dispose()

    def _check_file(self) -> None:
        if self._file is not None:
            self._file.check()


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, OSError) as error:
        raise RecordsUnavailable(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Why, in a line that repeats no value: what PostgreSQL says of a statement may."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    connecting = isinstance(error, DBAPIError) and error.statement is None
    if connecting or isinstance(error, OperationalError):
        return str(getattr(error, "orig", error)).partition("\n")[0]
    return type(error).__name__


def _sqlite(url: URL, answer_within: float) -> AsyncEngine:
    if "uri" in url.query:
        raise ValueError("uri: give the path of the file, not a URI")
    engine = create_async_engine(url, hide_parameters=True, connect_args={"timeout": answer_within})

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        connection.isolation_level = None  # or sqlite3 would begin as it sees fit
        cursor = connection.cursor()
        _write_ahead(cursor, answer_within)
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A reader that wants to write later is refused where another has written meanwhile:
        # whoever will write says so at once.
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def _use(engine: AsyncEngine, file: DatabaseFile) -> None:
    """Make the engine's connections open `file` without creating it."""

    @event.listens_for(engine.sync_engine, "do_connect")
    def name_file(dialect: object, record: object, arguments: list[Any], options: Any) -> None:
        arguments[0] = file.prepare()
        options["uri"] = True


def _write_ahead(cursor: Any, within: float) -> None:
    """Let readers wait for nobody, and writers for one another.

    SQLite waits for others' locks, but not here: where instances begin at once over a
    new file, this one may find it locked while another does the same.
    """
    for left in range(round(within / LOCK_POLL_INTERVAL), -1, -1):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if not left:
                raise
            await_only(asyncio.sleep(LOCK_POLL_INTERVAL))
        else:
            return


def _postgresql(url: URL, answer_within: float) -> AsyncEngine:
    caches = urls.statement_caches(url)
    location = urls.with_tls_options(url.difference_update_query(caches))
    return create_async_engine(
        location.url,
        hide_parameters=True,
        # Whoever reads sees what is committed, each statement anew: a transaction would add
        # nothing but two more trips.
        isolation_level="AUTOCOMMIT",
        pool_pre_ping=True,  # a server that was restarted is asked anew, and nobody notices
        pool_timeout=answer_within,
        connect_args={
            "timeout": CONNECT_TIMEOUT,
            "command_timeout": answer_within,
            **location.options,
            **caches,
        },
    )


ENGINES: Mapping[str, Callable[[URL, float], AsyncEngine]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
}


def _check_folder(file: str) -> None:
    folder = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(folder):
        raise ValueError(f"the folder {folder} does not exist")


async def _check_sqlite(url: URL) -> None:
    _check_folder(url.database or "")
    await _try(create_async_engine(url.set(database=":memory:")), url)


async def _check_postgresql(url: URL) -> None:
    await _try(_postgresql(urls.nowhere(url), STATEMENT_TIMEOUT), url)


async def _try(engine: AsyncEngine, url: URL) -> None:
    """Check the options of `url` with the driver; `engine` has them and no server."""
    try:
        async with engine.connect():
            pass
    except InterfaceError as error:
        raise ValueError(str(error.orig).partition("\n")[0]) from None
    except (ssl.SSLError, TypeError, ValueError) as error:
        raise ValueError(_refused_option(url, error)) from None
    except (OSError, SQLAlchemyError):  # expected: the server does not exist
        pass
    finally:
        await engine.dispose()


def _refused_option(url: URL, error: Exception) -> str:
    name = re.search(r"unexpected keyword argument '(.*)'", str(error))
    if name is not None:
        return unknown_option(name[1], str(url))
    return f"the driver refuses the value of an option: {error}"


CHECKS: Mapping[str, Callable[[URL], Awaitable[None]]] = {
    "sqlite": _check_sqlite,
    "postgresql": _check_postgresql,
}

RECORDS_FILE_LOST = Gauge(
    "scanlogin_records_file_lost", "1 while the SQLite file is deleted or replaced, else 0"
)


class MigrationStatus(NamedTuple):
    """revision: that the tables are at, None where there are none.  missing: those to come."""

    revision: str | None
    missing: tuple[str, ...]
