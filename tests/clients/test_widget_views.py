"""The widget's views: who scanned, the short link, a phone, automatic refresh and texts."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from broker.directories.open import OpenDirectory
from broker.identity.model import Identity, UserProfile
from mp_stub.phone import Phone
from tests.support.builders import StartBroker
from tests.support.loop_clock import LoopClock
from tests.support.pages import (
    NARROW,
    WAIT_MS,
    keep,
    open_page,
    open_page_with_clock,
    scan,
    scene_on,
    shows,
    staged,
)

PHONE = {"viewport": NARROW, "has_touch": True, "is_mobile": True}


class NamedDirectory(OpenDirectory):
    """A directory in which everyone is Alice Smith."""

    async def find(self, identity: Identity) -> UserProfile:
        return UserProfile(subject="user-1", name="Alice Smith")


async def expire(page: Page, loop_clock: LoopClock) -> None:
    """Move the clocks of the page and the broker by 21 seconds."""
    await page.clock.fast_forward(21_000)
    await loop_clock.move(21)


async def hide(page: Page, *, is_hidden: bool) -> None:
    """Set the visibility of the page, as a change of tabs does."""
    state = "hidden" if is_hidden else "visible"
    await page.evaluate(
        """(value) => {
            Object.defineProperty(document, "visibilityState", { configurable: true, value });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


async def test_app_and_steps_are_shown(chromium: Browser, start_broker: StartBroker) -> None:
    async with staged(start_broker, app_name="Red shop") as stage:
        page = await open_page(chromium, stage.site)
        await scene_on(page)
        await keep(page, "widget-code")

        await expect(page.locator("scan-login .header")).to_have_text("Red shop")
        await expect(page.locator("scan-login .steps li")).to_have_count(3)
        await page.locator("scan-login").evaluate("(e) => e.setAttribute('phone_app', 'Red app')")
        await expect(page.locator("scan-login .steps")).to_contain_text(
            "Open Red app on your phone"
        )


async def test_scanner_is_shown_with_a_masked_name(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker, register=NamedDirectory(), show_scanner="name") as stage:  # type: ignore[arg-type]
        page = await open_page(chromium, stage.site)
        first = await scene_on(page)
        await scan(chromium, stage, page)
        await expect(page.locator("scan-login .who")).to_have_text("A*** scanned the code")
        await keep(page, "widget-scanned")

        await page.get_by_role("button", name="Not you?").click()

        await shows(page, "code")
        assert await scene_on(page) != first


async def test_short_link_leads_to_the_login(chromium: Browser, start_broker: StartBroker) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site)
        await shows(page, "code")

        await page.get_by_role("button", name="Camera does not work?").click()

        await expect(page.locator("scan-login .panel")).to_contain_text("/device")
        await keep(page, "widget-link")
        code = await page.locator("scan-login .panel strong").inner_text()
        async with Phone(broker=stage.broker.url, name="alice") as phone:
            await phone.confirm((await phone.scan(code))["login_id"])
        await expect(page).to_have_url(f"{stage.site}/account", timeout=WAIT_MS)


async def test_phone_gets_a_button_that_opens_the_app(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site, **PHONE)
        scene = await scene_on(page)
        await keep(page, "widget-phone")

        link = page.get_by_role("link", name="Open the app")

        await expect(link).to_have_attribute("href", f"{stage.phone}/?scene={scene}")
        await expect(page.locator("scan-login .steps")).to_be_hidden()


async def test_expired_code_is_replaced_while_visible(
    chromium: Browser, start_broker: StartBroker, loop_clock: LoopClock
) -> None:
    async with staged(start_broker, login_lifetime=20, clock=loop_clock) as stage:
        page = await open_page_with_clock(chromium, stage.site)
        first = await page.locator("scan-login .drawn .code").get_attribute("src")

        await expire(page, loop_clock)

        code = page.locator("scan-login .drawn .code")
        await expect(code).not_to_have_attribute("src", first or "", timeout=WAIT_MS)
        await shows(page, "code")


async def test_hidden_page_gets_a_new_code_when_visible(
    chromium: Browser, start_broker: StartBroker, loop_clock: LoopClock
) -> None:
    async with staged(start_broker, login_lifetime=20, clock=loop_clock) as stage:
        page = await open_page_with_clock(chromium, stage.site)
        await shows(page, "code")
        await hide(page, is_hidden=True)
        await expire(page, loop_clock)
        await shows(page, "expired")

        await hide(page, is_hidden=False)

        await shows(page, "code")


@pytest.mark.parametrize(
    ("language", "title"), [("fr-CA", "Scannez"), ("de", "Scan to sign in"), ("zh-TW", "扫码登录")]
)
async def test_texts_add_a_language(
    chromium: Browser, start_broker: StartBroker, language: str, title: str
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site)
        await shows(page, "code")

        await page.locator("scan-login").evaluate(
            "(e, lang) => { e.texts = { fr: { code: ['Scannez', ''] } }; e.lang = lang; }", language
        )

        await expect(page.locator("scan-login .title")).to_have_text(title)
