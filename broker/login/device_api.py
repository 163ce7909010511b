"""The device flow, RFC 8628, for browsers and devices without a socket.

It is stateless: any instance can answer any request, so it needs no sticky sessions.
`device_code` is `login_id.secret`, `user_code` is the scene.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from aiohttp import web
from pydantic import StringConstraints, model_validator

from broker.apps.errors import OriginNotAllowed, UnknownApp
from broker.apps.model import App
from broker.apps.origins import authorize_origin
from broker.apps.ports import Apps
from broker.errors import RateLimited
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.cors import preflight_response
from broker.infrastructure.api.endpoint import FORM, Endpoint, ErrorStyle
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import (
    AppIdField,
    Count,
    RequestIdField,
    RequestModel,
    ResponseModel,
)
from broker.infrastructure.clock import Clock, seconds_until
from broker.login.delivery import Redeemer, TokenResponse, token_response
from broker.login.device_page_api import DEVICE_PAGE_PATH
from broker.login.errors import (
    AlreadyRedeemed,
    LoginCancelled,
    LoginDenied,
    LoginExpired,
    NotConfirmed,
    PolledTooFast,
    UnknownLogin,
    UnsupportedGrantType,
)
from broker.login.limits import LoginLimits
from broker.login.model import Browser
from broker.login.service import LoginService, register_url_field

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path

DEVICE_AUTHORIZATION_PATH = "/oauth/device_authorization"

AUTH_SCHEME = 'Basic realm="scan-login"'
"""RFC 6749, section 5.2; OAuth client libraries reject `Bearer` here."""

KEPT_STATUSES = frozenset({401, 429, 503})
"""`invalid_client`, and statuses that clients treat as temporary."""

DeviceCodeField = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class DeviceAuthorizationRequest(RequestModel):
    """request: the authorization request that the login is for."""

    client_id: AppIdField
    request: RequestIdField = ""


class DeviceAuthorizationResponse(ResponseModel):
    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: Count
    interval: Count
    login_id: str
    code_url: str


class TokenRequest(RequestModel):
    grant_type: str
    client_id: AppIdField
    device_code: DeviceCodeField

    @model_validator(mode="before")
    @classmethod
    def check_grant_type(cls, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raise UnsupportedGrantType first: other grants have other fields."""
        if fields.get("grant_type", DEVICE_GRANT) != DEVICE_GRANT:
            raise UnsupportedGrantType
        return fields


class LoginDeviceAPI:
    """Begins and redeems logins for devices.

    public_url: the address to which devices send people.
    interval: seconds between two polls.
    """

    def __init__(
        self,
        *,
        login_service: LoginService,
        redeemer: Redeemer,
        apps: Apps,
        limits: LoginLimits,
        failures: RateLimiter,
        addresses: ClientAddresses,
        clock: Clock,
        public_url: str,
        interval: int,
    ) -> None:
        self._login_service = login_service
        self._redeemer = redeemer
        self._apps = apps
        self._limits = limits
        self._failures = failures
        self._addresses = addresses
        self._clock = clock
        self._verification_uri = public_url + DEVICE_PAGE_PATH
        self._interval = interval

    async def begin(
        self, http: web.Request, body: DeviceAuthorizationRequest
    ) -> DeviceAuthorizationResponse:
        caller = self._addresses.caller(http)
        app = await authorize_origin(self._apps, body.client_id, caller.origin)
        self._limits.count_begin(caller.ip)
        browser = Browser(caller.ip, caller.user_agent)
        new = await self._login_service.begin(
            app.id, browser, has_socket=False, request=body.request
        )
        scene = new.login.scene
        return {
            "device_code": f"{new.login.id}.{new.secret}",
            "user_code": scene,
            "verification_uri": self._verification_uri,
            "verification_uri_complete": f"{self._verification_uri}?user_code={quote(scene)}",
            "expires_in": seconds_until(new.login.expires_at, self._clock()),
            "interval": self._interval,
            "login_id": new.login.id,
            "code_url": new.code_url,
        }

    async def redeem(self, http: web.Request, body: TokenRequest) -> TokenResponse:
        caller = self._addresses.caller(http)
        app = await authorize_origin(self._apps, body.client_id, caller.origin)
        with self._failures.counting_failures(caller.ip):
            return await self._token(body.device_code, app)

    async def preflight(self, http: web.Request, *, any: str) -> web.Response:
        return preflight_response("POST")

    async def _token(self, device_code: str, app: App) -> TokenResponse:
        login_id, dot, secret = device_code.partition(".")
        if not (dot and device_code.isascii()):
            raise UnknownLogin("no login has this device_code")
        try:
            return token_response(await self._redeemer.redeem(login_id, secret, app=app.id))
        except NotConfirmed:
            self._limits.count_poll(login_id)
            raise NotConfirmed(**await self._progress(login_id, app)) from None

    async def _progress(self, login_id: str, app: App) -> dict[str, str | int]:
        """Return what a browser on a socket would get as a push: the progress of the phone."""
        login = await self._login_service.get(login_id)
        if login is None:
            return {}
        if login.unregistered:
            left = seconds_until(login.expires_at, self._clock())
            return {"state": "unregistered", "expires_in": left, **register_url_field(app)}
        return {"state": login.state}


def oauth_status(status: int) -> int:
    """Return the status of an error at the OAuth endpoints: 400, with few exceptions.

    RFC 6749, section 5.2, and RFC 8628, section 3.5.
    """
    return status if status in KEPT_STATUSES else 400


OAUTH_ERRORS = ErrorStyle(oauth_status, AUTH_SCHEME)

ENDPOINTS = [
    Endpoint(
        "POST",
        DEVICE_AUTHORIZATION_PATH,
        LoginDeviceAPI.begin,
        role="oauth",
        summary="Begin a login (RFC 8628)",
        request=DeviceAuthorizationRequest,
        request_in=FORM,
        response=DeviceAuthorizationResponse,
        errors=(UnknownApp, OriginNotAllowed, RateLimited),
        error_style=OAUTH_ERRORS,
    ),
    Endpoint(
        "POST",
        TOKEN_PATH,
        LoginDeviceAPI.redeem,
        role="oauth",
        summary="Get the token, or the progress of the login (RFC 8628)",
        request=TokenRequest,
        request_in=FORM,
        response=TokenResponse,
        errors=(
            UnknownApp,
            OriginNotAllowed,
            UnsupportedGrantType,
            UnknownLogin,
            AlreadyRedeemed,
            LoginCancelled,
            NotConfirmed,
            PolledTooFast,
            LoginDenied,
            LoginExpired,
            RateLimited,
        ),
        error_style=OAUTH_ERRORS,
    ),
    Endpoint(
        "OPTIONS",
        "/oauth/{any}",
        LoginDeviceAPI.preflight,
        role="oauth",
        summary="Allow pages of other origins (CORS)",
    ),
]
