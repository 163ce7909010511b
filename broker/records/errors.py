"""Errors of the database."""

from __future__ import annotations

from broker.errors import StartupError, Unavailable


class RecordsUnavailable(Unavailable):
    """The database cannot be reached, or does not do it.  reason: why, for the operator alone."""

    description = "the records cannot be reached just now; try again"

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class RecordsStartupError(StartupError):
    """The database cannot be reached at the start, or is of another version than this program."""
