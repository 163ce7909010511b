"""The phone page in Chromium: the facts of a login, matches, and sign-ins."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from broker.infrastructure.runtime.server import Site, serve_sites
from mp_stub.phone_page import build_phone_page
from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import StartBroker
from tests.support.environment import free_port
from tests.support.oidc_site import a_site
from tests.support.pages import NARROW, WAIT_MS, keep, open_page, scene_on, type_digits, wrong

OFFLINE = ["openid", "offline_access"]
LOOKS = [("en-GB", "light"), ("zh-CN", "dark")]

PAGE = """<!doctype html><title>Bank</title>
<script src="{broker}/scan-login.js" defer></script>
<scan-login app="bank" broker="{broker}"></scan-login>
<h1></h1>
<script>
document.querySelector("scan-login").onlogin = () => {{
  document.querySelector("h1").textContent = "Signed in";
}};
</script>"""


class Bank(NamedTuple):
    """URLs of a page of the app `bank` and of its phone page."""

    site: str
    phone: str

    async def scan(self, chromium: Browser, site: Page, **look: object) -> Page:
        """Scan the site's code as alice on a phone page, and return that page."""
        url = f"{self.phone}/?scene={await scene_on(site)}"
        phone = await open_page(chromium, url, viewport=NARROW, **look)
        await phone.locator("#scan").click()
        await expect(phone.locator("#confirm")).to_be_visible(timeout=WAIT_MS)
        return phone


OpenBank = Callable[[str], Awaitable[Bank]]


@pytest.fixture
async def open_bank(start_broker: StartBroker) -> AsyncIterator[OpenBank]:
    async with AsyncExitStack() as stack:

        async def start(match: str) -> Bank:
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            broker = await start_broker(admin_token=TOKEN)
            admin = await stack.enter_async_context(Admin(broker.admin))
            fields = {"id": "bank", "name": "Bank", "match": match, "origins": [url]}
            assert (await admin.ask("POST", "/apps", fields)).status == 201

            async def show(request: web.Request) -> web.Response:
                return web.Response(text=PAGE.format(broker=broker.url), content_type="text/html")

            site = web.Application()
            site.add_routes([web.get("/", show)])
            phone = build_phone_page(broker_url=broker.url, app="bank")
            sites = [
                Site("site", site, "127.0.0.1", port, "PORT"),
                Site("phone", phone, "127.0.0.1", 0, "PORT"),
            ]
            addresses = await stack.enter_async_context(serve_sites(sites))
            return Bank(url, addresses["phone"])

        yield start


async def is_too_wide(page: Page) -> bool:
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    return bool(await page.evaluate(wide))


async def shown_number(site: Page) -> str:
    number = site.locator("scan-login .number")
    await expect(number).to_be_visible()
    return await number.inner_text()


@pytest.mark.parametrize(("language", "scheme"), LOOKS)
async def test_right_number_signs_the_browser_in(
    chromium: Browser, open_bank: OpenBank, language: str, scheme: str
) -> None:
    bank = await open_bank("number")
    look = {"locale": language, "color_scheme": scheme}
    site = await open_page(chromium, bank.site, **look)
    phone = await bank.scan(chromium, site, **look)
    await keep(phone, f"{language[:2]}-{scheme}-phone-number")
    assert not await is_too_wide(phone)

    await phone.locator("#choices button", has_text=await shown_number(site)).click()

    await expect(phone.locator("#outcome .good")).to_be_visible()
    await expect(site.locator("h1")).to_have_text("Signed in")


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
async def test_wrong_number_ends_the_login(
    chromium: Browser, open_bank: OpenBank, language: str
) -> None:
    bank = await open_bank("number")
    site = await open_page(chromium, bank.site, locale=language)
    phone = await bank.scan(chromium, site, locale=language)
    right = await shown_number(site)

    await phone.locator("#choices button").filter(has_not_text=right).first.click()

    title = {"en-GB": "Not signed in", "zh-CN": "未登录"}[language]
    await expect(phone.locator("#outcome-title")).to_have_text(title)
    await expect(site.locator("scan-login .card[data-view=mismatch]")).to_be_visible()
    await keep(phone, f"{language[:2]}-phone-mismatch")


