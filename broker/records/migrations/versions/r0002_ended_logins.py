"""Finished logins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"

down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "ended_logins",
        sa.Column("login_id", sa.String(64), primary_key=True),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("provider", sa.String(32)),
        sa.Column("openid", sa.String(256)),
        sa.Column("subject", sa.String(256)),
        sa.Column("ip", sa.String(256), nullable=False),
        sa.Column("user_agent", sa.String(256), nullable=False),
        sa.Column("began_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double, nullable=False),
        sa.Column("instance", sa.String(64), nullable=False),
    )
    op.create_index("ended_logins_ended_at", "ended_logins", ["ended_at"])
