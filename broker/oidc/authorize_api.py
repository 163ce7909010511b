"""The authorization endpoint: `GET` and `POST /oauth/authorize`."""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import urlencode

from aiohttp import web

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import BrokerError, InvalidRequest, RateLimited
from broker.infrastructure.api.bodies import read_form
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.errors import to_broker_error
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.clock import Clock
from broker.infrastructure.runtime.drain import DrainGate
from broker.oidc.authorization import AuthorizationService
from broker.oidc.authorization_errors import InvalidRequestUri, LoginRequired
from broker.oidc.browser_sign_ins import BrowserSignIns
from broker.oidc.cookies import REQUEST_LIFETIME, ProviderCookies
from broker.oidc.model import AuthorizationRequest, SignIn, hash_secret
from broker.oidc.pages import PAGE_STATUSES, ProviderPages
from broker.oidc.paths import AUTHORIZATION_PATH
from broker.oidc.ports import AuthorizationRequests
from broker.oidc.redirects import AppRedirects, redirect
from broker.oidc.requests import (
    Destination,
    Fields,
    ParsedRequest,
    find_destination,
    parse_request,
)
from broker.tokens.issuer import TokenIssuer

REQUEST_URI_PREFIX = "urn:ietf:params:oauth:request_uri:"
"""RFC 9126, section 2.2."""

PUSHED_LIFETIME = 60
"""Seconds until the browser must come with a pushed request."""


class RequestFactory:
    """Makes the records of authorization requests from checked fields."""

    def __init__(self, *, issuer: TokenIssuer, clock: Clock) -> None:
        self._issuer = issuer
        self._clock = clock

    def create(
        self, parsed: ParsedRequest, app: App, *, lifetime: float, cookie: str | None
    ) -> AuthorizationRequest:
        """Return a new request. cookie: of the browser that it is bound to; None for PAR.

        Raises InvalidRequest if the hint is not an ID token of this provider.
        """
        now = self._clock()
        destination = parsed.destination
        return AuthorizationRequest(
            id=secrets.token_urlsafe(32),
            app=app.id,
            incarnation=app.incarnation,
            redirect_uri=destination.redirect_uri,
            response_mode=destination.response_mode,
            state=destination.state,
            scope=parsed.scope,
            nonce=parsed.nonce,
            code_challenge=parsed.code_challenge,
            claims=parsed.claims,
            prompt=parsed.prompt,
            max_age=parsed.max_age,
            hint_subject=self._hint_subject(parsed.id_token_hint),
            login_hint=parsed.login_hint,
            match=parsed.match,
            language=destination.language,
            began_at=now,
            expires_at=now + lifetime,
            cookie_hash=None if cookie is None else hash_secret(cookie),
        )

    def _hint_subject(self, hint: str | None) -> str | None:
        if hint is None:
            return None
        claims = self._issuer.verify_id_token_hint(hint)
        if claims is None:
            raise InvalidRequest("id_token_hint: not an ID token of this provider")
        return str(claims["sub"])


