"""Database engines for SQLite and PostgreSQL, and the check of their options."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import InterfaceError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from broker.infrastructure.urls import unknown_option
from broker.records import urls
from broker.records.sqlite_file import DatabaseFile
from broker.records.sqlite_threads import ConnectionThreads

STATEMENT_TIMEOUT = 5.0
"""Seconds for a statement by default."""

CONNECT_TIMEOUT = 5.0

PRAGMAS = ("synchronous=NORMAL", "foreign_keys=ON")
"""Settings of each SQLite connection, after WAL is on."""

LOCK_POLL_INTERVAL = 0.05
"""Seconds between two attempts on a locked SQLite file."""


def use_file(engine: AsyncEngine, file: DatabaseFile) -> None:
    """Make the engine's connections open `file` without creating it."""

    @event.listens_for(engine.sync_engine, "do_connect")
    def name_file(dialect: object, record: object, arguments: list[Any], options: Any) -> None:
        arguments[0] = file.prepare()
        options["uri"] = True


def _sqlite(url: URL, statement_timeout: float) -> AsyncEngine:
    if "uri" in url.query:
        raise ValueError("uri: give the path of the file, not a URI")
    engine = create_async_engine(
        url, hide_parameters=True, connect_args={"timeout": statement_timeout}
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        connection.isolation_level = None  # sqlite3 would begin transactions by itself
        cursor = connection.cursor()
        _enable_wal(cursor, statement_timeout)
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # SQLite refuses a write in a transaction that began as a read if another connection has
        # written since. So a transaction that writes begins as a write.
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def _enable_wal(cursor: Any, timeout: float) -> None:
    """Turn on WAL, with which readers never wait and writers wait for one another.

    SQLite does not wait for each lock of this statement. If several instances start at once with
    a new file, the file may be locked by another that does the same.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            await_only(asyncio.sleep(LOCK_POLL_INTERVAL))
        else:
            return


def _postgresql(url: URL, statement_timeout: float) -> AsyncEngine:
    caches = urls.statement_caches(url)
    location = urls.with_tls_options(url.difference_update_query(caches))
    return create_async_engine(
        location.url,
        hide_parameters=True,
        # Each read sees what is committed. A transaction would only add two round trips.
        isolation_level="AUTOCOMMIT",
        pool_pre_ping=True,  # replaces connections that a restart of the server has closed
        pool_timeout=statement_timeout,
        connect_args={
            "timeout": CONNECT_TIMEOUT,
            "command_timeout": statement_timeout,
            **location.options,
            **caches,
        },
    )


ENGINES: Mapping[str, Callable[[URL, float], AsyncEngine]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
}
"""Functions that create an engine from a URL and the timeout of statements in seconds."""


def _check_folder(file: str) -> None:
    folder = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(folder):
        raise ValueError(f"the folder {folder} does not exist")


async def _check_sqlite(url: URL) -> None:
    _check_folder(url.database or "")
    engine = create_async_engine(url.set(database=":memory:"))
    threads = ConnectionThreads(engine)
    try:
        await _try_connect(engine, url)
    finally:
        await threads.join(STATEMENT_TIMEOUT)


async def _check_postgresql(url: URL) -> None:
    await _try_connect(_postgresql(urls.nowhere(url), STATEMENT_TIMEOUT), url)


async def _try_connect(engine: AsyncEngine, url: URL) -> None:
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
"""Functions that raise ValueError if the driver refuses the options of a URL."""
