"""RFC 8628 over the same logins, for browsers and devices without a socket.

Stateless: any instance answers, so this is the fallback that needs no sticky
sessions.  `device_code` is `login_id.secret`, `user_code` is the scene.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated
from unicodedata import category, normalize
from urllib.parse import quote

from aiohttp import hdrs, web
from pydantic import StringConstraints

from broker.apps.model import App
from broker.apps.origins import authorize_origin
from broker.apps.ports import Apps
from broker.errors import BrokerError, InvalidRequest, RateLimited, Unavailable
from broker.infrastructure.api.bodies import read_form
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.cors import preflight
from broker.infrastructure.api.errors import to_broker_error
from broker.infrastructure.api.pages import HTMLPage, preferred_language
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.responses import Handler, Payload, error_response, no_store_response
from broker.infrastructure.api.schema import AppIdField, RequestModel, SceneField, parse
from broker.infrastructure.clock import Clock, seconds_until
from broker.login.delivery import Redeemer, token_response
from broker.login.errors import NotConfirmed, UnknownLogin, UnknownScene, UnsupportedGrantType
from broker.login.limits import LoginLimits
from broker.login.model import Browser
from broker.login.service import LoginService, register_url_field

PAGE = Path(__file__).parent / "static" / "device.html"

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

ENDPOINTS: Mapping[str, str] = {
    "token_endpoint": "/oauth/token",
    "device_authorization_endpoint": "/oauth/device_authorization",
}
"""Paths by their names in RFC 8414 and RFC 8628."""

AUTH_METHODS = ("none",)
"""How clients authenticate at the token endpoint, in RFC 8414's words."""

AUTH_SCHEME = 'Basic realm="scan-login"'
"""RFC 6749, section 5.2; OAuth client libraries reject `Bearer` here."""

KEPT_STATUSES = frozenset({401, 429, 503})
"""`invalid_client`, and statuses that clients treat as temporary."""


class DeviceAuthorizationRequest(RequestModel):
    client_id: AppIdField


class TokenRequest(RequestModel):
    grant_type: str
    client_id: AppIdField
    device_code: DeviceCodeField


class DevicePageQuery(RequestModel):
    user_code: SceneField


class LoginDeviceAPI:
    """public_url: the address that devices are sent to.  interval: seconds between polls."""

    def __init__(
        self,
        *,
        flow: LoginService,
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
        self._flow = flow
        self._redeemer = redeemer
        self._apps = apps
        self._limits = limits
        self._failures = failures
        self._addresses = addresses
        self._clock = clock
        self._verification_uri = f"{public_url}/device"
        self._interval = interval
        self._page = HTMLPage(PAGE, image_source=pictures_url)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(ENDPOINTS["device_authorization_endpoint"], _with_oauth_failures(self._begin)),
            web.post(ENDPOINTS["token_endpoint"], _with_oauth_failures(self._redeem)),
            web.options("/oauth/{any}", preflight),
            web.get("/device", self._show),
        ]

    async def _begin(self, request: web.Request) -> web.Response:
        asked = parse(DeviceAuthorizationRequest, await read_form(request))
        caller = self._addresses.caller(request)
        app = await authorize_origin(self._apps, asked.client_id, caller.origin)
        self._limits.count_begin(caller.ip)
        browser = Browser(caller.ip, caller.user_agent)
        begun = await self._flow.begin(app.id, browser, has_socket=False)
        scene = begun.login.scene
        return no_store_response(
            {
                "device_code": f"{begun.login.id}.{begun.secret}",
                "user_code": scene,
                "verification_uri": self._verification_uri,
                "verification_uri_complete": f"{self._verification_uri}?user_code={quote(scene)}",
                "expires_in": seconds_until(begun.login.expires_at, self._clock()),
                "interval": self._interval,
                "login_id": begun.login.id,
                "code_url": begun.code_url,
            }
        )

    async def _redeem(self, request: web.Request) -> web.Response:
        form = await read_form(request)
        if form.get("grant_type", DEVICE_GRANT) != DEVICE_GRANT:
            raise UnsupportedGrantType
        asked = parse(TokenRequest, form)
        caller = self._addresses.caller(request)
        app = await authorize_origin(self._apps, asked.client_id, caller.origin)
        with self._failures.counting_failures(caller.ip):
            return no_store_response(await self._token(asked.device_code, app))

    async def _token(self, device_code: str, app: App) -> Payload:
        login_id, dot, secret = device_code.partition(".")
        if not (dot and device_code.isascii()):
            raise UnknownLogin("the device_code is none of ours")
        try:
            return token_response(await self._redeemer.redeem(login_id, secret, app=app.id))
        except NotConfirmed:
            self._limits.count_poll(login_id)
            raise NotConfirmed(**await self._progress(login_id, app)) from None

    async def _progress(self, login_id: str, app: App) -> dict[str, str | int]:
        """How far the phone is: what a browser on a socket hears by push."""
        login = await self._flow.get(login_id)
        if login is None:
            return {}
        if login.unregistered:
            left = seconds_until(login.expires_at, self._clock())
            return {"state": "unregistered", "expires_in": left, **register_url_field(app)}
        return {"state": login.state}

    async def _show(self, request: web.Request) -> web.Response:
        """The code of a device as a page, for the person who sits before the device."""
        words = PAGE_TEXTS[preferred_language(request)]
        if "user_code" not in request.query:
            return self._render(words, "ask", words["ask"])
        # Not counted as guesses: any page could let its visitors make them, by an image's address.
        for scene in _typed_scenes(request.query["user_code"]):
            try:
                asked = parse(DevicePageQuery, {"user_code": scene})
                picture = await self._flow.code_url(asked.user_code)
            except (InvalidRequest, UnknownScene):
                continue
            except (RateLimited, Unavailable) as error:
                return self._render_busy(words, to_broker_error(error))
            return self._render(words, "code", words["scan"], picture)
        typed = request.query["user_code"]
        return self._render({**words, "typed": typed}, "gone", words["gone"], status=404)

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
        shown = {"typed": "", **words, "view": view, "sentence": sentence, "picture": picture}
        return self._page.render(shown, status=status)


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
    """The status of a failure at the OAuth endpoints: 400, with few exceptions.

    RFC 6749, section 5.2, and RFC 8628, section 3.5.
    """
    return status if status in KEPT_STATUSES else 400


def _with_oauth_failures(handler: Handler) -> Handler:
    """Answer failures with the statuses and the scheme of OAuth."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except BrokerError as error:
            status = oauth_status(error.status)
            return error_response(to_broker_error(error), status=status, scheme=AUTH_SCHEME)

    return handle


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


DeviceCodeField = Annotated[str, StringConstraints(min_length=1, max_length=256)]
