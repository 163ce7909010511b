"""The routes of the sign-in with OpenID Connect."""

import logging

from aiohttp import web

from .oidc import ATTEMPT_LIFETIME, OIDCClient, SignInFailed, read_logout_token
from .responses import Route, fail
from .sessions import Session
from .templates import PageTemplates
from .visitors import Visitors, ends_at

BROWSER_COOKIE = "oidc"
BACKCHANNEL_PATH = "/oidc/backchannel-logout"

log = logging.getLogger(__name__)


class OIDCRoutes:
    def __init__(self, *, client: OIDCClient, visitors: Visitors, pages: PageTemplates) -> None:
        self._client = client
        self._visitors = visitors
        self._pages = pages

    def routes(self) -> list[Route]:
        return [
            ("GET", "/oidc/sign-in", self.sign_in),
            ("GET", "/oidc/callback", self.callback),
            ("POST", BACKCHANNEL_PATH, self.backchannel_logout),
        ]

    async def sign_in(self, request: web.Request) -> web.Response:
        try:
            url, browser = await self._client.begin()
        except SignInFailed as error:
            fail(web.HTTPServiceUnavailable, "temporarily_unavailable", str(error))
        response = web.Response(status=303, headers={"Location": url})
        self._visitors.set_cookie(request, response, BROWSER_COOKIE, browser, ATTEMPT_LIFETIME)
        return response

    async def callback(self, request: web.Request) -> web.Response:
        browser = request.cookies.get(BROWSER_COOKIE, "")
        try:
            user = await self._client.finish(dict(request.query), browser)
        except SignInFailed as error:
            log.warning("sign-in failed: error=%s", error)
            is_cancelled = request.query.get("error") == "access_denied"
            problem = "oidc_cancelled" if is_cancelled else "oidc_failed"
            return self._pages.render(request, "login_oidc", problem=problem)
        response = web.Response(status=303, headers={"Location": "/account"})
        self._visitors.open_session(
            request, response, Session(user.claims, ends_at(), user.id_token)
        )
        response.del_cookie(BROWSER_COOKIE)
        return response

    async def backchannel_logout(self, request: web.Request) -> web.Response:
        """End the sessions that the provider has ended (OpenID Connect Back-Channel Logout)."""
        try:
            sid = await self._client.ended_session(await read_logout_token(request))
        except SignInFailed as error:
            fail(web.HTTPBadRequest, "invalid_request", str(error))
        self._visitors.sessions.close_sid(sid)
        return web.Response(status=204)

    async def logout_url(self, id_token: str) -> str:
        """Return where the browser signs out at the provider too; the start page if it is down."""
        try:
            return await self._client.logout_url(id_token)
        except SignInFailed as error:
            log.warning("sign-out at the provider failed: error=%s", error)
            return "/"