class AuthorizeAPI:
    """Begins requests, and completes those of browsers that are signed in.

    begins: limits the stored requests of an address, and the codes of a sign-in session.
    public_url: of the broker.
    """

    def __init__(
        self,
        *,
        apps: Apps,
        requests: AuthorizationRequests,
        factory: RequestFactory,
        service: AuthorizationService,
        sign_ins: BrowserSignIns,
        cookies: ProviderCookies,
        pages: ProviderPages,
        redirects: AppRedirects,
        begins: RateLimiter,
        addresses: ClientAddresses,
        drain: DrainGate,
        clock: Clock,
        public_url: str,
    ) -> None:
        self._apps = apps
        self._requests = requests
        self._factory = factory
        self._service = service
        self._sign_ins = sign_ins
        self._cookies = cookies
        self._pages = pages
        self._redirects = redirects
        self._begins = begins
        self._addresses = addresses
        self._drain = drain
        self._clock = clock
        self._public_url = public_url

    async def get(self, http: web.Request) -> web.Response:
        return await self._answer(http, Fields(http.query.items()))

    async def post(self, http: web.Request) -> web.Response:
        """Store the request and redirect: a Lax cookie is not sent with another site's POST."""
        try:
            fields = Fields((await read_form(http)).items())
        except BrokerError as error:
            return self._pages.error(http, to_broker_error(error))
        return await self._answer(http, fields, is_post=True)

    async def _answer(
        self, http: web.Request, fields: Fields, *, is_post: bool = False
    ) -> web.Response:
        """Check the request.  Before the destination is known, an error is a page."""
        try:
            self._drain.check_open()
            app = self._require_app(fields)
            request_uri = fields.get("request_uri", "")
            if request_uri.startswith(REQUEST_URI_PREFIX):
                if is_post:
                    return self._redirect_to_pushed(app, request_uri)
                return await self._continue_pushed(http, app, request_uri)
            destination = find_destination(fields, app)
        except BrokerError as error:
            return self._pages.error(http, to_broker_error(error))
        try:
            parsed = parse_request(fields, app, destination)
            if is_post:
                return await self._push(http, app, parsed)
            return await self._continue(http, app, parsed)
        except RateLimited as error:  # not an error that RFC 6749 has for apps
            return self._pages.error(http, to_broker_error(error), destination.language)
        except BrokerError as error:
            return self._redirects.error(http, app, destination, to_broker_error(error))

    def _require_app(self, fields: Fields) -> App:
        app = self._apps.get(fields.get("client_id", ""))
        if app is None:
            raise InvalidRequest("client_id: no app has this id")
        return app

    async def _push(self, http: web.Request, app: App, parsed: ParsedRequest) -> web.Response:
        self._begins.count(self._addresses.of(http))
        request = self._factory.create(parsed, app, lifetime=PUSHED_LIFETIME, cookie=None)
        await self._requests.put(request)
        return self._redirect_to_pushed(app, REQUEST_URI_PREFIX + request.id)

    def _redirect_to_pushed(self, app: App, request_uri: str) -> web.Response:
        query = urlencode({"client_id": app.id, "request_uri": request_uri})
        return redirect(f"{self._public_url}{AUTHORIZATION_PATH}?{query}")

    async def _continue(self, http: web.Request, app: App, parsed: ParsedRequest) -> web.Response:
        cookie = self._cookies.new_request_cookie()
        request = self._factory.create(parsed, app, lifetime=REQUEST_LIFETIME, cookie=cookie)
        sign_in = await self._sign_in_of(http, app)
        answer = await self._complete_silently(http, app, request, sign_in, is_stored=False)
        if answer is not None:
            return answer
        self._begins.count(self._addresses.of(http))
        await self._requests.put(request)
        return self._login_page(http, app, request, cookie)

    async def _continue_pushed(self, http: web.Request, app: App, request_uri: str) -> web.Response:
        """Show the sign-in page of a pushed request, to the first browser that comes with it."""
        request, sign_in = await asyncio.gather(
            self._requests.get(request_uri.removeprefix(REQUEST_URI_PREFIX)),
            self._sign_in_of(http, app),
        )
        if request is None or (request.app, request.incarnation) != (app.id, app.incarnation):
            raise InvalidRequestUri
        try:
            answer = await self._complete_silently(http, app, request, sign_in, is_stored=True)
        except RateLimited:
            raise
        except BrokerError as error:
            destination = destination_of(request)
            return self._redirects.error(http, app, destination, to_broker_error(error))
        if answer is not None:
            return answer
        if request.completed_by:
            return self._pages.restart(http, app, request.language)
        if self._cookies.is_bound(http, request):  # the page is reloaded
            return self._login_page(http, app, request, None)
        cookie = self._cookies.new_request_cookie()
        expires_at = self._clock() + REQUEST_LIFETIME
        if not await self._requests.bind(request.id, hash_secret(cookie), expires_at):
            raise InvalidRequestUri
        return self._login_page(http, app, request, cookie)

    async def _sign_in_of(self, http: web.Request, app: App) -> SignIn | None:
        return await self._sign_ins.shared(self._cookies.sign_in(http), app)

    async def _complete_silently(
        self,
        http: web.Request,
        app: App,
        request: AuthorizationRequest,
        sign_in: SignIn | None,
        *,
        is_stored: bool,
    ) -> web.Response | None:
        """Return the answer for a browser that is signed in; None if a scan is necessary.

        Raises LoginRequired if a scan is necessary and `prompt=none` forbids it, and RateLimited
        for a session that gets too many codes.
        """
        issued = None
        if sign_in is not None:
            self._begins.count(sign_in.sid)
            issued = await self._service.complete_by_sign_in(
                request, app, sign_in, is_stored=is_stored
            )
        if issued is not None:
            return self._redirects.code(http, app, destination_of(request), issued.code)
        if request.prompt == "none":
            raise LoginRequired
        return None

    def _login_page(
        self, http: web.Request, app: App, request: AuthorizationRequest, cookie: str | None
    ) -> web.Response:
        """cookie: to set; None if the browser has it already."""
        response = self._pages.sign_in(http, request, app)
        if cookie is not None:
            self._cookies.set_request(http, response, request.id, cookie)
        return response


def destination_of(request: AuthorizationRequest) -> Destination:
    return Destination(request.redirect_uri, request.response_mode, request.state, request.language)


ENDPOINTS = [
    Endpoint(
        method,
        AUTHORIZATION_PATH,
        handler,
        role="oidc",
        operation_id=operation_id,
        summary="Show the sign-in page, or send the browser back to the app",
        response="text/html",
        status=status,
        page_statuses=PAGE_STATUSES,
        errors=(RateLimited,),
    )
    for method, operation_id, handler, status in (
        ("GET", "authorize", AuthorizeAPI.get, 200),
        ("POST", "authorizeByForm", AuthorizeAPI.post, 303),
    )
]
