"""The records' URL, as SQLAlchemy and its drivers take it."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import urlencode

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")

TLS_OPTIONS = (
    *TLS_FILES,
    "sslmode",
    "sslpassword",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)
"""Options of libpq that asyncpg reads in a DSN only.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"""

STATEMENT_CACHES = ("statement_cache_size", "prepared_statement_cache_size")
"""Options of asyncpg and of SQLAlchemy: prepared statements kept for each connection."""

NO_SOCKET = "/nonexistent"
"""A folder without a PostgreSQL socket."""


class DriverUrl(NamedTuple):
    """url: for SQLAlchemy.  options: further arguments of the driver's `connect`."""

    url: URL
    options: dict[str, str]


def parse(url: str) -> URL:
    """Return the URL for SQLAlchemy.  Raises ValueError."""
    try:
        return make_url(url)
    except (SQLAlchemyError, ValueError):
        raise ValueError("is not a URL") from None


def with_tls_options(url: URL) -> DriverUrl:
    """Take libpq's TLS options out of the query, and pass them to asyncpg as a DSN.

    asyncpg then treats them as libpq does: certificates in ~/.postgresql, `allow` and `prefer`.
    Raises ValueError for a file that cannot be read.
    """
    given = {name: _one(url, name) for name in TLS_OPTIONS if name in url.query}
    for name in TLS_FILES:
        if name in given and not os.access(given[name], os.R_OK):
            raise ValueError(f"{name}: cannot read {given[name]}")
    if not given:
        return DriverUrl(url, {})
    return DriverUrl(
        url.difference_update_query(given), {"dsn": f"postgresql://?{urlencode(given)}"}
    )


def statement_caches(url: URL) -> dict[str, int]:
    """Sizes of the caches of prepared statements that the query names; without one, both are off.

    With both off, each statement is parsed and executed in one exchange, so a pooler such as
    PgBouncer may send the next one to another server connection.
    Raises ValueError.
    """
    given = {name: _one(url, name) for name in STATEMENT_CACHES if name in url.query}
    for name, size in given.items():
        if not (size.isascii() and size.isdigit()):
            raise ValueError(f"{name}: use a whole number, 0 with PgBouncer")
    sizes = {name: int(size) for name, size in given.items()}
    return dict.fromkeys(STATEMENT_CACHES, 0) if 0 in sizes.values() else sizes


def nowhere(url: URL) -> URL:
    """Return `url` with its options and a server that does not exist."""
    bare = url.set(host=None, port=None).difference_update_query(["host", "port"])
    return bare.update_query_dict({"host": NO_SOCKET})


def _one(url: URL, name: str) -> str:
    value = url.query[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is given twice")
    return value
