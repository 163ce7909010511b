"""The page of the HTTP API in Chromium: both documents, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from playwright.async_api import Browser, Page, Request, expect

from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker, StartBroker
from tests.support.pages import (
    WAIT_MS,
    WIDE,
    collect_errors,
    fits,
    keep,
    open_page,
    serious_findings,
)

NARROW = {"width": 375, "height": 800}

LOOKS: Mapping[str, Mapping[str, object]] = {
    "public-wide-light": {"viewport": WIDE},
    "public-narrow-dark": {"viewport": NARROW, "color_scheme": "dark"},
    "admin-wide-dark": {"viewport": WIDE, "color_scheme": "dark"},
    "admin-narrow-light": {"viewport": NARROW},
}

CHECKED_BY_AXE = {"public-narrow-dark", "admin-narrow-light"}
"""Looks in which axe-core checks the page. A check takes three seconds."""

OPERATIONS = {"public": ("login", "confirmLogin"), "admin": ("apps", "addApp")}
"""The tag and the id of an operation of each port."""


class Reference(NamedTuple):
    """requests: URLs, apart from `data:`.  complaints: errors in the console."""

    page: Page
    requests: list[str]
    complaints: list[str]


@asynccontextmanager
async def reference(
    chromium: Browser, broker: RunningBroker, query: str, **look: object
) -> AsyncIterator[Reference]:
    page = await open_page(chromium, "about:blank", **look)
    requests: list[str] = []
    complaints: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith("data:"):
            requests.append(request.url)

    page.on("request", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    collect_errors(page, complaints)
    await page.goto(f"{broker.admin}/api{query}")
    await expect(page.locator(".opblock").first).to_be_visible(timeout=WAIT_MS)
    yield Reference(page, requests, complaints)
    await page.context.close()


async def open_operation(page: Page, port: str) -> str:
    """Open the operation of `OPERATIONS`, and return its text."""
    tag, operation_id = OPERATIONS[port]
    block = page.locator(f"#operations-{tag}-{operation_id}")
    await block.locator(".opblock-summary-control").click()
    await expect(block.locator(".responses-table")).to_be_visible(timeout=WAIT_MS)
    return await block.inner_text()


async def test_page_shows_both_documents_in_every_look(
    chromium: Browser, start_broker: StartBroker
) -> None:
    broker = await start_broker("sql", admin_token=TOKEN)
    for look, options in LOOKS.items():
        port = look.partition("-")[0]
        async with reference(chromium, broker, f"?port={port}", **options) as opened:
            page = opened.page
            await keep(page, f"reference-{look}")
            text = await open_operation(page, port)

            assert '"login_id"' in text if port == "public" else '"origins"' in text
            assert await page.locator(".opblock").count() > 30
            assert await fits(page), look
            if look in CHECKED_BY_AXE:
                assert await serious_findings(page) == [], look
            assert opened.complaints == []
            assert {url for url in opened.requests if not url.startswith(broker.admin)} == set()


async def test_page_asks_for_no_credentials(chromium: Browser, start_broker: StartBroker) -> None:
    broker = await start_broker(admin_token=TOKEN)
    async with reference(chromium, broker, "?port=admin") as opened:
        page = opened.page
        await open_operation(page, "admin")

        for name in ("Authorize", "Try it out", "Execute"):
            await expect(page.get_by_role("button", name=name)).to_have_count(0)
        await expect(page.locator("input[type=password]")).to_have_count(0)
        assert TOKEN not in await page.content()


async def test_admin_page_opens_the_reference_in_another_tab(
    chromium: Browser, start_broker: StartBroker
) -> None:
    broker = await start_broker(admin_token=TOKEN)
    admin = await open_page(chromium, broker.admin)

    async with admin.context.expect_page() as opened:
        await admin.get_by_role("link", name="HTTP API").click()
    page = await opened.value

    await expect(page.locator("#operations-login-confirmLogin")).to_be_visible(timeout=WAIT_MS)
    await page.get_by_role("link", name="Admin port").click()
    await expect(page.locator("#operations-apps-addApp")).to_be_visible(timeout=WAIT_MS)
    await expect(admin.locator("input[type=password]")).to_be_visible()
    await page.context.close()


async def test_unknown_port_shows_the_public_document(
    chromium: Browser, start_broker: StartBroker
) -> None:
    broker = await start_broker(admin_token=TOKEN)
    query = "?port=__proto__&url=https://elsewhere.example/openapi.json"
    async with reference(chromium, broker, query) as opened:
        current = opened.page.locator("[aria-current=page]")

        await expect(current).to_have_text("Public port")
        assert [url for url in opened.requests if "elsewhere" in url.partition("?")[0]] == []
