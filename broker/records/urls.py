"""The URL of the records, translated for SQLAlchemy and its drivers."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
"""Options of asyncpg and SQLAlchemy: the number of prepared statements of a connection."""

NO_SOCKET = "/nonexistent"
"""A folder without a PostgreSQL socket."""


class DriverUrl(NamedTuple):
    """url: for SQLAlchemy. options: further arguments of the driver's `connect`."""

    url: URL
    options: dict[str, str]


def parse(url: str) -> URL:
    """Return the URL for SQLAlchemy. Raises ValueError."""
    try:
        return make_url(url)
    except (SQLAlchemyError, ValueError):
        raise ValueError("is not a URL") from None


def with_tls_options(url: URL) -> DriverUrl:
    """Take libpq's TLS options out of the query, and pass them to asyncpg as a DSN.

    asyncpg then treats them as libpq does: certificates in ~/.postgresql, `allow` and `prefer`.
    Raises ValueError for a file that cannot be read.
    """
    options = _options(url, TLS_OPTIONS)
    for name in TLS_FILES:
        if name in options and not os.access(options[name], os.R_OK):
            raise ValueError(f"{name}: cannot read {options[name]}")
    if not options:
        return DriverUrl(url, {})
    return DriverUrl(
        url.difference_update_query(options), {"dsn": f"postgresql://?{urlencode(options)}"}
    )


def statement_caches(url: URL) -> dict[str, int]:
    """Return the sizes of the caches of prepared statements in the query; both 0 if one is 0.

    With both off, each statement is parsed and executed in one exchange, so a pooler such as
    PgBouncer may send the next one to another server connection.
    Raises ValueError.
    """
    options = _options(url, STATEMENT_CACHES)
    for name, size in options.items():
        if not (size.isascii() and size.isdigit()):
            raise ValueError(f"{name}: use a whole number, 0 with PgBouncer")
    sizes = {name: int(size) for name, size in options.items()}
    return dict.fromkeys(STATEMENT_CACHES, 0) if 0 in sizes.values() else sizes


def without_statement_caches(url: str) -> str:
    """Return `url` with the option for PgBouncer. Raises ValueError for a URL that has caches."""
    sizes = statement_caches(parse(url))
    for name, size in sizes.items():
        if size:
            raise ValueError(
                f"{name}={size} conflicts with SCAN_LOGIN_RECORDS_PGBOUNCER=true, which requires "
                "0; remove one of them"
            )
    return url if sizes else f"{url}{'&' if '?' in url else '?'}{STATEMENT_CACHES[0]}=0"


def nowhere(url: URL) -> URL:
    """Return `url` with its options and a server that does not exist."""
    without_server = url.set(host=None, port=None).difference_update_query(["host", "port"])
    return without_server.update_query_dict({"host": NO_SOCKET})


def _options(url: URL, names: Sequence[str]) -> dict[str, str]:
    """Return the options in the query with these names. Raises ValueError for a repeated one."""
    options: dict[str, str] = {}
    for name in names:
        value = url.query.get(name)
        if isinstance(value, tuple):
            raise ValueError(f"{name} is given twice")
        if value is not None:
            options[name] = value
    return options
