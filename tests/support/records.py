"""Databases for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.records.database import Database
from tests.support.servers.postgres import PostgresServer


def database_of(kind: str, request: pytest.FixtureRequest) -> str:
    """One of that kind, such as `records_url` gives."""
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{request.getfixturevalue('records_file')}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database(request.getfixturevalue("postgres_template"))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()
