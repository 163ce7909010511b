"""The browsers at the site: their session cookies, and the people who are signed in."""

import time
from dataclasses import replace

from aiohttp import web

from .game.server import Person
from .sessions import SESSION_LIFETIME, Session, SiteSessions

USER_AGENT_MAX = 500
SESSION_COOKIE = "session"


class Visitors:
    """site_url: the URL of this site in browsers, if it is behind a proxy."""

    def __init__(self, site_url: str | None) -> None:
        self._site_url = site_url.rstrip("/") if site_url else None
        self.sessions = SiteSessions()

    def session(self, request: web.Request) -> Session | None:
        return self.sessions.get(session_id(request), time.time())

    def person(self, request: web.Request) -> Person | None:
        """Return the person who is signed in; None before the sign-in."""
        session = self.session(request)
        return Person(session.claims["sub"], session.claims.get("name", "")) if session else None

    def own_sessions(self, request: web.Request) -> dict[str, Session]:
        """Return all sessions of the person who is signed in, by session id."""
        session = self.session(request)
        return self.sessions.of_person(session.claims["sub"], time.time()) if session else {}

    def open_session(
        self, request: web.Request, response: web.StreamResponse, session: Session
    ) -> None:
        """Replace the session: an id that an attacker planted is useless."""
        self.sessions.close(session_id(request))
        user_agent = request.headers.get("User-Agent", "")[:USER_AGENT_MAX]
        session = replace(session, began_at=time.time(), user_agent=user_agent)
        cookie = self.sessions.open(session)
        self.set_cookie(request, response, SESSION_COOKIE, cookie, SESSION_LIFETIME)

    def set_cookie(
        self,
        request: web.Request,
        response: web.StreamResponse,
        name: str,
        value: str,
        lifetime: int,
    ) -> None:
        response.set_cookie(
            name,
            value,
            max_age=lifetime,
            httponly=True,
            samesite="Lax",
            secure=self.origin(request).startswith("https:"),
        )

    def origin(self, request: web.Request) -> str:
        """Return the Origin of this site in browsers."""
        return self._site_url or f"{request.scheme}://{request.host}"


def session_id(request: web.Request) -> str | None:
    return request.cookies.get(SESSION_COOKIE)


def ends_at() -> float:
    """Return when a session that is opened now ends."""
    return time.time() + SESSION_LIFETIME
