"""The widget in Chromium: matches by number and by code, and codes that are replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, WebSocketRoute, expect

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.pages import (
    VIEWPORTS,
    WAIT_MS,
    keep,
    open_page,
    open_page_with_clock,
    scene_on,
    shows,
    type_digits,
    wrong,
)

CAN = {"can": ["match"]}


class Bank(NamedTuple):
    """A page of the app `bank`, and a phone of alice."""

    url: str
    broker: str
    phone: PhoneClient

    async def scan(self, page: Page) -> tuple[str, list[str]]:
        """Scan the page's code: the login's id, and the numbers to choose from."""
        answer = await self.phone.post("scan", {"scene": await scene_on(page), **CAN})
        assert answer.status == 200, answer.body
        return answer.body["login_id"], answer.body.get("match", {}).get("choices", [])

    async def confirm(self, login_id: str, **match: str) -> str:
        """Confirm: the digits to type, if there are any."""
        answer = await self.phone.post("confirm", {"login_id": login_id, **match})
        return str(answer.body.get("match", ""))


OpenBank = Callable[..., Awaitable[Bank]]


@pytest.fixture
async def open_bank(start_broker: StartBroker) -> AsyncIterator[OpenBank]:
    async with AsyncExitStack() as stack:

        async def start(match: str, attributes: str = "", **settings: object) -> Bank:
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            broker = await start_broker(**{"admin_token": TOKEN, "interval": 1, **settings})
            admin = await stack.enter_async_context(Admin(broker.admin))
            fields = {"id": "bank", "name": "Bank", "match": match, "origins": [url]}
            assert (await admin.ask("POST", "/apps", fields)).status == 201
            page = PAGE.format(broker=broker.url, attributes=attributes)

            async def show(request: web.Request) -> web.Response:
                return web.Response(text=page, content_type="text/html")

            site = web.Application()
            site.add_routes([web.get("/", show)])
            sites = [Site("site", site, "127.0.0.1", port, "PORT")]
            await stack.enter_async_context(serve_sites(sites))
            phone = await stack.enter_async_context(PhoneClient(broker.url, app="bank"))
            return Bank(url, broker.url, phone)

        yield start


PAGE = """<!doctype html><meta name=viewport content="width=device-width"><title>Bank</title>
<script src="{broker}/scan-login.js" defer></script>
<style>:root {{ color-scheme: light dark }}</style>
<scan-login app="bank" broker="{broker}" {attributes}></scan-login>
<script>document.querySelector("scan-login").onlogin = () => {{}};</script>"""


async def open_site(chromium: Browser, bank: Bank, *, polls: bool = False, **look: object) -> Page:
    page = await open_page(chromium, "about:blank", **look)
    if polls:
        await page.route_web_socket("**/*", close_socket)
    await page.goto(bank.url)
    await shows(page, "code")
    return page


async def close_socket(socket: WebSocketRoute) -> None:
    await socket.close()


async def hints(page: Page, text: str) -> None:
    await expect(page.locator("scan-login .hint")).to_have_text(text, timeout=WAIT_MS)


@pytest.mark.parametrize("polls", [False, True])
async def test_number_on_the_page_signs_the_browser_in(
    chromium: Browser, open_bank: OpenBank, polls: bool
) -> None:
    bank = await open_bank("number")
    page = await open_site(chromium, bank, polls=polls)
    login_id, choices = await bank.scan(page)

    await shows(page, "number")
    number = await page.locator("scan-login .number").inner_text()
    assert number in choices
    await bank.confirm(login_id, match=number)

    await shows(page, "done")


async def test_wrong_number_ends_the_login(chromium: Browser, open_bank: OpenBank) -> None:
    bank = await open_bank("number")
    page = await open_site(chromium, bank)
    login_id, choices = await bank.scan(page)
    await shows(page, "number")
    number = await page.locator("scan-login .number").inner_text()

    await bank.confirm(login_id, match=next(one for one in choices if one != number))

    await shows(page, "mismatch")


@pytest.mark.parametrize("polls", [False, True])
async def test_typed_digits_sign_the_browser_in(
    chromium: Browser, open_bank: OpenBank, polls: bool
) -> None:
    bank = await open_bank("code")
    page = await open_site(chromium, bank, polls=polls)
    login_id, _ = await bank.scan(page)
    await shows(page, "digits")
    await type_digits(page, "0000")
    await hints(page, "Your phone shows no digits yet. Confirm there first.")
    digits = await bank.confirm(login_id)

    await type_digits(page, wrong(digits))
    await hints(page, "These digits are wrong. Tries left: 2")
    await type_digits(page, digits)

    await shows(page, "done")


@pytest.mark.parametrize("polls", [False, True])
async def test_third_wrong_code_ends_the_login(
    chromium: Browser, open_bank: OpenBank, polls: bool
) -> None:
    bank = await open_bank("code")
    page = await open_site(chromium, bank, polls=polls)
    login_id, _ = await bank.scan(page)
    await shows(page, "digits")
    digits = await bank.confirm(login_id)

    for left in (2, 1):
        await type_digits(page, wrong(digits))
        await hints(page, f"These digits are wrong. Tries left: {left}")
    await type_digits(page, wrong(digits))

    await shows(page, "mismatch")


@pytest.mark.parametrize(
    ("polls", "language", "title"),
    [(False, "en-GB", "Sign-in refused"), (True, "zh-CN", "登录未被允许")],
)
async def test_login_refused_by_the_broker_is_shown(
    chromium: Browser, open_bank: OpenBank, polls: bool, language: str, title: str
) -> None:
    bank = await open_bank("off", scans_max=1)
    page = await open_site(chromium, bank, polls=polls, locale=language)
    scene = await scene_on(page)
    await bank.phone.post("scan", {"scene": scene})

    async with PhoneClient(bank.broker, "bob", app="bank") as other:
        await other.post("scan", {"scene": scene})

    await shows(page, "forbidden")
    await expect(page.locator("scan-login .title")).to_have_text(title, timeout=WAIT_MS)


async def test_old_code_is_replaced(chromium: Browser, open_bank: OpenBank) -> None:
    bank = await open_bank("off", 'refresh_every="10"')
    page = await open_page_with_clock(chromium, bank.url)
    await shows(page, "code")
    first = await page.locator("scan-login .code").get_attribute("src") or ""

    await page.clock.fast_forward(10_000)

    await expect(page.locator("scan-login .code")).not_to_have_attribute(
        "src", first, timeout=WAIT_MS
    )
    await shows(page, "code")


def lose_scans(socket: WebSocketRoute) -> None:
    server = socket.connect_to_server()

    def pass_on(message: str | bytes) -> None:
        if "login-scanned" not in str(message):
            socket.send(message)

    server.on_message(pass_on)


@pytest.mark.parametrize(
    ("route", "interval"), [(lose_scans, 1), (close_socket, 12)], ids=["lost push", "late poll"]
)
async def test_old_code_with_an_unknown_scan_stays(
    chromium: Browser, open_bank: OpenBank, route: Callable[..., object], interval: int
) -> None:
    bank = await open_bank("off", 'refresh_every="10"', interval=interval)
    page = await open_page(chromium, "about:blank")
    await page.route_web_socket("**/*", route)
    await page.clock.install()
    await page.goto(bank.url)

    await bank.scan(page)
    await page.clock.fast_forward(10_000)

    await shows(page, "scanned")


@pytest.mark.parametrize("kind", ["number", "code"])
@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
async def test_match_view_fits_its_page(
    chromium: Browser, open_bank: OpenBank, kind: str, language: str
) -> None:
    bank = await open_bank(kind)
    page = await open_site(chromium, bank, locale=language)
    await bank.scan(page)
    await shows(page, {"number": "number", "code": "digits"}[kind])

    await fits(page, f"match-{kind}-{language[:2]}")


async def fits(page: Page, picture: str) -> None:
    """Check that the page is not wider than its window, and keep pictures named `picture`."""
    for name, size in VIEWPORTS.items():
        for scheme in ("light", "dark"):
            await page.set_viewport_size(size)  # type: ignore[arg-type]
            await page.emulate_media(color_scheme=scheme)
            await keep(page, f"{picture}-{name}-{scheme}")
            assert not await page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )


DEVICE_SENTENCES = {
    ("number", "en-GB"): "On the phone, choose the number that your device shows.",
    ("number", "zh-CN"): "在手机上选择设备显示的数字。",
    ("code", "en-GB"): "then type the 4 digits of the phone on your device.",
    ("code", "zh-CN"): "然后在设备上输入手机显示的 4 位数字。",
}


@pytest.mark.parametrize(("kind", "language"), DEVICE_SENTENCES)
async def test_device_page_explains_the_match(
    chromium: Browser, open_bank: OpenBank, kind: str, language: str
) -> None:
    bank = await open_bank(kind)
    async with (
        aiohttp.ClientSession(bank.broker) as http,
        http.post("/oauth/device_authorization", data={"client_id": "bank"}) as response,
    ):
        url = (await response.json())["verification_uri_complete"]

    page = await open_page(chromium, url, locale=language)

    await expect(page.locator(".steps")).to_contain_text(DEVICE_SENTENCES[kind, language])
    await fits(page, f"device-{kind}-{language[:2]}")
