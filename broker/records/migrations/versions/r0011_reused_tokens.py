"""The reuse of a login's refresh tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"

down_revision = "0010"


def upgrade() -> None:
    op.add_column("ended_logins", sa.Column("reused_at", sa.Double))
