"""A small site with scan login.

    browser ── code, token ── broker
       │ POST /session {access_token}
       ▼
     site ── verifies the token ──▶ cookie session ──▶ /account, /chat, /game

The site exchanges a token for one session. It stores the token only for its chat
page, which takes it once. Sessions are in memory, so a restart signs out all users.
A real site uses its existing sessions.
"""

import asyncio
import json
import logging
import time

import jwt
from aiohttp import web
from aiohttp.typedefs import Middleware

from .account import AccountRoutes
from .chat.routes import ChatRoutes
from .error_pages import error_pages
from .game.routes import GameRoutes
from .game.server import CALLBACK_PATH, GameOptions, GameServer, is_from_phone
from .oidc import OIDCClient
from .oidc_routes import BACKCHANNEL_PATH, OIDCRoutes
from .pictures import Pictures
from .responses import (
    Handler,
    Route,
    check_expectation,
    fail,
    file_routes,
    security_headers,
)
from .sessions import Session, UsedTokens
from .templates import PAGES, PageTemplates
from .verify import TokenVerifier
from .visitors import SESSION_COOKIE, Visitors, ends_at, session_id

FILES = ("site.css", "login.js", "icon.svg")
BODY_MAX_BYTES = 64 * 1024
SIGNED_PATHS = (BACKCHANNEL_PATH, CALLBACK_PATH)  # for requests of servers

log = logging.getLogger(__name__)


def build_site(
    *,
    broker_url: str,
    app: str = "default",
    phone_url: str | None = None,
    issuer: str | None = None,
    site_url: str | None = None,
    oidc: OIDCClient | None = None,
    chat_room: str | None = None,
    game: GameOptions | None = None,
    pictures: Pictures | None = None,
) -> web.Application:
    """Build the site as an application.

    phone_url: a phone page for development. The login page links to it.
    issuer: the tokens' `iss`, if it is not `broker_url`.
    site_url: the URL of this site in browsers, if it is behind a proxy.
    oidc: the site as a client of OpenID Connect. It replaces the widget.
    chat_room: the room of the page /chat. Without it, or with `oidc`, there is no such page.
    game: the app of the page /game. Without it there is no such page.
    pictures: finds the picture of the account page. Without it there is none.
    """
    pages = PageTemplates(broker_url=broker_url.rstrip("/"), app=app, phone_url=phone_url or "")
    visitors = Visitors(site_url)
    has_chat = chat_room is not None and oidc is None
    signs_in = None if oidc is None else OIDCRoutes(client=oidc, visitors=visitors, pages=pages)
    login = LoginRoutes(
        verifier=TokenVerifier(broker=broker_url, app=app, issuer=issuer),
        visitors=visitors,
        pages=pages,
        oidc=signs_in,
        keeps_token=has_chat,
    )
    hidden = {
        "chat_hidden": "" if has_chat else "hidden",
        "game_hidden": "" if game else "hidden",
    }
    account = AccountRoutes(visitors=visitors, pages=pages, pictures=pictures, hidden=hidden)
    middlewares = [error_pages(pages), check_post_origin(visitors)]
    application = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=middlewares)
    routes = [*login.routes(), *account.routes(), *file_routes("", PAGES, FILES)]
    if signs_in is not None:
        routes += signs_in.routes()
    elif chat_room is not None:
        routes += ChatRoutes(visitors=visitors, pages=pages, room=chat_room).routes()
    if game is not None:
        server = GameServer(broker=broker_url, options=game, person_of=visitors.person)
        application.cleanup_ctx.append(server.running)
        page = GameRoutes(server=server, visitors=visitors, pages=pages, login=login.template)
        routes += page.routes()
    for method, path, handler in routes:
        application.router.add_route(method, path, handler, expect_handler=check_expectation)
    application.on_response_prepare.append(security_headers(broker_url))
    return application


class LoginRoutes:
    """The login page, and the sign-in with the broker's token.

    oidc: the sign-in that replaces it. keeps_token: for the chat page.
    """

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        visitors: Visitors,
        pages: PageTemplates,
        oidc: OIDCRoutes | None,
        keeps_token: bool,
    ) -> None:
        self._verifier = verifier
        self._visitors = visitors
        self._pages = pages
        self._oidc = oidc
        self._keeps_token = keeps_token
        self._used_tokens = UsedTokens()

    @property
    def template(self) -> str:
        return "login" if self._oidc is None else "login_oidc"

    def routes(self) -> list[Route]:
        return [
            ("GET", "/", self.page),
            ("POST", "/session", self.sign_in),
            ("POST", "/sign-out", self.sign_out),
        ]

    async def page(self, request: web.Request) -> web.Response:
        if self._visitors.session(request):
            raise web.HTTPSeeOther("/account")
        return self._pages.render(request, self.template)

    async def sign_in(self, request: web.Request) -> web.Response:
        """Exchange the broker's token for a session of this site."""
        token = await read_access_token(request)
        try:
            claims = await asyncio.to_thread(self._verifier.verify, token)
        except jwt.PyJWKClientConnectionError as error:
            log.warning("keys unavailable: error=%s", error)
            fail(web.HTTPServiceUnavailable, "temporarily_unavailable", "the broker is unreachable")
        except jwt.PyJWTError as error:
            fail(web.HTTPUnauthorized, "invalid_token", f"the token is invalid: {error}")
        if not self._used_tokens.add(claims["jti"], claims["exp"], time.time()):
            fail(web.HTTPUnauthorized, "invalid_token", "the token has already been used")
        response = web.json_response({"next": "/account"})
        chat_token = token if self._keeps_token else ""
        session = Session(claims, ends_at(), chat_token=chat_token)
        self._visitors.open_session(request, response, session)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        session = self._visitors.session(request)
        self._visitors.sessions.close(session_id(request))
        location = "/"
        if session and session.id_token and self._oidc is not None:
            location = await self._oidc.logout_url(session.id_token)
        response = web.HTTPSeeOther(location)
        response.del_cookie(SESSION_COOKIE)
        raise response


def check_post_origin(visitors: Visitors) -> Middleware:
    """Return a middleware that refuses a POST from a page of another site.

    This prevents login CSRF, where an attacker's page signs its visitor in as the attacker.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        origins = request.headers.getall("Origin", [])
        if request.path in SIGNED_PATHS or is_from_phone(request):
            return await handler(request)
        if request.method == "POST" and origins != [visitors.origin(request)]:
            fail(web.HTTPForbidden, "invalid_origin", "origin is not allowed")
        return await handler(request)

    return check


async def read_access_token(request: web.Request) -> str:
    """The token in a JSON body. Only a script of this origin can send this content type."""
    if request.content_type != "application/json":
        fail(
            web.HTTPUnsupportedMediaType, "invalid_request", "content type must be application/json"
        )
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError, web.RequestPayloadError):  # the last: invalid gzip
        fail(web.HTTPBadRequest, "invalid_request", "request body is not valid JSON")
    token = body.get("access_token") if isinstance(body, dict) else None
    if not token or not isinstance(token, str):
        fail(web.HTTPBadRequest, "invalid_request", "access_token is missing")
    return token
