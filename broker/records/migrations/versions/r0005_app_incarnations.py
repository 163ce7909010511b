"""Incarnations of apps: an app that is added under a former id is a different app.

Existing apps and rows have no incarnation.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"

down_revision = "0004"


def upgrade() -> None:
    for table, column in (("apps", "incarnation"), ("ended_logins", "app_incarnation")):
        op.add_column(table, sa.Column(column, sa.String(16)))
