"""The routes of the chat page."""

import time
from pathlib import Path

from aiohttp import web

from ..responses import Route, fail, file_routes
from ..templates import PageTemplates
from ..visitors import Visitors, session_id

FILES = ("chat.css", "page.js", "messages.js", "words.js", "chat.js", "chat_room.js")
SCRIPT_HEADER = ("X-Requested-With", "fetch")


class ChatRoutes:
    def __init__(self, *, visitors: Visitors, pages: PageTemplates, room: str) -> None:
        self._visitors = visitors
        self._pages = pages
        self._room = room

    def routes(self) -> list[Route]:
        return [
            ("GET", "/chat", self.page),
            ("GET", "/chat/token", self.token),
            *file_routes("/chat", Path(__file__).parent, FILES),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """The chat; before the sign-in, the login page under the same URL."""
        session = self._visitors.session(request)
        if not session:
            return self._pages.render(request, "login")
        fields = {"room": self._room, "subject": session.claims["sub"]}
        return self._pages.render(request, "chat", fields)

    async def token(self, request: web.Request) -> web.Response:
        """Give the access token to the chat page, once. It continues with the broker's `resume`."""
        name, value = SCRIPT_HEADER
        if request.headers.get(name) != value:  # a page of another origin cannot send it
            fail(web.HTTPForbidden, "invalid_origin", f"send the header {name}: {value}")
        token = self._visitors.sessions.take_chat_token(session_id(request), time.time())
        if not token:
            fail(web.HTTPUnauthorized, "login_required", "sign in again to get a token")
        return web.json_response({"access_token": token}, headers={"Cache-Control": "no-store"})
