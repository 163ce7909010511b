"""Errors of the database."""

from __future__ import annotations

from broker.errors import StartupError, Unavailable


class RecordsUnavailable(Unavailable):
    """The database does not answer, or refuses a statement. reason: for the log only."""

    description = "the records are unavailable; try again"

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class RecordsStartupError(StartupError):
    """The database is unavailable at startup, or newer than this program."""
