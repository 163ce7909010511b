"""Claims of users for OpenID Connect. Existing users have none but their name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"

down_revision = "0007"


def upgrade() -> None:
    for name, length in {
        "nickname": 100,
        "preferred_username": 100,
        "picture": 500,
        "locale": 35,
        "zoneinfo": 100,
        "email": 320,
        "phone_number": 16,
    }.items():
        op.add_column("users", sa.Column(name, sa.String(length)))
    op.add_column("users", sa.Column("email_verified", sa.Boolean))
    op.add_column("users", sa.Column("phone_number_verified", sa.Boolean))
    op.add_column("users", sa.Column("groups", sa.JSON(none_as_null=True)))
