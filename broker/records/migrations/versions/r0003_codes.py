"""Codes drawn in advance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"

down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "codes",
        sa.Column("app", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("drawing", sa.Integer, primary_key=True),
        sa.Column("scene", sa.String(32), nullable=False),
        sa.Column("reserved_until", sa.Double, nullable=False),
        sa.Column("picture", sa.String(64)),
        sa.Column("drawn_at", sa.Double),
        sa.Column("retired_at", sa.Double),
    )
    op.create_index("codes_scene", "codes", ["scene"], unique=True)
