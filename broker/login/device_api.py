"""The device flow, RFC 8628, for browsers and devices without a socket.

It is stateless: any instance can answer any request, so it needs no sticky sessions.
`device_code` is `login_id.secret`, `user_code` is the scene.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from unicodedata import category, normalize
from urllib.parse import quote

from aiohttp import hdrs, web
from pydantic import StringConstraints, model_validator

from broker.apps.errors import OriginNotAllowed, UnknownApp
from broker.apps.model import App
from broker.apps.origins import authorize_origin
from broker.apps.ports import Apps
from broker.errors import BrokerError, InvalidRequest, RateLimited, Unavailable
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.cors import preflight_response
from broker.infrastructure.api.endpoint import FORM, QUERY, Endpoint, ErrorStyle
from broker.infrastructure.api.errors import to_broker_error
from broker.infrastructure.api.pages import HTMLPage, preferred_language
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import (
    AppIdField,
    Count,
    RequestModel,
    ResponseModel,
    SceneField,
    parse,
)
from broker.infrastructure.clock import Clock, seconds_until
from broker.login.delivery import Redeemer, TokenResponse, token_response
from broker.login.errors import (
    AlreadyRedeemed,
    LoginCancelled,
    LoginDenied,
    LoginExpired,
    NotConfirmed,
    PolledTooFast,
    UnknownLogin,
    UnknownScene,
    UnsupportedGrantType,
)
from broker.login.limits import LoginLimits
from broker.login.model import Browser
from broker.login.service import LoginService, register_url_field

PAGE = Path(__file__).parent / "static" / "device.html"

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path

DEVICE_AUTHORIZATION_PATH = "/oauth/device_authorization"

AUTH_SCHEME = 'Basic realm="scan-login"'
"""RFC 6749, section 5.2; OAuth client libraries reject `Bearer` here."""

KEPT_STATUSES = frozenset({401, 429, 503})
"""`invalid_client`, and statuses that clients treat as temporary."""

DeviceCodeField = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class DeviceAuthorizationRequest(RequestModel):
    client_id: AppIdField


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


class DevicePageQuery(RequestModel):
    """The `user_code` that a person typed or pasted."""

    user_code: str = ""


class TypedCode(RequestModel):
    """One reading of a typed `user_code`."""

    scene: SceneField


class LoginDeviceAPI:
    """Begins and redeems logins for devices, and shows their codes on a page.

    public_url: the address to which devices send people.
    interval: seconds between two polls.
    pictures_url: the CSP source of pictures of codes.
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
        pictures_url: str,
    ) -> None:
        self._login_service = login_service
        self._redeemer = redeemer
        self._apps = apps
        self._limits = limits
        self._failures = failures
        self._addresses = addresses
        self._clock = clock
        self._verification_uri = f"{public_url}/device"
        self._interval = interval
        self._page = HTMLPage(PAGE, image_source=pictures_url)

    async def begin(
        self, http: web.Request, body: DeviceAuthorizationRequest
    ) -> DeviceAuthorizationResponse:
        caller = self._addresses.caller(http)
        app = await authorize_origin(self._apps, body.client_id, caller.origin)
        self._limits.count_begin(caller.ip)
        browser = Browser(caller.ip, caller.user_agent)
        new = await self._login_service.begin(app.id, browser, has_socket=False)
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

    async def show(self, http: web.Request, query: DevicePageQuery) -> web.Response:
        """Show the code of a device, or a form for the `user_code` that the device shows."""
        words = PAGE_TEXTS[preferred_language(http)]
        if "user_code" not in http.query:
            return self._render(words, "ask", words["ask"])
        # Not counted as failed attempts: any page could cause them by an image URL.
        for scene in _typed_scenes(query.user_code):
            try:
                code = parse(TypedCode, {"scene": scene})
                picture = await self._login_service.code_url(code.scene)
            except (InvalidRequest, UnknownScene):
                continue
            except (RateLimited, Unavailable) as error:
                return self._render_busy(words, to_broker_error(error))
            return self._render(words, "code", words["scan"], picture)
        return self._render({**words, "typed": query.user_code}, "gone", words["gone"], status=404)

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

    def _render_busy(self, words: Mapping[str, str], error: BrokerError) -> web.Response:
        response = self._render(words, "busy", words["busy"], status=error.status)
        if error.retry_after is not None:
            response.headers[hdrs.RETRY_AFTER] = str(error.retry_after)
        return response

    def _render(
        self,
        words: Mapping[str, str],
        view: str,
        sentence: str,
        picture: str = "data:,",
        status: int = 200,
    ) -> web.Response:
        values = {"typed": "", **words, "view": view, "sentence": sentence, "picture": picture}
        return self._page.render(values, status=status)


PAGE_TEXTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "lang": "en",
        "title": "Sign in on your device",
        "scan": "Scan this code with your phone and confirm. Your device continues by itself.",
        "ask": "Enter the code that your device shows.",
        "gone": "This code is unknown or has expired. Check it, or get a new one on your device.",
        "busy": "The code cannot be shown right now. Reload this page in a moment.",
        "label": "Code",
        "button": "Show the code to scan",
        "alt": "Code to scan with your phone",
    },
    "zh": {
        "lang": "zh-CN",
        "title": "在设备上登录",
        "scan": "请用手机扫描二维码并确认登录，设备会自动继续。",
        "ask": "请输入设备上显示的代码。",
        "gone": "代码不存在或已过期，请检查代码，或在设备上重新获取。",
        "busy": "暂时无法显示二维码，请稍后刷新本页。",
        "label": "代码",
        "button": "显示二维码",
        "alt": "登录二维码，请用手机扫描",
    },
}


def oauth_status(status: int) -> int:
    """Return the status of an error at the OAuth endpoints: 400, with few exceptions.

    RFC 6749, section 5.2, and RFC 8628, section 3.5.
    """
    return status if status in KEPT_STATUSES else 400


def _typed_scenes(text: str) -> Iterator[str]:
    """The scenes that a typed or pasted user_code may mean, the most likely first.

    Spaces and invisible characters are never part of a scene.  Hyphens may be, so they
    are removed second: a person may group a long code with them (RFC 8628, section 6.1).
    Full-width characters count as the ASCII ones, every dash as a hyphen.
    """
    scene = "".join(map(_typed_character, normalize("NFKC", text)))
    yield scene
    if "-" in scene:
        yield scene.replace("-", "")


def _typed_character(character: str) -> str:
    kind = category(character)
    if kind[0] in "CZ":  # control, format and space characters
        return ""
    return "-" if kind == "Pd" else character


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
    Endpoint(
        "GET",
        "/device",
        LoginDeviceAPI.show,
        role="oauth",
        summary="The page that shows a device's code",
        request=DevicePageQuery,
        request_in=QUERY,
        response="text/html",
        errors=(RateLimited,),
        not_found_type="text/html",
    ),
]
