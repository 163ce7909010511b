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
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NoReturn
from urllib.parse import urlsplit

import jwt
from aiohttp import web

from .account import account_fields, device_list
from .error_pages import error_pages
from .game.server import (
    CALLBACK_PATH,
    TUNNEL_PATH,
    GameOptions,
    GameServer,
    Person,
    is_from_phone,
)
from .oidc import ATTEMPT_LIFETIME, OIDCClient, SignInFailed, read_logout_token
from .pictures import Pictures
from .sessions import SESSION_LIFETIME, Session, SiteSessions, UsedTokens, public_id
from .templates import CHAT, GAME, PAGES, PageTemplates
from .verify import TokenVerifier

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

FILES = {f"/{name}": PAGES / name for name in ("site.css", "login.js", "icon.svg")}
CHAT_FILES = {
    f"/chat/{name}": CHAT / name
    for name in ("chat.css", "page.js", "messages.js", "words.js", "chat.js", "chat_room.js")
}
GAME_FILES = {
    f"/game/{name}": GAME / name
    for name in ("game.css", "page.js", "client.js", "words.js", "tunnel.js")
}
SCRIPT_HEADER = ("X-Requested-With", "fetch")
BODY_MAX_BYTES = 64 * 1024
USER_AGENT_MAX = 500
SESSION_COOKIE = "session"
BROWSER_COOKIE = "oidc"
BACKCHANNEL_PATH = "/oidc/backchannel-logout"
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
    site = Site(
        verifier=TokenVerifier(broker=broker_url, app=app, issuer=issuer),
        pages=pages,
        site_url=site_url,
        oidc=oidc,
        chat_room=chat_room,
        has_game=game is not None,
        pictures=pictures,
    )
    application = web.Application(
        client_max_size=BODY_MAX_BYTES, middlewares=[error_pages(pages), site.check_post_origin]
    )
    routes = [
        ("GET", "/", site.login_page),
        ("POST", "/session", site.sign_in),
        ("GET", "/account", site.account_page),
        ("POST", "/sign-out", site.sign_out),
        ("POST", "/sign-out/everywhere", site.sign_out_everywhere),
        ("POST", "/sign-out/{device:[0-9a-f]{16}}", site.sign_out_device),
        *(("GET", path, serve_file) for path in FILES),
    ]
    if site.has_chat:
        routes += [
            ("GET", "/chat", site.chat_page),
            ("GET", "/chat/token", site.chat_token),
            *(("GET", path, serve_file) for path in CHAT_FILES),
        ]
    if game is not None:
        server = GameServer(broker=broker_url, options=game, person_of=site.person_of)
        application.cleanup_ctx.append(server.running)
        routes += [
            ("GET", "/game", site.game_page),
            ("POST", TUNNEL_PATH, server.open_tunnel),
            ("POST", CALLBACK_PATH, server.receive),
            *(("GET", path, serve_file) for path in GAME_FILES),
        ]
    if oidc is not None:
        routes += [
            ("GET", "/oidc/sign-in", site.oidc_sign_in),
            ("GET", "/oidc/callback", site.oidc_callback),
            ("POST", BACKCHANNEL_PATH, site.oidc_backchannel_logout),
        ]
    for method, path, handler in routes:
        application.router.add_route(method, path, handler, expect_handler=check_expectation)
    application.on_response_prepare.append(security_headers(broker_url))
    return application


