"""The account page: the person, and the browsers in which the person is signed in."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from .pictures import Pictures
from .responses import Route
from .sessions import Session, public_id
from .templates import PageTemplates
from .visitors import Visitors, session_id

BROWSERS = {
    "Edg/": "Edge",
    "OPR/": "Opera",
    "Firefox/": "Firefox",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "Linux": "Linux",
}
# The first name in a user agent is the right one: Edge also names Chrome, and Android also Linux.


class AccountRoutes:
    """pictures: finds the picture of the person. hidden: fields of links that are not shown."""

    def __init__(
        self,
        *,
        visitors: Visitors,
        pages: PageTemplates,
        pictures: Pictures | None,
        hidden: Mapping[str, str],
    ) -> None:
        self._visitors = visitors
        self._pages = pages
        self._pictures = pictures
        self._hidden = hidden

    def routes(self) -> list[Route]:
        return [
            ("GET", "/account", self.page),
            ("POST", "/sign-out/everywhere", self.sign_out_everywhere),
            ("POST", "/sign-out/{device:[0-9a-f]{16}}", self.sign_out_device),
        ]

    async def page(self, request: web.Request) -> web.Response:
        session = self._visitors.session(request)
        if not session:
            raise web.HTTPSeeOther("/")
        uploaded = await self._picture_of(session.claims["sub"])
        sessions = self._visitors.own_sessions(request)
        fields = {**account_fields(session.claims, uploaded), **self._hidden}
        fields["everywhere_hidden"] = "" if len(sessions) > 1 else "hidden"
        devices = device_list(request, self._pages, sessions, session_id(request) or "")
        return self._pages.render(request, "account", fields, fragments={"devices": devices})

    async def _picture_of(self, subject: str) -> str:
        return "" if self._pictures is None else await self._pictures.url_of(subject)

    async def sign_out_device(self, request: web.Request) -> web.Response:
        """End another session of the person who is signed in."""
        for key in self._visitors.own_sessions(request):
            if public_id(key) == request.match_info["device"]:
                self._visitors.sessions.close(key)
        raise web.HTTPSeeOther("/account")

    async def sign_out_everywhere(self, request: web.Request) -> web.Response:
        """End all sessions of the person who is signed in at this site."""
        for key in self._visitors.own_sessions(request):
            self._visitors.sessions.close(key)
        raise web.HTTPSeeOther("/")


def describe_browser(user_agent: str) -> str:
    """Return a name such as `Firefox · Windows`; empty for an unknown user agent."""
    names = (
        next((name for mark, name in table.items() if mark in user_agent), "")
        for table in (BROWSERS, SYSTEMS)
    )
    return " · ".join(filter(None, names))


def name_of(claims: dict[str, Any]) -> str:
    """Return the person's name, or else the subject. The subject is `<provider>:<id>`."""
    subject: str = claims["sub"]
    name: str = claims.get("name") or subject.partition(":")[2] or subject
    return name


def https_url(claim: object) -> str:
    """Return the claim if it is a URL that the page may load, else an empty text."""
    url = str(claim or "")
    return url if url.startswith("https://") else ""


def account_fields(claims: dict[str, Any], uploaded: str = "") -> dict[str, str]:
    """Return the fields of the account page that show the person.

    uploaded: the URL of the picture from the mini program; empty for the claim `picture`.
    """
    since = datetime.fromtimestamp(claims.get("auth_time", claims["iat"]), UTC)
    picture = uploaded or https_url(claims.get("picture"))
    name = name_of(claims)
    return {
        "name": name,
        "monogram": name[:1].upper(),
        "monogram_hidden": "hidden" if picture else "",
        "picture": picture or "data:,",
        "picture_hidden": "" if picture else "hidden",
        "since": _time(since),
        "since_iso": since.isoformat(),
        "claims": json.dumps(claims, indent=2, ensure_ascii=False),
    }


def device_list(
    request: web.Request, pages: PageTemplates, sessions: dict[str, Session], own: str
) -> str:
    """Return the items of the list of browsers, the newest first, as HTML.

    sessions: of one person, by session id. own: the session id of this browser.
    """
    newest = sorted(sessions.items(), key=lambda one: one[1].began_at, reverse=True)
    return "".join(_device(request, pages, key, one, is_own=key == own) for key, one in newest)


def _device(
    request: web.Request, pages: PageTemplates, key: str, session: Session, *, is_own: bool
) -> str:
    began = datetime.fromtimestamp(session.began_at, UTC)
    values = {
        "device": public_id(key),
        "own_hidden": "" if is_own else "hidden",
        "other_hidden": "hidden" if is_own else "",
        "began": _time(began),
        "began_iso": began.isoformat(),
    }
    if browser := describe_browser(session.user_agent):
        values["browser"] = browser
    return pages.fragment(request, "device", values)


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
