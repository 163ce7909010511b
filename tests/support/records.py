"""Databases for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa

from broker.apps.model import App
from broker.records import tables as t
from broker.records.database import Database
from tests.support.servers.postgres import PostgresServer


def database_of(kind: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of a database of this kind with all tables."""
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{request.getfixturevalue('records_file')}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database(request.getfixturevalue("postgres_template"))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()


async def record_app(database: Database, app: App) -> None:
    row = {"id": app.id, "name": app.name, "provider": app.provider, "provider_app_id": ""}
    lists: dict[str, object] = {"origins": [], "redirect_urls": [], "code_source": "pool"}
    times = {"created_at": 0, "changed_at": 0, "incarnation": app.incarnation}
    async with database.write_transaction() as connection:
        await connection.execute(sa.insert(t.apps).values(row | lists | times))
