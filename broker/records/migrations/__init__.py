"""Migrations of the database, as a list of revisions.

A released revision is never edited. A revision only adds tables or columns, so that instances
of the previous version continue to work with it.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import ColumnClause, Connection, String, column, inspect, select, table

FOLDER = Path(__file__).parent

REVISIONS = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
    "0014",
)
"""All revisions in order. The last one is that of this program. `versions/` has a file for each."""

HEAD = REVISIONS[-1]

VERSION_TABLE = "records_revision"


def revision_of(connection: Connection) -> str | None:
    """Return the revision of a database; None if it has no tables of the broker."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    number: ColumnClause[str] = column("version_num", String)
    return connection.scalar(select(number).select_from(table(VERSION_TABLE)))


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Apply the missing revisions up to `revision`, in the transaction of `connection`."""
    from alembic import command  # imported here: most processes find nothing to migrate
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
