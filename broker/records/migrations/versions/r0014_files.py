"""Files that mini programs upload."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"

down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.String(22), primary_key=True),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("person", sa.String(32), nullable=False),
        sa.Column("openid", sa.String(128), nullable=False),
        sa.Column("subject", sa.String(256)),
        sa.Column("storage_key", sa.String(128), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("media_type", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_index("files_app_person", "files", ["app", "person", "id"])
    op.create_index("files_expires_at", "files", ["expires_at"])
    op.create_index("files_storage_key", "files", ["storage_key"])
