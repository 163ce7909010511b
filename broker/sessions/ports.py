"""Where sessions are stored."""

from __future__ import annotations

from typing import Protocol

from broker.identity.model import Phone
from broker.sessions.model import Session

SESSIONS_MAX = 20
"""Sessions that one person may have in one app: phones, and those that forgot theirs."""


class SessionStore(Protocol):
    """Where sessions are kept until their end."""

    async def put(self, session: Session) -> None:
        """Keep a new session.

        Where its person has `SESSIONS_MAX` already, or there is no room at all, those
        that end first make some.
        """

    async def get(self, session_id: str) -> Session | None:
        """The session, or None once it has ended or where there never was one."""

    async def extend(self, session: Session, expires_at: float) -> bool:
        """Let the session end later; False for one that has been ended, and stays so."""

    async def end(self, phone: Phone, session_id: str | None = None) -> int:
        """End one session of a person, or all; how many there were.

        What is put off at the same time does not come back.
        """
