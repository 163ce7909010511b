"""A browser without scripts, and the phone of its user, that sign in through the broker."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import NamedTuple, Protocol

import aiohttp
from yarl import URL

from tests.support.clients import PhoneClient
from tests.support.http_client import HTTPClient

FORM_HEADERS = {"Sec-Fetch-Site": "same-origin"}
"""Sent by a browser with a form of the same origin."""

AUTHORIZE, LOGIN = "/oauth/authorize", "/oauth/login"

_numbers = itertools.count(1)


def new_person() -> str:
    """Return the name of a person whom no relying party knows yet."""
    return f"p{os.getpid()}n{next(_numbers)}"


class Page(NamedTuple):
    """A page after all redirects. trail: the URLs on the way, the last one included."""

    status: int
    url: URL
    text: str
    headers: Mapping[str, str]
    trail: tuple[URL, ...]


class LoginPage(Protocol):
    """The parts of the broker's login page that a scan needs."""

    @property
    def url(self) -> URL: ...
    @property
    def text(self) -> str: ...


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.widget: dict[str, str] = {}
        self.action: str | None = None
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "scan-login":
            self.widget = values
        elif tag == "form" and self.action is None:
            self.action = values.get("action", "")
        elif tag == "input" and values.get("type") == "hidden":
            self.fields[values["name"]] = values.get("value", "")


def parse(text: str) -> _Tags:
    tags = _Tags()
    tags.feed(text)
    return tags


class ScanBrowser(HTTPClient):
    """Opens pages, keeps cookies and follows redirects. At the broker's login page, it scans.

    phones: the URL at which the phone reaches the broker, which may be another instance.
    secure: origins whose Secure cookies it sends although they are http.
    """

    def __init__(self, broker: str, *, phones: str = "", secure: tuple[str, ...] = ()) -> None:
        self._broker = broker
        self._phones = phones or broker
        jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=[URL(one) for one in secure])
        super().__init__(aiohttp.ClientSession(cookie_jar=jar))

    async def open(self, url: str | URL, **headers: str) -> Page:
        async with self.http.get(url, headers=headers) as response:
            return await _page(response)

    async def post(
        self, url: str | URL, fields: Mapping[str, str], *, follow: bool = True, **headers: str
    ) -> Page:
        async with self.http.post(
            url, data=fields, headers=headers, allow_redirects=follow
        ) as response:
            return await _page(response)

    async def submit(self, page: Page) -> Page:
        """Submit the first form of the page with its hidden fields."""
        form = parse(page.text)
        assert form.action is not None, page.text
        return await self.post(page.url.join(URL(form.action)), form.fields)

    async def sign_in(self, url: str | URL, person: str, *, phone_app: str = "default") -> Page:
        """Open `url`, scan the code of the broker's login page, and return to the app."""
        page = await self.open(url)
        assert parse(page.text).widget, f"no login page but {page.status} {page.url}: {page.text}"
        return await self.finish(page, person, phone_app=phone_app)

    async def redirect_of(self, url: str | URL) -> str:
        """Return where `url` redirects to, without opening it."""
        async with self.http.get(url, allow_redirects=False) as response:
            assert response.status == 303, await response.text()
            return response.headers["Location"]

    async def redirect_after_sign_in(
        self, url: str | URL, person: str, *, phone_app: str = "default"
    ) -> str:
        """Scan and confirm at the login page, and return where the browser is sent."""
        page = await self.open(url)
        answer = await self.submit_login(
            page, await self.confirmed(page, person, phone_app=phone_app), follow=False
        )
        assert answer.status == 303, answer.text
        return answer.headers["Location"]

    async def finish(self, page: Page, person: str, *, phone_app: str = "default") -> Page:
        """Scan and confirm the code of this login page and submit its form."""
        fields = await self.confirmed(page, person, phone_app=phone_app)
        answer = await self.submit_login(page, fields)
        is_form_post = answer.url.path.endswith(LOGIN) and answer.status == 200
        return await self.submit(answer) if is_form_post else answer

    async def cancel(self, page: Page) -> Page:
        """Press the button of the login page that returns to the app."""
        form = parse(page.text)
        action = page.url.join(URL(form.widget["action"]))
        fields = {"request": form.widget["request"], "cancel": "1"}
        return await self.post(
            action, fields, follow=True, Origin=str(page.url.origin()), **FORM_HEADERS
        )

    async def submit_login(
        self, page: Page, fields: Mapping[str, str], *, follow: bool = True
    ) -> Page:
        action = page.url.join(URL(parse(page.text).widget["action"]))
        return await self.post(
            action, fields, follow=follow, Origin=str(page.url.origin()), **FORM_HEADERS
        )

    async def confirmed(
        self, page: LoginPage, person: str, *, phone_app: str = "default"
    ) -> dict[str, str]:
        """Return the fields that the login page submits after the confirm."""
        scene, fields = await self.begin(page)
        async with PhoneClient(self._phones, person, app=phone_app) as phone:
            scanned = await phone.post("scan", {"scene": scene})
            assert scanned.status == 200, scanned.body
            confirmed = await phone.post("confirm", {"login_id": fields["login_id"]})
            assert confirmed.status == 200, confirmed.body
        return fields

    async def begin(self, page: LoginPage) -> tuple[str, dict[str, str]]:
        """Return the scene of the login page, and the fields that it submits after the confirm."""
        widget = parse(page.text).widget
        begin = {"client_id": widget["app"], "request": widget["request"]}
        url = f"{widget.get('broker') or page.url.origin()}/oauth/device_authorization"
        async with self.http.post(url, data=begin) as response:
            assert response.status == 200, await response.text()
            login = await response.json()
        login_id, _, secret = login["device_code"].partition(".")
        fields = {"request": widget["request"], "login_id": login_id, "secret": secret}
        return login["user_code"], fields


async def _page(response: aiohttp.ClientResponse) -> Page:
    trail = (*(one.url for one in response.history), response.url)
    text = await response.text(errors="replace")
    return Page(response.status, response.url, text, response.headers, trail)
