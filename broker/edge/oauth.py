"""RFC 8628 over the same logins, for browsers and devices without a socket.

Stateless: any instance answers, so this is the fallback that needs no sticky
sessions.  `device_code` is `login_id.secret`, `user_code` is the scene.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from unicodedata import category, normalize
from urllib.parse import parse_qsl, quote

from aiohttp import hdrs, web

from broker.edge.addresses import Addresses
from broker.edge.gate import Gate, admitted
from broker.edge.pages import Page, language
from broker.edge.wire import (
    AppId,
    DeviceCode,
    Handler,
    Prepare,
    Request,
    Scene,
    Wire,
    failure,
    private,
    read,
    refusal,
    seconds_until,
    token_answer,
    whole_body,
)
from broker.engine import origin_of
from broker.errors import (
    BrokerError,
    InvalidRequest,
    NotConfirmed,
    RateLimited,
    Unavailable,
    UnknownLogin,
    UnknownScene,
    UnsupportedGrant,
)
from broker.flow import Flow, register_field
from broker.records import App, Apps
from broker.state import Clock

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
FORM = "application/x-www-form-urlencoded"

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


class DeviceAuthorization(Request):
    client_id: AppId


class TokenRequest(Request):
    grant_type: str
    client_id: AppId
    device_code: DeviceCode


class ShownCode(Request):
    user_code: Scene


class OAuthEdge:
    """public_url: the address that devices are sent to.  interval: seconds between polls."""

    def __init__(
        self,
        *,
        flow: Flow,
        apps: Apps,
        gate: Gate,
        addresses: Addresses,
        clock: Clock,
        public_url: str,
        interval: int,
        pictures_url: str,
    ) -> None:
        self._flow = flow
        self._apps = apps
        self._gate = gate
        self._addresses = addresses
        self._clock = clock
        self._verification_uri = f"{public_url}/device"
        self._interval = interval
        self._page = Page("device.html", images=pictures_url)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(ENDPOINTS["device_authorization_endpoint"], _with_oauth_failures(self._begin)),
            web.post(ENDPOINTS["token_endpoint"], _with_oauth_failures(self._redeem)),
            web.options("/oauth/{any}", _preflight),
            web.get("/device", self._show),
        ]

    async def _begin(self, request: web.Request) -> web.Response:
        asked = read(DeviceAuthorization, await _form(request))
        origin, browser = self._addresses.caller(request)
        app = await admitted(self._apps, asked.client_id, origin)
        self._gate.count_begin(browser.ip)
        begun = await self._flow.begin(app.id, browser, waits_here=False)
        scene = begun.login.scene
        return private(
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
        form = await _form(request)
        if form.get("grant_type", DEVICE_GRANT) != DEVICE_GRANT:
            raise UnsupportedGrant
        asked = read(TokenRequest, form)
        origin, browser = self._addresses.caller(request)
        app = await admitted(self._apps, asked.client_id, origin)
        with self._gate.counting_failures(browser.ip):
            return private(await self._token(asked.device_code, app))

    async def _token(self, device_code: str, app: App) -> Wire:
        login_id, dot, secret = device_code.partition(".")
        if not (dot and device_code.isascii()):
            raise UnknownLogin("the device_code is none of ours")
        try:
            return token_answer(await self._flow.redeem(login_id, secret, app=app.id))
        except NotConfirmed:
            self._gate.count_poll(login_id)
            raise NotConfirmed(**await self._progress(login_id, app)) from None

    async def _progress(self, login_id: str, app: App) -> dict[str, str | int]:
        """How far the phone is: what a browser on a socket hears by push."""
        login = await self._flow.look(login_id)
        if login is None:
            return {}
        if login.unregistered:
            left = seconds_until(login.expires_at, self._clock())
            return {"state": "unregistered", "expires_in": left, **register_field(app)}
        return {"state": login.state}

    async def _show(self, request: web.Request) -> web.Response:
        """The code of a device as a page, for the person who sits before the device."""
        words = WORDS[language(request)]
        if "user_code" not in request.query:
            return self._render(words, "ask", words["ask"])
        # Not counted as guesses: any page could let its visitors make them, by an image's address.
        for scene in _typed_scenes(request.query["user_code"]):
            try:
                asked = read(ShownCode, {"user_code": scene})
                picture = await self._flow.code_url(asked.user_code)
            except (InvalidRequest, UnknownScene):
                continue
            except (RateLimited, Unavailable) as error:
                return self._render_busy(words, failure(error))
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
        return self._page.show(shown, status=status)


WORDS: Mapping[str, Mapping[str, str]] = {
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
            return refusal(failure(error), status=status, scheme=AUTH_SCHEME)

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


async def _form(request: web.Request) -> dict[str, str]:
    """The form's fields; RFC 6749, 3.1: none may come twice."""
    if request.content_type != FORM:
        raise InvalidRequest(f"want a body of {FORM}")
    try:
        pairs = parse_qsl((await whole_body(request)).decode(), True, max_num_fields=32)
    except ValueError:
        raise InvalidRequest("the body is no form in UTF-8") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise InvalidRequest("a field stands twice")
    return fields


def pages_may_ask(apps: Apps) -> Prepare:
    """Let pages of allowed origins read the answers under /oauth (CORS, without cookies)."""

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        origin = origin_of(request.headers)
        if origin and "/oauth/" in request.path and origin in apps.origins():
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.VARY] = hdrs.ORIGIN

    return prepare


async def _preflight(request: web.Request) -> web.Response:
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: "POST",
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "content-type",
        hdrs.ACCESS_CONTROL_MAX_AGE: "600",
    }
    return web.Response(status=204, headers=headers)
