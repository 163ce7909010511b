"""The routes of the game page."""

from pathlib import Path

from aiohttp import web

from ..responses import Route, file_routes
from ..templates import PageTemplates
from ..visitors import Visitors
from .server import CALLBACK_PATH, TUNNEL_PATH, GameServer

FILES = ("game.css", "page.js", "client.js", "words.js", "tunnel.js")


class GameRoutes:
    """login: the template of the page before the sign-in."""

    def __init__(
        self, *, server: GameServer, visitors: Visitors, pages: PageTemplates, login: str
    ) -> None:
        self._server = server
        self._visitors = visitors
        self._pages = pages
        self._login = login

    def routes(self) -> list[Route]:
        return [
            ("GET", "/game", self.page),
            ("POST", TUNNEL_PATH, self._server.open_tunnel),
            ("POST", CALLBACK_PATH, self._server.receive),
            *file_routes("/game", Path(__file__).parent, FILES),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """The game; before the sign-in, the login page under the same URL."""
        person = self._visitors.person(request)
        if person is None:
            return self._pages.render(request, self._login)
        return self._pages.render(request, "game", {"subject": person.subject})
