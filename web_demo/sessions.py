"""Sessions of signed-in users, in memory."""

import hashlib
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from .verify import LEEWAY

SESSION_LIFETIME = 8 * 60 * 60
SESSIONS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in user. claims: the verified claims. expires_at: Unix time in seconds.

    id_token: of a sign-in by OpenID Connect.
    chat_token: the access token of the sign-in, until the chat page has taken it.
    began_at, user_agent: of the sign-in, for the list of browsers.
    """

    claims: dict[str, Any]
    expires_at: float
    id_token: str = ""
    chat_token: str = field(default="", repr=False)
    began_at: float = 0.0
    user_agent: str = ""


def public_id(session_id: str) -> str:
    """Return a name of a session for links. It does not reveal the session id."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:16]


class SiteSessions:
    """Sessions by cookie value. At `SESSIONS_MAX` the oldest session is closed."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def open(self, session: Session) -> str:
        """Store a session. Returns the value of its cookie."""
        while len(self._sessions) >= SESSIONS_MAX:
            oldest = next(
                iter(self._sessions)
            )  # the first, because all sessions have the same lifetime
            del self._sessions[oldest]
        session_id = secrets.token_urlsafe(32)
        self._sessions[session_id] = session
        return session_id

    def get(self, session_id: str | None, now: float) -> Session | None:
        session = self._sessions.get(session_id or "")
        return session if session and session.expires_at > now else None

    def take_chat_token(self, session_id: str | None, now: float) -> str:
        """Return the access token of a session, once; empty if there is none."""
        session = self.get(session_id, now)
        if session_id is None or session is None:
            return ""
        self._sessions[session_id] = replace(session, chat_token="")
        return session.chat_token

    def of_person(self, subject: str, now: float) -> dict[str, Session]:
        """Return the sessions of a person that have not expired, by session id."""
        return {
            key: one
            for key, one in self._sessions.items()
            if one.claims["sub"] == subject and one.expires_at > now
        }

    def close(self, session_id: str | None) -> None:
        self._sessions.pop(session_id or "", None)

    def close_sid(self, sid: str) -> None:
        """Close the sessions of one sign-in session of the provider."""
        ended = [key for key, one in self._sessions.items() if one.claims.get("sid") == sid]
        for key in ended:
            del self._sessions[key]


class UsedTokens:
    """The tokens that were exchanged for a session, until they expire. A token works once."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}

    def add(self, jti: str, expires_at: float, now: float) -> bool:
        """Store the token. Returns whether it is new."""
        self._ends = {known: end for known, end in self._ends.items() if end + LEEWAY > now}
        is_new = jti not in self._ends
        self._ends[jti] = expires_at
        return is_new
