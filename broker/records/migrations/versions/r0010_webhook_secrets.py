"""Secrets that sign requests to apps. Existing apps have none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"

down_revision = "0009"


def upgrade() -> None:
    op.add_column("apps", sa.Column("webhook_secret", sa.LargeBinary))
    op.add_column("apps", sa.Column("webhook_secret_key", sa.String(16)))
