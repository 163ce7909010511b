"""Invitations, which link phones to users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"

down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "invitations",
        sa.Column("secret_hash", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("provider", sa.String(32)),
        sa.Column("provider_app_id", sa.String(128)),
        sa.Column("openid", sa.String(128)),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="invitations_user_id_fkey", ondelete="CASCADE"
        ),
    )
    op.create_index("invitations_user_id", "invitations", ["user_id"])
