"""The tables. Times are Unix times in seconds, by the clock of the writing instance.

The migrations create them. A test compares the two.
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
    text,
)

metadata = MetaData()

apps = Table(
    "apps",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("provider_app_id", String(128), nullable=False),
    Column("provider_secret", LargeBinary),  # encrypted, see infrastructure/crypto/sealing.py
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
    Column("webhook_secret", LargeBinary),  # encrypted
    Column("webhook_secret_key", String(16)),
    Column("wafer_key", LargeBinary),  # encrypted
    Column("wafer_key_key", String(16)),
    Column("options", JSON),  # see OPTION_FIELDS in apps/model.py; null before revision 0006
)
"""Apps. `incarnation` differs for each app that has had the same id."""

changes = Table(
    "changes",
    metadata,
    Column("what", String(32), primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""The number of changes of a table, from which instances see whether to read the table again."""

ended_subjects = Table(
    "ended_subjects",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("subject", String(64), nullable=False),
    Column("ended_at", Double, nullable=False),
)
"""Blocked and removed users of the last day. The row `users` of `changes` has the last number."""

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),  # the token's `sub`
    Column("name", String(100)),
    Column("blocked", Boolean, nullable=False, server_default=false()),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("nickname", String(100)),
    Column("preferred_username", String(100)),
    Column("picture", String(500)),
    Column("locale", String(35)),
    Column("zoneinfo", String(100)),
    Column("email", String(320)),
    Column("phone_number", String(16)),
    Column("email_verified", Boolean),
    Column("phone_number_verified", Boolean),
    Column("groups", JSON(none_as_null=True)),
)
"""Users. The nullable columns are the claims of `UserProfile`."""

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
"""A user's identities. An openid belongs to one app of the provider, a `unionid` to several."""

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
    Column("provider", String(32)),  # with the next two: the identity that used it; null if unused
    Column("provider_app_id", String(128)),
    Column("openid", String(128)),
    Index("invitations_user_id", "user_id"),
)
"""Invitations. Each links one identity to a user, once."""

codes = Table(
    "codes",
    metadata,
    Column("app", String(64), primary_key=True),  # the app's key; the app may be removed
    Column("number", Integer, primary_key=True),
    Column("drawing", Integer, primary_key=True),  # earlier drawings of the number
    Column("scene", String(32), nullable=False),
    Column("reserved_until", Double, nullable=False),
    Column("picture", String(64)),  # key of the stored picture
    Column("drawn_at", Double),  # the code is ready from then on
    Column("retired_at", Double),
    Index("codes_scene", "scene", unique=True),
)
"""Codes drawn in advance. Of each number, all drawings except the newest are retired."""

ended_logins = Table(
    "ended_logins",
    metadata,
    Column("login_id", String(64), primary_key=True),
    Column("app", String(64), nullable=False),  # the app may be removed
    Column("state", String(16), nullable=False),
    Column("provider", String(32)),
    Column("openid", String(256)),  # of the phone that scanned
    Column("subject", String(256)),  # of a confirmed login
    Column("ip", String(256), nullable=False),  # of the browser
    Column("user_agent", String(256), nullable=False),
    Column("began_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
    Column("instance", String(64), nullable=False),
    Column("app_incarnation", String(16)),
    Column("phone_ip", String(256)),  # at the scan
    Column("reason", String(256)),  # of a denial other than by the phone
    Column("reported_at", Double),  # the person who confirmed it reported it
    Column("reused_at", Double),  # a refresh token that followed from it was used again
    Column("kind", String(16)),  # null for the end and the report of a login
    Column("actor", String(256)),  # of an admin act
    Column("target", String(256)),  # the id of what another entry than a login concerns
    Column("hash", String(64)),  # null outside the hash chain
    Column("seq", BigInteger),  # null until the row is numbered
    Index("ended_logins_ended_at", "ended_at"),
    Index(
        "ended_logins_seq",
        "seq",
        unique=True,
        sqlite_where=text("seq IS NOT NULL"),
        postgresql_where=text("seq IS NOT NULL"),
    ),
    Index(
        "ended_logins_new",
        "ended_at",
        "login_id",
        sqlite_where=text("seq IS NULL"),
        postgresql_where=text("seq IS NULL"),
    ),
    Index("ended_logins_subject", "subject", "seq"),
)
"""The audit log: one row for each finished login, and for each other entry, whose id is in
`login_id`. Rows do not change after they are numbered, except `reported_at` and `reused_at`."""

audit_marks = Table(
    "audit_marks",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64)),
)
"""Numbers of rows of the audit log; see `audit_export.py`."""

files = Table(
    "files",
    metadata,
    Column("id", String(22), primary_key=True),
    Column("app", String(64), nullable=False),  # the app's key; the app may be removed
    Column("person", String(32), nullable=False),
    Column("openid", String(128), nullable=False),
    Column("subject", String(256)),
    Column("storage_key", String(128), nullable=False),  # empty for a reservation
    Column("size", BigInteger, nullable=False),
    Column("media_type", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("name", String(255), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("files_app_person", "app", "person", "id"),
    Index("files_expires_at", "expires_at"),
    Index("files_storage_key", "storage_key"),
)
"""Files, and reservations of files that arrive. Their content is in the file store."""
