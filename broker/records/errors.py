"""Errors of the database."""

from __future__ import annotations

from collections.abc import Mapping

from broker.errors import StartupError, Unavailable

OTHER_OWNER = (
    "the file or its folder cannot be read and written, or the file belongs to another user: give "
    "both to the broker's user with chown"
)

REMEDIES: Mapping[str, str] = {
    "password authentication failed": "correct user and password in SCAN_LOGIN_RECORDS_URL",
    "rejected SSL upgrade": "the server refuses TLS: enable it, or remove sslmode from "
    "SCAN_LOGIN_RECORDS_URL",
    "no pg_hba.conf entry": "allow the broker's user and address in pg_hba.conf",
    "does not exist": "create it, or correct SCAN_LOGIN_RECORDS_URL",
    "database is locked": "another program locks the file: end it; fuser names the programs that "
    "have the file open",
    "unable to open database file": OTHER_OWNER,
    "readonly database": OTHER_OWNER,
    "file is not a database": "restore the file from a backup, or correct SCAN_LOGIN_RECORDS_URL",
    "is malformed": "restore the file from a backup",
}
"""What to do, by a part of the reason. Messages of SQLite, PostgreSQL and asyncpg."""


class RecordsUnavailable(Unavailable):
    """The database does not answer, or refuses a statement. reason: for the log only."""

    description = "the records are unavailable; try again"

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    @property
    def remedy(self) -> str:
        """The remedy for the reason, for operators."""
        known = (remedy for part, remedy in REMEDIES.items() if part in self.reason)
        return next(known, "start the database, or correct SCAN_LOGIN_RECORDS_URL")


class RecordsStartupError(StartupError):
    """The database is unavailable at startup, or newer than this program."""
