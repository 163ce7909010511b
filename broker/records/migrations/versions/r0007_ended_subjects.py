"""Subjects of blocked and removed users, which every instance reads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"

down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "ended_subjects",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("ended_at", sa.Double, nullable=False),
    )
    changes = sa.table("changes", sa.column("what"), sa.column("number"))
    op.bulk_insert(changes, [{"what": "users", "number": 0}])
