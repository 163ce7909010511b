"""Keys of Wafer's signatures. Existing apps have none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"

down_revision = "0011"


def upgrade() -> None:
    op.add_column("apps", sa.Column("wafer_key", sa.LargeBinary))
    op.add_column("apps", sa.Column("wafer_key_key", sa.String(16)))
