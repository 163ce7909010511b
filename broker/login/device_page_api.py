"""The page at which a person enters a device's `user_code` and scans its code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from unicodedata import category, normalize

from aiohttp import hdrs, web

from broker.errors import BrokerError, InvalidRequest, RateLimited, Unavailable
from broker.infrastructure.api.endpoint import QUERY, Endpoint
from broker.infrastructure.api.errors import to_broker_error
from broker.infrastructure.api.pages import HTMLPage, preferred_language
from broker.infrastructure.api.schema import RequestModel, SceneField, parse
from broker.login.errors import UnknownScene
from broker.login.service import LoginService

PAGE = Path(__file__).parent / "static" / "device.html"

DEVICE_PAGE_PATH = "/device"


class DevicePageQuery(RequestModel):
    """The `user_code` that a person typed or pasted."""

    user_code: str = ""


class TypedCode(RequestModel):
    """One reading of a typed `user_code`."""

    scene: SceneField


class DevicePageAPI:
    """Shows the codes of devices.  pictures_url: the CSP source of pictures of codes."""

    def __init__(self, *, login_service: LoginService, pictures_url: str) -> None:
        self._login_service = login_service
        self._page = HTMLPage(PAGE, image_source=pictures_url)

    async def show(self, http: web.Request, query: DevicePageQuery) -> web.Response:
        """Show the code of a device, or a form for the `user_code` that the device shows."""
        words = PAGE_TEXTS[preferred_language(http)]
        if "user_code" not in http.query:
            return self._render(words, "ask", words["ask"])
        # Not counted as failed attempts: any page could cause them by an image URL.
        for scene in _typed_scenes(query.user_code):
            try:
                typed = parse(TypedCode, {"scene": scene})
                code = await self._login_service.code(typed.scene)
            except (InvalidRequest, UnknownScene):
                continue
            except (RateLimited, Unavailable) as error:
                return self._render_busy(words, to_broker_error(error))
            return self._render(words, "code", words[code.match or "scan"], code.url)
        return self._render({**words, "typed": query.user_code}, "gone", words["gone"], status=404)

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
        "number": "Scan this code with your phone. Then choose on the phone the number that your "
        "device shows.",
        "code": "Scan this code with your phone and confirm. Then type the 4 digits of the phone "
        "on your device.",
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
        "number": "请用手机扫描二维码，然后在手机上选择设备显示的数字。",
        "code": "请用手机扫描二维码并确认登录，然后在设备上输入手机显示的 4 位数字。",
        "ask": "请输入设备上显示的代码。",
        "gone": "代码不存在或已过期，请检查代码，或在设备上重新获取。",
        "busy": "暂时无法显示二维码，请稍后刷新本页。",
        "label": "代码",
        "button": "显示二维码",
        "alt": "登录二维码，请用手机扫描",
    },
}


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


ENDPOINTS = [
    Endpoint(
        "GET",
        DEVICE_PAGE_PATH,
        DevicePageAPI.show,
        role="oauth",
        summary="The page that shows a device's code",
        request=DevicePageQuery,
        request_in=QUERY,
        response="text/html",
        errors=(RateLimited,),
        not_found_type="text/html",
    ),
]
