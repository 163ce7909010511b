"""The environment script that Alembic runs for each upgrade, inside the caller's transaction."""

from __future__ import annotations

from alembic import context

from broker.records.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)

context.run_migrations()
