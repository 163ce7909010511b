"""How the tables came to stand as they do: revisions, each one step from the one before.

A revision that has been released is never edited.  It only adds, or an instance
of the version before could not go on beside one of the next.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import ColumnClause, Connection, String, column, inspect, select, table

FOLDER = Path(__file__).parent

REVISIONS = ("0001", "0002", "0003", "0004", "0005")
"""From the first to the one that this program wants; versions/ has a file for each."""

HEAD = REVISIONS[-1]

VERSION_TABLE = "records_revision"


def revision_of(connection: Connection) -> str | None:
    """The revision that a database is at; None for one without our tables."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    number: ColumnClause[str] = column("version_num", String)
    return connection.scalar(select(number).select_from(table(VERSION_TABLE)))


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Take every step up to `revision` that is missing, in `connection`'s transaction."""
    from alembic import command  # what a process has no use for whose database is up to date
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
