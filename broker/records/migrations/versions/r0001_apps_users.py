"""Apps, and users with their identities."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"

down_revision = None


def upgrade() -> None:
    _create_apps()
    _create_users()


def _create_apps() -> None:
    op.create_table(
        "apps",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("provider_app_id", sa.String(128), nullable=False),
        sa.Column("provider_secret", sa.LargeBinary),
        sa.Column("provider_secret_key", sa.String(16)),
        sa.Column("api_secret_hash", sa.LargeBinary),
        sa.Column("origins", sa.JSON, nullable=False),
        sa.Column("redirect_urls", sa.JSON, nullable=False),
        sa.Column("register_url", sa.Text),
        sa.Column("code_source", sa.String(8), nullable=False),
        sa.Column("login_lifetime", sa.Integer),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
    )
    changes = op.create_table(
        "changes",
        sa.Column("what", sa.String(32), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(changes, [{"what": "apps", "number": 0}])


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(100)),
        sa.Column("blocked", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
    )
    op.create_table(
        "identities",
        sa.Column("provider", sa.String(32), primary_key=True),
        sa.Column("provider_app_id", sa.String(128), primary_key=True),
        sa.Column("openid", sa.String(128), primary_key=True),
        sa.Column("unionid", sa.String(128)),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="identities_user_id_fkey", ondelete="CASCADE"
        ),
    )
    op.create_index("identities_unionid", "identities", ["provider", "unionid"])
    op.create_index("identities_user_id", "identities", ["user_id"])