async def test_choices_and_deny_have_equal_weight(chromium: Browser, open_bank: OpenBank) -> None:
    bank = await open_bank("number")
    site = await open_page(chromium, bank.site)
    phone = await bank.scan(chromium, site)

    looks = await phone.locator("#choices button, #deny").evaluate_all(
        """all => all.map(e => { const s = getComputedStyle(e);
        return [s.color, s.backgroundColor, s.borderColor, s.fontSize, e.offsetHeight].join(); })"""
    )

    assert len(looks) == 4
    assert len(set(looks)) == 1
    await expect(phone.locator("#allow")).to_be_hidden()


@pytest.mark.parametrize(("language", "scheme"), LOOKS)
async def test_digits_are_shown_with_the_origin(
    chromium: Browser, open_bank: OpenBank, language: str, scheme: str
) -> None:
    bank = await open_bank("code")
    look = {"locale": language, "color_scheme": scheme}
    site = await open_page(chromium, bank.site, **look)
    phone = await bank.scan(chromium, site, **look)
    await keep(phone, f"{language[:2]}-{scheme}-phone-facts")
    for shown in ("#fact-address", "#warning"):
        await expect(phone.locator(shown)).to_contain_text(bank.site)

    await phone.locator("#allow").click()

    await expect(phone.locator("#digits-shown")).to_have_text(re.compile(r"^\d{4}$"))
    await expect(phone.locator("#digits-text")).to_contain_text(bank.site)
    await keep(phone, f"{language[:2]}-{scheme}-phone-digits")
    assert not await is_too_wide(phone)
    await type_digits(site, await phone.locator("#digits-shown").inner_text())
    await expect(site.locator("h1")).to_have_text("Signed in")
    await expect(phone.locator("#outcome-title")).to_have_text(
        {"en": "Confirmed", "zh": "已确认"}[language[:2]]
    )


async def test_wrong_digits_are_reported_on_the_phone(
    chromium: Browser, open_bank: OpenBank
) -> None:
    bank = await open_bank("code")
    site = await open_page(chromium, bank.site)
    phone = await bank.scan(chromium, site)
    await phone.locator("#allow").click()
    shown = phone.locator("#digits-shown")
    await expect(shown).to_have_text(re.compile(r"^\d{4}$"))
    other = wrong(await shown.inner_text())

    for left in ("2", "1"):
        await type_digits(site, other)
        await expect(site.locator("scan-login")).to_contain_text(f"Tries left: {left}")
    await type_digits(site, other)

    await expect(phone.locator("#outcome-text")).to_contain_text("digits in the browser were wrong")


@pytest.mark.parametrize(("language", "scheme"), LOOKS)
async def test_sign_ins_are_listed_and_ended(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path, language: str, scheme: str
) -> None:
    async with a_site(start_broker, tmp_path, sso=True, scopes=OFFLINE) as (site, browser):
        tokens = await site.signed_in(browser, "alice", scope=" ".join(OFFLINE))
        await browser.open(
            f"{site.provider.issuer}/oauth/logout?id_token_hint={tokens['id_token']}"
        )
        await site.signed_in(browser, "alice")
        page = build_phone_page(broker_url=site.provider.phones)
        async with serve_sites([Site("phone", page, "127.0.0.1", 0, "PORT")]) as addresses:
            look = {"locale": language, "color_scheme": scheme, "viewport": NARROW}
            phone = await open_page(chromium, addresses["phone"], **look)
            await phone.locator("#open-signins").click()

            items = phone.locator("#signins-list li")
            await expect(items).to_have_count(2)
            await expect(items.locator(".mark")).to_have_count(1)
            await expect(items.nth(1)).to_contain_text("127.0.0.1")
            await keep(phone, f"{language[:2]}-{scheme}-phone-signins")
            assert not await is_too_wide(phone)

            await items.first.locator("button").click()
            await expect(items).to_have_count(1)
            await expect(items.locator(".mark")).to_have_count(0)
            await phone.locator("#end-all").click()
            await expect(phone.locator("#signins-none")).to_be_visible()


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
async def test_confirmed_login_can_be_reported(
    chromium: Browser, open_bank: OpenBank, language: str
) -> None:
    bank = await open_bank("off")
    site = await open_page(chromium, bank.site, locale=language)
    phone = await bank.scan(chromium, site, locale=language)
    await phone.locator("#allow").click()
    await expect(phone.locator("#report")).to_be_visible()
    await keep(phone, f"{language[:2]}-phone-confirmed")

    await phone.locator("#report").click()

    title = {"en-GB": "Reported", "zh-CN": "已报告"}[language]
    await expect(phone.locator("#outcome-title")).to_have_text(title)
    await expect(phone.locator("#report")).to_be_hidden()
    await keep(phone, f"{language[:2]}-phone-reported")
