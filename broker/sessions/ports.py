"""Storage of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.identity.model import Phone
from broker.sessions.model import Session

SESSIONS_MAX = 20
"""Active sessions of one person in one app. A phone that loses its session opens another."""


class SessionStore(Protocol):
    """Stores sessions until they end. Each method raises Unavailable."""

    async def put(self, session: Session) -> None:
        """Store a new session.

        If its person has `SESSIONS_MAX` sessions, or the store is full, the sessions that
        would end first are deleted.
        """

    async def get(self, session_id: str) -> Session | None:
        """Return the session, or None if it has ended or never existed."""

    async def of_person(self, phone: Phone) -> Sequence[Session]:
        """Return the active sessions of a person in one app."""

    async def extend(self, session: Session, expires_at: float) -> bool:
        """Set a later end. Returns False if the session has ended; it remains ended then."""

    async def end(self, phone: Phone, session_id: str | None = None) -> int:
        """End one session of a person, or all, and return how many have ended.

        A simultaneous `extend` does not restore an ended session.
        """
