"""Durable data in SQLite or PostgreSQL: apps, users, pool codes, and an audit log of logins.

Each login reads its app, so each instance holds all apps in memory and checks every two seconds
whether they have changed. With the directory `open` or a webhook, no login waits for the
database, and logins continue while it is down.

store.py             the records of one database, joined from the modules below
database.py          connections, transactions, migration     engines.py     SQLAlchemy engines
tables.py            the tables                               migrations/    revisions
sqlite_file.py       the file of a SQLite database            urls.py        URLs of the drivers
app_cache.py         apps in memory                           app_admin.py   administration of apps
app_rows.py          rows of the table of apps
change_numbers.py    which tables have changed
user_lookup.py       the user of an identity, invitations     user_admin.py  administration of users
user_identities.py   statements on identities
pool_codes.py        codes drawn in advance                   files.py       records of files
audit_log.py         finished logins and other entries of the audit log
audit_export.py      numbers, hash chain and export of the audit log
"""

from __future__ import annotations

from urllib.parse import urlsplit

SCHEMES = ("postgresql+asyncpg", "sqlite+aiosqlite")
"""Schemes of the URL of a database."""


def is_records_url(url: str) -> bool:
    """Return whether the URL is that of PostgreSQL or of a SQLite file.

    SQLite in memory is not allowed: each process would have other data.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite+aiosqlite":
        return not parts.netloc and parts.path.strip("/") not in ("", ":memory:")
    return parts.scheme in SCHEMES
