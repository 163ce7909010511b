"""`POST /oauth/login`: the form of the sign-in page."""

from __future__ import annotations

import asyncio

from aiohttp import web

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import BrokerError
from broker.infrastructure.api.bodies import read_form
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.errors import to_broker_error
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import (
    LoginIdField,
    RequestIdField,
    RequestModel,
    SecretField,
    parse,
)
from broker.infrastructure.fields import normalize_origin
from broker.infrastructure.transport.websocket.handshake import joined_header, origin_of
from broker.login.errors import (
    AlreadyRedeemed,
    LoginCancelled,
    LoginDenied,
    LoginExpired,
    UnknownLogin,
)
from broker.login.model import Browser, Login
from broker.oidc.authorization import AuthorizationService
from broker.oidc.authorization_errors import LoginRequired, OtherUser, RequestCancelled
from broker.oidc.authorize_api import destination_of
from broker.oidc.browser_sign_ins import BrowserSignIns
from broker.oidc.cookies import ProviderCookies
from broker.oidc.known_browsers import DEVICE_LIFETIME, KnownBrowserCookies
from broker.oidc.model import AuthorizationRequest, SignIn
from broker.oidc.pages import PAGE_STATUSES, ProviderPages
from broker.oidc.paths import LOGIN_PATH
from broker.oidc.ports import AuthorizationRequests
from broker.oidc.redirects import AppRedirects

RESTART = (AlreadyRedeemed, LoginCancelled, LoginDenied, LoginExpired, LoginRequired, UnknownLogin)
"""Errors of a login after which the user starts again at the site."""


class LoginForm(RequestModel):
    """The login of the page, or `cancel` to return to the app without one."""

    request: RequestIdField
    login_id: LoginIdField = "-"
    secret: SecretField = "-"  # noqa: S105
    cancel: str = ""


class LoginFormAPI:
    """Completes and cancels requests.

    known_browsers: makes device cookies; None if no login policy asks for them.
    public_url: of the broker; only its own pages may submit the form.
    """

    def __init__(
        self,
        *,
        apps: Apps,
        requests: AuthorizationRequests,
        service: AuthorizationService,
        sign_ins: BrowserSignIns,
        cookies: ProviderCookies,
        pages: ProviderPages,
        redirects: AppRedirects,
        failures: RateLimiter,
        addresses: ClientAddresses,
        known_browsers: KnownBrowserCookies | None,
        public_url: str,
    ) -> None:
        self._apps = apps
        self._requests = requests
        self._service = service
        self._sign_ins = sign_ins
        self._cookies = cookies
        self._pages = pages
        self._redirects = redirects
        self._failures = failures
        self._addresses = addresses
        self._known_browsers = known_browsers
        self._origin = normalize_origin(public_url)

    async def post(self, http: web.Request) -> web.Response:
        if not is_same_origin_form(http, self._origin):
            return self._pages.foreign(http)
        try:
            form = parse(LoginForm, await read_form(http))
            return await self._answer(http, form)
        except BrokerError as error:
            return self._pages.error(http, to_broker_error(error))

    async def _answer(self, http: web.Request, form: LoginForm) -> web.Response:
        request, login, signed_in = await asyncio.gather(
            self._requests.get(form.request),
            self._service.find_login(form.login_id),
            self._sign_ins.by_cookie(self._cookies.sign_in(http)),
        )
        app = None if request is None else self._apps.get(request.app)
        if request is None or app is None or app.incarnation != request.incarnation:
            return self._pages.restart(http, None)
        if not self._cookies.is_bound(http, request):
            return self._pages.foreign(http)
        if form.cancel:
            return await self._cancel(http, request, app)
        former = signed_in if app.sso else None
        return await self._complete(http, request, app, login, form.secret, former)

    async def _complete(
        self,
        http: web.Request,
        request: AuthorizationRequest,
        app: App,
        login: Login | None,
        secret: str,
        former: SignIn | None,
    ) -> web.Response:
        caller = self._addresses.caller(http)
        try:
            with self._failures.counting_failures(caller.ip):
                issued = await self._service.complete_by_login(
                    request,
                    app,
                    found=login,
                    secret=secret,
                    browser=Browser(caller.ip, caller.user_agent),
                    former=former,
                )
        except OtherUser as error:
            refusal = to_broker_error(error)
            return self._redirects.error(http, app, destination_of(request), refusal)
        except RESTART as error:
            to_broker_error(error)
            return self._pages.restart(http, app, request.language)
        response = self._redirects.code(http, app, destination_of(request), issued.code)
        if issued.cookie is not None:
            self._cookies.set_sign_in(response, issued.cookie)
        if self._known_browsers is not None and issued.scanned_by is not None:
            value = self._known_browsers.device_cookie(issued.scanned_by)
            self._cookies.set_device(response, value, DEVICE_LIFETIME)
        return response

    async def _cancel(
        self, http: web.Request, request: AuthorizationRequest, app: App
    ) -> web.Response:
        if not await self._requests.complete(request.id, "cancelled"):
            return self._pages.restart(http, app, request.language)
        response = self._redirects.error(http, app, destination_of(request), RequestCancelled())
        self._cookies.delete_request(response, request.id)
        return response


def is_same_origin_form(http: web.Request, origin: str) -> bool:
    """Return whether a form comes from the broker's own page.

    Fetch metadata is checked first: a browser that sends it may send `Origin: null` with a
    form of the same page, if a proxy has changed the Referrer-Policy. A request with one of
    these headers twice is foreign.
    """
    site = joined_header(http.headers, "Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        return False
    sent = origin_of(http.headers)
    return sent in (None, origin) or (sent == "null" and site == "same-origin")


ENDPOINTS = [
    Endpoint(
        "POST",
        LOGIN_PATH,
        LoginFormAPI.post,
        role="oidc",
        operation_id="submitLoginPage",
        summary="Complete or cancel the request of the sign-in page",
        response="text/html",
        status=303,
        page_statuses=PAGE_STATUSES,
    )
]
