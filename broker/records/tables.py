"""What stands in the database.  Times are Unix seconds, by the writer's clock.

The migrations have made it so; a test holds the two against each other.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)

metadata = MetaData()

apps = Table(
    "apps",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("provider_app_id", String(128), nullable=False),
    Column("provider_secret", LargeBinary),  # sealed, see seal.py
    Column("provider_secret_key", String(16)),
    Column("api_secret_hash", LargeBinary),  # SHA-256
    Column("origins", JSON, nullable=False),
    Column("redirect_urls", JSON, nullable=False),
    Column("register_url", Text),
    Column("code_source", String(8), nullable=False),
    Column("login_lifetime", Integer),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("incarnation", String(16)),  # null for apps from before revision 0005
)
"""One row for an id at a time.  `incarnation` differs for each app that has had the id."""

changes = Table(
    "changes",
    metadata,
    Column("what", String(32), primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""How often a table has changed, so that instances need not read all of it to find out."""

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),  # the token's `sub`
    Column("name", String(100)),
    Column("blocked", Boolean, nullable=False, server_default=false()),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
)

identities = Table(
    "identities",
    metadata,
    Column("provider", String(32), primary_key=True),
    Column("provider_app_id", String(128), primary_key=True),
    Column("openid", String(128), primary_key=True),
    Column("unionid", String(128)),
    Column(
        "user_id",
        String(64),
        ForeignKey("users.id", name="identities_user_id_fkey", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("created_at", Double, nullable=False),
    Index("identities_unionid", "provider", "unionid"),
    Index("identities_user_id", "user_id"),
)
"""Who a person is at a provider, within one of its apps; `unionid` is one over several."""

invitations = Table(
    "invitations",
    metadata,
    Column("secret_hash", LargeBinary, primary_key=True),  # SHA-256
    Column(
        "user_id",
        String(64),
        ForeignKey("users.id", name="invitations_user_id_fkey", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("expires_at", Double, nullable=False),
    Column("provider", String(32)),  # whose phone has used it, none where nobody's has
    Column("provider_app_id", String(128)),
    Column("openid", String(128)),
    Index("invitations_user_id", "user_id"),
)
"""What binds one phone's identity to a user, once."""

codes = Table(
    "codes",
    metadata,
    Column("app", String(64), primary_key=True),  # its key; it may have been removed since
    Column("number", Integer, primary_key=True),
    Column("drawing", Integer, primary_key=True),  # how often the number was drawn before
    Column("scene", String(32), nullable=False),
    Column("reserved_until", Double, nullable=False),
    Column("picture", String(64)),  # its key, from when it is kept until it is removed
    Column("drawn_at", Double),  # from when on the code is ready
    Column("retired_at", Double),
    Index("codes_scene", "scene", unique=True),
)
"""Codes drawn ahead of time; of one number, the newest drawing alone has not retired."""

ended_logins = Table(
    "ended_logins",
    metadata,
    Column("login_id", String(64), primary_key=True),
    Column("app", String(64), nullable=False),  # which may have been removed since
    Column("state", String(16), nullable=False),
    Column("provider", String(32)),
    Column("openid", String(256)),  # of whoever scanned
    Column("subject", String(256)),  # who that is here, once confirmed
    Column("ip", String(256), nullable=False),  # the browser's
    Column("user_agent", String(256), nullable=False),
    Column("began_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
    Column("instance", String(64), nullable=False),
    Column("app_incarnation", String(16)),
    Index("ended_logins_ended_at", "ended_at"),
)
"""The trail: one row for a login that ended, however often its end was seen."""
