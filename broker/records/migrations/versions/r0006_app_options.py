"""Options of apps for OpenID Connect. Existing apps have the defaults."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"

down_revision = "0005"


def upgrade() -> None:
    op.add_column("apps", sa.Column("options", sa.JSON))
