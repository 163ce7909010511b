"""Numbers and hashes of the audit log, and entries that are not ends of logins.

Existing rows are numbered by the next broker that starts.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"

down_revision = "0012"


def upgrade() -> None:
    for name, length in (("kind", 16), ("actor", 256), ("target", 256), ("hash", 64)):
        op.add_column("ended_logins", sa.Column(name, sa.String(length)))
    op.add_column("ended_logins", sa.Column("seq", sa.BigInteger))
    op.create_index("ended_logins_seq", "ended_logins", ["seq"], unique=True)
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
