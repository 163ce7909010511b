"""What Alembic runs for each upgrade: our connection, and the transaction that it is in."""

from __future__ import annotations

from alembic import context

from broker.records.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)

context.run_migrations()
