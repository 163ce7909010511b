"""The phone's address, the reason of a denial, and the report of a login."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"

down_revision = "0008"


def upgrade() -> None:
    op.add_column("ended_logins", sa.Column("phone_ip", sa.String(256)))
    op.add_column("ended_logins", sa.Column("reason", sa.String(256)))
    op.add_column("ended_logins", sa.Column("reported_at", sa.Double))
