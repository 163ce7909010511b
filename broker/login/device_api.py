"""The device flow, RFC 8628, for browsers and devices without a socket.

It is stateless: any instance can answer any request, so it needs no sticky sessions.
`device_code` is `login_id.secret`. `user_code` is a short code that leads to the login.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NotRequired, Protocol

from pydantic import StringConstraints

from broker.apps.client_authentication import CLIENT, OAUTH_ERRORS, Client, ClientFields
from broker.apps.model import App
from broker.apps.rules import parse_scope
from broker.errors import InvalidRequest
from broker.infrastructure.api.endpoint import FORM, Endpoint
from broker.infrastructure.api.mounted import TokenGrant
from broker.infrastructure.api.schema import (
    Count,
    MatchField,
    RequestIdField,
    RequestModel,
    ResponseModel,
    parse,
)
from broker.infrastructure.clock import Clock, seconds_until
from broker.login.browser_fields import (
    BrowserApp,
    ScannerProfiles,
    app_fields,
    link_fields,
    match_fields,
    register_url_field,
)
from broker.login.delivery import (
    DEVICE_AUTHORIZATION_PATH,
    DEVICE_GRANT,
    RedeemedLogin,
    Redeemer,
    token_response,
)
from broker.login.device_codes import DeviceCodes
from broker.login.errors import NetworkNotAllowed, NotAllowed, NotConfirmed, UnknownLogin
from broker.login.limits import LoginLimits
from broker.login.model import Browser
from broker.login.service import Handshake, LoginService

DeviceCodeField = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class DeviceAuthorizationRequest(ClientFields):
    """request: the authorization request that the login is for.

    scope: what the app wants to know, such as `openid profile`.
    """

    request: RequestIdField = ""
    scope: str | None = None


class DeviceAuthorizationResponse(ResponseModel):
    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: Count
    interval: Count
    login_id: str
    scene: str
    code_url: str
    open_url: NotRequired[str]
    app: BrowserApp


class DeviceTokenRequest(RequestModel):
    """match: the digits that the person typed, for a login with a match by code."""

    device_code: DeviceCodeField
    match: MatchField | None = None


class OpenIDTokens(Protocol):
    """The tokens of a login whose scope has `openid`."""

    async def issue(self, redeemed: RedeemedLogin, client: Client) -> Mapping[str, object]:
        """Return the answer of the token endpoint, the same for a repeat."""


class LoginDeviceAPI:
    """Begins and redeems logins for devices.

    verification_uri: the page to which devices send people.
    interval: seconds between two polls.
    openid_tokens: makes the tokens of a login whose scope has `openid`; None if the broker is
        not an OpenID Connect provider.
    """

    def __init__(
        self,
        *,
        login_service: LoginService,
        redeemer: Redeemer,
        limits: LoginLimits,
        clock: Clock,
        verification_uri: str,
        device_codes: DeviceCodes,
        scanner_profiles: ScannerProfiles,
        interval: int,
        openid_tokens: OpenIDTokens | None,
    ) -> None:
        self._login_service = login_service
        self._redeemer = redeemer
        self._limits = limits
        self._clock = clock
        self._verification_uri = verification_uri
        self._device_codes = device_codes
        self._scanner_profiles = scanner_profiles
        self._interval = interval
        self._openid_tokens = openid_tokens

    async def begin(
        self, client: Client, body: DeviceAuthorizationRequest
    ) -> DeviceAuthorizationResponse:
        caller = client.caller
        self._limits.count_begin(caller.ip)
        browser = Browser(caller.ip, caller.user_agent)
        scope = None if body.scope is None else parse_scope(body.scope, client.app)
        if scope and "openid" in scope:
            if self._openid_tokens is None:
                raise InvalidRequest("scope: the broker is not an OpenID Connect provider")
            client.require_authentication()
        new = await self._login_service.begin(
            client.app.id,
            browser,
            has_socket=False,
            request=body.request,
            scope=scope,
            handshake=Handshake(caller.origin or ""),
        )
        user_code = await self._device_codes.issue(new.login)
        link = link_fields(user_code, self._verification_uri)
        response: DeviceAuthorizationResponse = {
            "device_code": f"{new.login.id}.{new.secret}",
            "user_code": link["user_code"],
            "verification_uri": link["verification_uri"],
            "verification_uri_complete": link["verification_uri_complete"],
            "expires_in": seconds_until(new.login.expires_at, self._clock()),
            "interval": self._interval,
            "login_id": new.login.id,
            "scene": new.login.scene,
            "code_url": new.code_url,
            "app": app_fields(new.app),
        }
        if new.open_url:
            response["open_url"] = new.open_url
        return response

    def grant(self) -> TokenGrant:
        """Return the grant of the token endpoint."""
        return TokenGrant(DEVICE_GRANT, self.redeem)

    async def redeem(self, client: Client, form: Mapping[str, object]) -> Mapping[str, object]:
        """Return the tokens of a confirmed login.

        Raises InvalidRequest or LoginError; NotConfirmed has the progress of the phone.
        """
        body = parse(DeviceTokenRequest, form)
        login_id, secret = split_device_code(body.device_code)
        has_proved = body.match is not None and await self._prove(
            login_id, secret, body.match, client.app
        )
        try:
            redeemed = await self._redeemer.redeem(login_id, secret, app=client.app.id)
        except NotConfirmed:
            if not has_proved:  # wrong answers have their own limit
                self._limits.count_poll(login_id)
            raise NotConfirmed(**await self._progress(login_id, client.app)) from None
        if self._openid_tokens and "openid" in (redeemed.login.scope or ()):
            return await self._openid_tokens.issue(redeemed, client)
        return token_response(redeemed)

    async def _prove(self, login_id: str, secret: str, answer: str, app: App) -> bool:
        """Send the digits of the phone. Returns False if the phone shows none yet."""
        try:
            await self._login_service.prove(login_id, secret, answer, app=app.id)
        except NotAllowed:
            return False
        return True

    async def _progress(self, login_id: str, app: App) -> dict[str, object]:
        """Return what a browser on a socket would get as a push: the progress of the phone."""
        login = await self._login_service.get(login_id)
        if login is None:
            return {}
        shown = {**match_fields(login), **await self._scanner_profiles.fields(login)}
        if login.unregistered:
            left = seconds_until(login.expires_at, self._clock())
            return {"state": "unregistered", "expires_in": left, **register_url_field(app), **shown}
        return {"state": login.state, **shown}


def split_device_code(device_code: str) -> tuple[str, str]:
    """Return the login's id and secret.  Raises UnknownLogin."""
    login_id, dot, secret = device_code.partition(".")
    if not (dot and device_code.isascii()):
        raise UnknownLogin("no login has this device_code")
    return login_id, secret


ENDPOINTS = [
    Endpoint(
        "POST",
        DEVICE_AUTHORIZATION_PATH,
        LoginDeviceAPI.begin,
        role="oauth",
        auth=CLIENT,
        operation_id="beginLogin",
        summary="Begin a login (RFC 8628)",
        request=DeviceAuthorizationRequest,
        request_in=FORM,
        response=DeviceAuthorizationResponse,
        errors=(NetworkNotAllowed,),
        error_style=OAUTH_ERRORS,
    ),
]
