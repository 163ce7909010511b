"""What outlives a restart: apps, users with their identities, codes, a trail of ended logins.

Apps are asked for at every login, so each instance holds all of them and looks
every two seconds whether they have changed.  No login waits for the database,
and none is lost with it.

settings.py    the app that the settings name, laid over those that are recorded
sql.py         records in SQLite or PostgreSQL, joined from the files below
database.py    the one connection to it       tables.py      what stands there
file.py        the file of a SQLite database: created once, watched for loss
urls.py        its URL, as the drivers take it
migrations/    how it came to stand so
apps.py        apps as this instance holds them
book.py        apps as an operator writes them down       rules.py   what may stand in one
people.py      who is who here: found, joined, invited     identities.py   whose an identity is
user_book.py   users as an operator writes them down      user_rules.py   what may stand in one
seal.py        secrets that can be read again, by the broker alone
trail.py       how logins ended              codes.py    codes drawn ahead of time
"""

from __future__ import annotations

from urllib.parse import urlsplit

SCHEMES = ("postgresql+asyncpg", "sqlite+aiosqlite")
"""How a records' URL begins."""


def is_records_url(url: str) -> bool:
    """Whether it names a PostgreSQL, or a file for SQLite: each process has a memory of its own."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite+aiosqlite":
        return not parts.netloc and parts.path.strip("/") not in ("", ":memory:")
    return parts.scheme in SCHEMES
