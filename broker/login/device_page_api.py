"""The page at which a person types a device's `user_code`, and scans or opens its login."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aiohttp import hdrs, web

from broker.errors import BrokerError, RateLimited, Unavailable
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import QUERY, Endpoint
from broker.infrastructure.api.errors import to_broker_error
from broker.infrastructure.api.pages import HTMLPage, SafeHTML, escape, preferred_language
from broker.infrastructure.api.schema import RequestModel
from broker.infrastructure.fields import is_web_url
from broker.login.device_codes import DeviceCodes, TypedLogin
from broker.login.device_page_texts import PAGE_TEXTS, PHONE_APPS, Texts
from broker.login.errors import UnknownScene
from broker.login.model import State

PAGE = Path(__file__).parent / "static" / "device.html"

DEVICE_PAGE_PATH = "/device"

REFRESH_INTERVAL = 4
"""Seconds after which the page of a login in progress loads again, without a script."""

VIEWS: Mapping[State, str] = {
    State.PENDING: "code",
    State.SCANNED: "scanned",
    State.CONFIRMED: "done",
    State.REDEEMED: "done",
    State.DENIED: "denied",
    State.EXPIRED: "gone",
    State.CANCELLED: "gone",
}

REFRESHED_VIEWS = frozenset({"code", "open", "scanned", "unregistered"})

MATCH_SENTENCES: Mapping[str, str] = {"number": "number", "code": "digits"}
"""The last step of a login that needs a match."""


class DevicePageQuery(RequestModel):
    """The `user_code` that a person typed or pasted."""

    user_code: str = ""


class DevicePageAPI:
    """Shows the logins of devices.

    The page of a login in progress loads itself again until the login has ended. On a phone it
    continues to the phone app.

    pictures_url: the CSP source of pictures of codes.
    """

    def __init__(
        self, *, device_codes: DeviceCodes, addresses: ClientAddresses, pictures_url: str
    ) -> None:
        self._device_codes = device_codes
        self._addresses = addresses
        self._page = HTMLPage(PAGE, image_source=pictures_url)

    async def show(self, http: web.Request, query: DevicePageQuery) -> web.Response:
        """Show the login of a `user_code`, or a form for the code that the device shows."""
        texts = PAGE_TEXTS[preferred_language(http)]
        if "user_code" not in http.query:
            return self._render(texts, "ask")
        typed = {**texts, "typed": query.user_code}
        if _is_from_another_site(http):
            return self._render(typed, "check")
        try:
            login = await self._device_codes.find(query.user_code, address=self._addresses.of(http))
        except UnknownScene as error:
            return self._render(typed, "gone", status=to_broker_error(error).status)
        except (RateLimited, Unavailable) as error:
            return self._render_busy(typed, to_broker_error(error))
        return self._show_login(http, typed, login)

    def _show_login(self, http: web.Request, texts: Texts, login: TypedLogin) -> web.Response:
        if login.is_unregistered:
            url = login.register_url or ""
            return self._render({**texts, "register_url": url}, "unregistered")
        view = VIEWS[login.state]
        if view != "code":
            return self._render(texts, view)
        is_phone = _is_phone(http)
        if is_phone and is_web_url(login.open_url or ""):
            raise web.HTTPSeeOther(login.open_url or "", headers=NO_STORE)
        if is_phone and login.open_url:
            view = "open"
        values = {
            "steps": _steps(texts, login),
            "picture": login.code_url,
            "open_url": login.open_url or "",
        }
        return self._render({**texts, **values}, view)

    def _render_busy(self, texts: Texts, error: BrokerError) -> web.Response:
        response = self._render(texts, "busy", status=error.status)
        if error.retry_after is not None:
            response.headers[hdrs.RETRY_AFTER] = str(error.retry_after)
        return response

    def _render(self, texts: Texts, view: str, status: int = 200) -> web.Response:
        values = {**EMPTY, **texts, "view": view, "sentence": texts[f"{view}_sentence"]}
        if view in REFRESHED_VIEWS:
            values["refresh"] = REFRESH
        return self._page.render(values, status=status)


NO_STORE = {hdrs.CACHE_CONTROL: "no-store", "Referrer-Policy": "no-referrer"}

REFRESH = SafeHTML(f'<meta http-equiv="refresh" content="{REFRESH_INTERVAL}">')

EMPTY: Mapping[str, str] = {
    "typed": "",
    "steps": "",
    "picture": "data:,",
    "open_url": "",
    "register_url": "",
    "refresh": "",
}
"""Values of the template that not every view has."""


def _steps(texts: Texts, login: TypedLogin) -> SafeHTML:
    """Return the steps on the phone as items of a list."""
    phone = PHONE_APPS[texts["lang"]].get(login.provider, texts["phone"])
    last = MATCH_SENTENCES.get(login.match or "", "confirm")
    steps = (texts["start"].format(phone=phone), texts["scan"], texts[last])
    return SafeHTML("".join(f"<li>{escape(step)}</li>" for step in steps))


def _is_from_another_site(http: web.Request) -> bool:
    """Return whether another site's page sends the browser here, or embeds this page.

    The person then has to continue (RFC 8628, section 5.4). The code is not looked up before, so
    that a site cannot use the guesses of its visitors up.
    """
    is_navigation = http.headers.get("Sec-Fetch-Dest", "document") == "document"
    return http.headers.get("Sec-Fetch-Site") == "cross-site" or not is_navigation


def _is_phone(http: web.Request) -> bool:
    is_mobile = http.headers.get("Sec-CH-UA-Mobile") == "?1"
    return is_mobile or "Mobi" in http.headers.get(hdrs.USER_AGENT, "")


ENDPOINTS = [
    Endpoint(
        "GET",
        DEVICE_PAGE_PATH,
        DevicePageAPI.show,
        role="oauth",
        operation_id="showDevicePage",
        summary="The page that shows a device's login",
        request=DevicePageQuery,
        request_in=QUERY,
        response="text/html",
        errors=(RateLimited,),
        not_found_type="text/html",
    ),
]
