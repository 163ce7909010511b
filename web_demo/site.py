"""A small site with scan login.

    browser ── code, token ── broker
       │ POST /session {access_token}
       ▼
     site ── verifies the token ──▶ cookie session ──▶ /account

The site exchanges a token for one session and does not store the token. Sessions
are in memory, so a restart signs out all users. A real site uses its existing
sessions.
"""

import asyncio
import html
import json
import logging
import secrets
import string
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import jwt
from aiohttp import web

from .oidc import ATTEMPT_LIFETIME, OIDCClient, SignInFailed, read_logout_token
from .verify import LEEWAY, TokenVerifier

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAGES = Path(__file__).with_name("pages")
FILES = {"/site.css", "/login.js", "/icon.svg"}
LANGUAGES = {"en": "en", "zh": "zh-CN"}  # the language, and the page's `lang`
BODY_MAX_BYTES = 64 * 1024
SESSION_COOKIE = "session"
BROWSER_COOKIE = "oidc"
BACKCHANNEL_PATH = "/oidc/backchannel-logout"
SESSION_LIFETIME = 8 * 60 * 60
SESSIONS_MAX = 10_000
LANGUAGE_LIFETIME = 365 * 24 * 60 * 60

log = logging.getLogger(__name__)


def build_site(
    *,
    broker_url: str,
    app: str = "default",
    phone_url: str | None = None,
    issuer: str | None = None,
    site_url: str | None = None,
    oidc: OIDCClient | None = None,
) -> web.Application:
    """Build the site as an application.

    phone_url: a phone page for development. The login page links to it.
    issuer: the tokens' `iss`, if it is not `broker_url`.
    site_url: the URL of this site in browsers, if it is behind a proxy.
    oidc: the site as a client of OpenID Connect. It replaces the widget.
    """
    site = Site(
        verifier=TokenVerifier(broker=broker_url, app=app, issuer=issuer),
        pages=PageTemplates(broker_url=broker_url.rstrip("/"), app=app, phone_url=phone_url or ""),
        site_url=site_url,
        oidc=oidc,
    )
    application = web.Application(
        client_max_size=BODY_MAX_BYTES, middlewares=[errors_as_json, site.check_post_origin]
    )
    routes = [
        ("GET", "/", site.login_page),
        ("POST", "/session", site.sign_in),
        ("GET", "/account", site.account_page),
        ("POST", "/sign-out", site.sign_out),
        *(("GET", path, serve_file) for path in FILES),
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


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in user. claims: the verified claims. expires_at: Unix time in seconds.

    id_token: of a sign-in by OpenID Connect.
    """

    claims: dict[str, Any]
    expires_at: float
    id_token: str = ""


class SiteSessions:
    """Sessions by cookie value. At `SESSIONS_MAX` the oldest session is closed."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def open(self, claims: dict[str, Any], now: float, id_token: str = "") -> str:
        while len(self._sessions) >= SESSIONS_MAX:
            oldest = next(
                iter(self._sessions)
            )  # the first, because all sessions have the same lifetime
            del self._sessions[oldest]
        session_id = secrets.token_urlsafe(32)
        self._sessions[session_id] = Session(claims, now + SESSION_LIFETIME, id_token)
        return session_id

    def get(self, session_id: str | None, now: float) -> Session | None:
        session = self._sessions.get(session_id or "")
        return session if session and session.expires_at > now else None

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


class Site:
    """The request handlers and their state."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        pages: "PageTemplates",
        site_url: str | None,
        oidc: OIDCClient | None,
    ) -> None:
        self._verifier = verifier
        self._pages = pages
        self._site_url = site_url.rstrip("/") if site_url else None
        self._oidc = oidc
        self._sessions = SiteSessions()
        self._used_tokens = UsedTokens()

    async def login_page(self, request: web.Request) -> web.Response:
        if self._session(request):
            raise web.HTTPSeeOther("/account")
        return self._pages.render(request, "login" if self._oidc is None else "login_oidc")

    async def account_page(self, request: web.Request) -> web.Response:
        session = self._session(request)
        if not session:
            raise web.HTTPSeeOther("/")
        return self._pages.render(request, "account", account_fields(session.claims))

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
        self._open_session(request, response, claims)
        return response

    def _open_session(
        self,
        request: web.Request,
        response: web.StreamResponse,
        claims: dict[str, Any],
        id_token: str = "",
    ) -> None:
        """Replace the session: an id that an attacker planted is useless."""
        self._sessions.close(request.cookies.get(SESSION_COOKIE))
        session_id = self._sessions.open(claims, time.time(), id_token)
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
        self._open_session(request, response, user.claims, user.id_token)
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
            location = await self._oidc.logout_url(session.id_token)
        response = web.HTTPSeeOther(location)
        response.del_cookie(SESSION_COOKIE)
        raise response

    @web.middleware
    async def check_post_origin(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a POST from a page of another site.

        This prevents login CSRF, where an attacker's page signs its visitor in as the attacker.
        """
        origins = request.headers.getall("Origin", [])
        if request.path == BACKCHANNEL_PATH:  # from the provider's server, with a signed token
            return await handler(request)
        if request.method == "POST" and origins != [self._origin(request)]:
            fail(web.HTTPForbidden, "invalid_origin", "origin is not allowed")
        return await handler(request)

    def _origin(self, request: web.Request) -> str:
        return self._site_url or f"{request.scheme}://{request.host}"

    def _session(self, request: web.Request) -> Session | None:
        return self._sessions.get(request.cookies.get(SESSION_COOKIE), time.time())


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


def account_fields(claims: dict[str, Any]) -> dict[str, str]:
    """The fields of the account page. The subject is `<provider>:<id>`."""
    audience = claims["aud"]
    since = datetime.fromtimestamp(claims.get("auth_time", claims["iat"]), UTC)
    return {
        "name": claims["sub"].partition(":")[2] or claims["sub"],
        "subject": claims["sub"],
        "issuer": claims["iss"],
        "audience": audience if isinstance(audience, str) else ", ".join(audience),
        "since": since.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "since_iso": since.isoformat(),
    }


class PageTemplates:
    """HTML pages from templates: `frame.html` with one page, and texts from `texts.json`.

    All values are escaped, because names contain arbitrary text.
    """

    def __init__(self, **values: str) -> None:
        self._values = values
        self._texts: dict[str, dict[str, str]] = json.loads(_read("texts.json"))
        self._templates = {
            name: string.Template(_read(f"{name}.html"))
            for name in ("frame", "login", "login_oidc", "account")
        }

    def render(
        self, request: web.Request, page: str, values: dict[str, str] | None = None
    ) -> web.Response:
        language = choose_language(request)
        texts = {"lang": LANGUAGES[language], **self._texts[language]}
        texts["title"] = texts[f"{page.removesuffix('_oidc')}_title"]
        texts["problem"] = ""
        fields = {k: html.escape(v) for k, v in {**texts, **self._values, **(values or {})}.items()}
        fields["body"] = self._templates[page].substitute(fields)
        response = web.Response(
            text=self._templates["frame"].substitute(fields), content_type="text/html"
        )
        response.headers["Content-Language"] = LANGUAGES[language]
        response.headers["Cache-Control"] = (
            "no-store"  # else "back" shows the account after sign-out
        )
        response.set_cookie("lang", language, max_age=LANGUAGE_LIFETIME, samesite="Lax")
        return response


def choose_language(request: web.Request) -> str:
    """`?lang=`, else the cookie, else the first known in Accept-Language, else English."""
    asked = request.headers.get("Accept-Language", "").split(",")
    wanted = [request.query.get("lang", ""), request.cookies.get("lang", ""), *asked]
    names = (tag.strip()[:2].lower() for tag in wanted)
    return next((name for name in names if name in LANGUAGES), "en")


async def serve_file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGES / request.path.lstrip("/"), headers={"Cache-Control": "no-cache"})


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
            f"img-src 'self' data: {broker}",  # if a CDN serves images of codes, add it here
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


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn aiohttp's error answers (404, 405, 413, …) into JSON answers of this site."""
    try:
        return await handler(request)
    except web.HTTPError as refusal:
        if refusal.content_type != "application/json":
            words = {"error": "invalid_request", "error_description": refusal.reason.lower()}
            refusal.text = json.dumps(words)
            refusal.content_type = "application/json"
        raise


def _read(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")
