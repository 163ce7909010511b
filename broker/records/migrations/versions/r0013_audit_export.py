"""Numbers and hashes of the audit log, and entries that are not ends of logins.

Existing rows are numbered by the next broker that starts.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0013"

down_revision = "0012"


def upgrade() -> None:
    for name, length in (("kind", 16), ("actor", 256), ("target", 256), ("hash", 64)):
        op.add_column("ended_logins", sa.Column(name, sa.String(length)))
    op.add_column("ended_logins", sa.Column("seq", sa.BigInteger))
    _create_partial_index("ended_logins_seq", ["seq"], "seq IS NOT NULL", unique=True)
    _create_partial_index("ended_logins_new", ["ended_at", "login_id"], "seq IS NULL")
    op.create_index("ended_logins_subject", "ended_logins", ["subject", "seq"])
    marks = op.create_table(
        "audit_marks",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64)),
    )
    op.bulk_insert(
        marks, [{"name": name, "seq": 0} for name in ("last", "deleted", "chained", "pushed")]
    )


def _create_partial_index(
    name: str, columns: Sequence[str], where: str, *, unique: bool = False
) -> None:
    rows = sa.text(where)
    op.create_index(
        name, "ended_logins", columns, unique=unique, sqlite_where=rows, postgresql_where=rows
    )