class Site:
    """The request handlers and their state."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        pages: "PageTemplates",
        site_url: str | None,
        oidc: OIDCClient | None,
        chat_room: str | None,
        has_game: bool,
        pictures: Pictures | None,
    ) -> None:
        self._verifier = verifier
        self._pages = pages
        self._site_url = site_url.rstrip("/") if site_url else None
        self._oidc = oidc
        self._chat_room = chat_room
        self._has_game = has_game
        self._pictures = pictures
        self._sessions = SiteSessions()
        self._used_tokens = UsedTokens()

    @property
    def has_chat(self) -> bool:
        return self._chat_room is not None and self._oidc is None

    async def login_page(self, request: web.Request) -> web.Response:
        if self._session(request):
            raise web.HTTPSeeOther("/account")
        return self._login_page(request)

    async def account_page(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if not session:
            raise web.HTTPSeeOther("/")
        uploaded = await self._picture_of(session.claims["sub"])
        fields = account_fields(session.claims, uploaded)
        fields["chat_hidden"] = "" if self.has_chat else "hidden"
        fields["game_hidden"] = "" if self._has_game else "hidden"
        sessions = self._sessions.of_person(session.claims["sub"], time.time())
        fields["everywhere_hidden"] = "" if len(sessions) > 1 else "hidden"
        own = request.cookies.get(SESSION_COOKIE, "")
        devices = device_list(request, self._pages, sessions, own)
        return self._pages.render(request, "account", fields, fragments={"devices": devices})

    async def _picture_of(self, subject: str) -> str:
        return "" if self._pictures is None else await self._pictures.url_of(subject)

    async def chat_page(self, request: web.Request) -> web.Response:
        """The chat; before the sign-in, the login page under the same URL."""
        session = self._session(request)
        if not session:
            return self._pages.render(request, "login")
        fields = {"room": self._chat_room or "", "subject": session.claims["sub"]}
        return self._pages.render(request, "chat", fields)

    async def chat_token(self, request: web.Request) -> web.Response:
        """Give the access token to the chat page, once. It continues with the broker's `resume`."""
        name, value = SCRIPT_HEADER
        if request.headers.get(name) != value:  # a page of another origin cannot send it
            fail(web.HTTPForbidden, "invalid_origin", f"send the header {name}: {value}")
        token = self._sessions.take_chat_token(request.cookies.get(SESSION_COOKIE), time.time())
        if not token:
            fail(web.HTTPUnauthorized, "login_required", "sign in again to get a token")
        return web.json_response({"access_token": token}, headers={"Cache-Control": "no-store"})

    async def game_page(self, request: web.Request) -> web.Response:
        """The game; before the sign-in, the login page under the same URL."""
        person = self.person_of(request)
        if person is None:
            return self._login_page(request)
        return self._pages.render(request, "game", {"subject": person.subject})

    def person_of(self, request: web.Request) -> Person | None:
        """Return the person who is signed in; None before the sign-in."""
        session = self._session(request)
        return Person(session.claims["sub"], session.claims.get("name", "")) if session else None

    def _login_page(self, request: web.Request) -> web.Response:
        return self._pages.render(request, "login" if self._oidc is None else "login_oidc")

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
        chat_token = token if self.has_chat else ""
        self._open_session(request, response, Session(claims, ends_at(), chat_token=chat_token))
        return response

    def _open_session(
        self, request: web.Request, response: web.StreamResponse, session: Session
    ) -> None:
        """Replace the session: an id that an attacker planted is useless."""
        self._sessions.close(request.cookies.get(SESSION_COOKIE))
        user_agent = request.headers.get("User-Agent", "")[:USER_AGENT_MAX]
        session = replace(session, began_at=time.time(), user_agent=user_agent)
        session_id = self._sessions.open(session)
        self._set_cookie(request, response, SESSION_COOKIE, session_id, SESSION_LIFETIME)

    def _set_cookie(
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
            secure=self._origin(request).startswith("https:"),
        )

    async def oidc_sign_in(self, request: web.Request) -> web.Response:
        assert self._oidc is not None
        try:
            url, browser = await self._oidc.begin()
        except SignInFailed as error:
            fail(web.HTTPServiceUnavailable, "temporarily_unavailable", str(error))
        response = web.Response(status=303, headers={"Location": url})
        self._set_cookie(request, response, BROWSER_COOKIE, browser, ATTEMPT_LIFETIME)
        return response

    async def oidc_callback(self, request: web.Request) -> web.Response:
        assert self._oidc is not None
        browser = request.cookies.get(BROWSER_COOKIE, "")
        try:
            user = await self._oidc.finish(dict(request.query), browser)
        except SignInFailed as error:
            log.warning("sign-in failed: error=%s", error)
            return self._pages.render(request, "login_oidc", {"problem": str(error)})
        response = web.Response(status=303, headers={"Location": "/account"})
        self._open_session(request, response, Session(user.claims, ends_at(), user.id_token))
        response.del_cookie(BROWSER_COOKIE)
        return response

    async def oidc_backchannel_logout(self, request: web.Request) -> web.Response:
        """End the sessions that the provider has ended (OpenID Connect Back-Channel Logout)."""
        assert self._oidc is not None
        try:
            sid = await self._oidc.ended_session(await read_logout_token(request))
        except SignInFailed as error:
            fail(web.HTTPBadRequest, "invalid_request", str(error))
        self._sessions.close_sid(sid)
        return web.Response(status=204)

    async def sign_out(self, request: web.Request) -> web.Response:
        session = self._session(request)
        self._sessions.close(request.cookies.get(SESSION_COOKIE))
        location = "/"
        if session and session.id_token and self._oidc is not None:
            location = await self._logout_url(self._oidc, session.id_token)
        response = web.HTTPSeeOther(location)
        response.del_cookie(SESSION_COOKIE)
        raise response

    async def _logout_url(self, oidc: OIDCClient, id_token: str) -> str:
        """Return where the browser signs out at the provider too; the start page if it is down."""
        try:
            return await oidc.logout_url(id_token)
        except SignInFailed as error:
            log.warning("sign-out at the provider failed: error=%s", error)
            return "/"

    async def sign_out_device(self, request: web.Request) -> web.Response:
        """End another session of the person who is signed in."""
        for key in self._own_sessions(request):
            if public_id(key) == request.match_info["device"]:
                self._sessions.close(key)
        raise web.HTTPSeeOther("/account")

    async def sign_out_everywhere(self, request: web.Request) -> web.Response:
        """End all sessions of the person who is signed in at this site."""
        for key in self._own_sessions(request):
            self._sessions.close(key)
        raise web.HTTPSeeOther("/")

    def _own_sessions(self, request: web.Request) -> dict[str, Session]:
        session = self._session(request)
        return self._sessions.of_person(session.claims["sub"], time.time()) if session else {}

    @web.middleware
    async def check_post_origin(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a POST from a page of another site.

        This prevents login CSRF, where an attacker's page signs its visitor in as the attacker.
        """
        origins = request.headers.getall("Origin", [])
        if request.path in SIGNED_PATHS or is_from_phone(request):
            return await handler(request)
        if request.method == "POST" and origins != [self._origin(request)]:
            fail(web.HTTPForbidden, "invalid_origin", "origin is not allowed")
        return await handler(request)

    def _origin(self, request: web.Request) -> str:
        return self._site_url or f"{request.scheme}://{request.host}"

    def _session(self, request: web.Request) -> Session | None:
        return self._sessions.get(request.cookies.get(SESSION_COOKIE), time.time())


def ends_at() -> float:
    """Return when a session that is opened now ends."""
    return time.time() + SESSION_LIFETIME


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


async def serve_file(request: web.Request) -> web.FileResponse:
    path = {**FILES, **CHAT_FILES, **GAME_FILES}[request.path]
    return web.FileResponse(path, headers={"Cache-Control": "no-cache"})


def security_headers(
    broker_url: str,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Headers that restrict pages to requests to this site and to the broker."""
    url = urlsplit(broker_url)
    broker = f"{url.scheme}://{url.netloc}"
    socket = f"{'wss' if url.scheme == 'https' else 'ws'}://{url.netloc}"
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {broker}",
            f"connect-src 'self' {broker} {socket}",
            f"img-src 'self' data: {broker} https:",  # https: for logos and for pictures of people
            "style-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )

    async def add(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        # With `no-referrer` browsers would send `Origin: null` from the sign-out form.
        response.headers["Referrer-Policy"] = "same-origin"

    return add


def fail(kind: type[web.HTTPException], error: str, description: str) -> NoReturn:
    body = json.dumps({"error": error, "error_description": description})
    raise kind(text=body, content_type="application/json")


async def check_expectation(request: web.Request) -> None:
    """Answer `Expect: 100-continue`. Refuse other expectations."""
    if request.headers["Expect"].lower() != "100-continue":
        fail(web.HTTPExpectationFailed, "invalid_request", "Expect is not supported")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response has not begun
