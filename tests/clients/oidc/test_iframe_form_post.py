"""An app that opens an authorization request with `form_post` in an iframe, in Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.environment import free_port
from tests.support.oidc_browser import new_person
from tests.support.oidc_provider import Provider
from tests.support.oidc_site import OIDCSite, add_site
from tests.support.pages import WAIT_MS, add_frame, confirm_on

pytestmark = pytest.mark.parametrize("provider", ["one-instance"], indirect=True)
"""The layout does not change what a browser sends from an iframe, or shows in it."""


class FramingApp(NamedTuple):
    """An app whose callback shows the fields of the form, and the app's cookies that came."""

    url: str
    page: Page
    site: OIDCSite

    def request(self, **fields: str) -> str:
        callback = f"{self.url}/callback"
        return self.site.url(redirect_uri=callback, response_mode="form_post", **fields)

    async def sign_in(self) -> None:
        """Sign in with the whole window, and return to the app's page."""
        await self.page.goto(self.request())
        await confirm_on(self.page, self.site.provider.phones, new_person())
        await expect(self.page.locator("#code")).to_be_visible(timeout=WAIT_MS)
        await self.page.goto(f"{self.url}/page")

    async def frame(self) -> None:
        """Open a silent request in an iframe."""
        await add_frame(self.page, self.request(prompt="none"))

    async def answer(self, field: str) -> str:
        """Return a field of the form that the callback got in the iframe."""
        shown = self.page.frame_locator("iframe").locator(f"#{field}")
        await expect(shown).to_be_visible(timeout=WAIT_MS)
        return await shown.inner_text()


@asynccontextmanager
async def framing_app(
    provider: Provider, chromium: Browser, *, host: str = "127.0.0.1"
) -> AsyncIterator[FramingApp]:
    """host: `localhost` is another site than the provider's 127.0.0.1."""
    port = free_port()
    url = f"http://{host}:{port}"
    site = await add_site(provider, redirect_urls=[f"{url}/callback"], sso=True)
    pages = web.Application()
    pages.router.add_get("/page", page_with_cookies)
    pages.router.add_post("/callback", show_fields)
    async with serve_sites([Site("app", pages, "127.0.0.1", port, "PORT")]):
        yield FramingApp(url, await chromium.new_page(), site)


async def page_with_cookies(request: web.Request) -> web.Response:
    """Set a cookie as most sites set it, and one that browsers also send with foreign forms."""
    response = web.Response(text="<body></body>", content_type="text/html")
    response.set_cookie("app-lax", "1", samesite="Lax")
    response.set_cookie("app-none", "1", samesite="None", secure=True)
    return response


async def show_fields(request: web.Request) -> web.Response:
    cookies = sorted(name for name in request.cookies if name.startswith("app-"))
    fields: dict[str, Any] = {**await request.post(), "cookies": " ".join(cookies)}
    rows = "".join(f"<p id={name}>{value}</p>" for name, value in fields.items())
    return web.Response(text=rows, content_type="text/html")


async def test_iframe_of_the_same_site_gets_a_code(provider: Provider, chromium: Browser) -> None:
    """Other ports of one host are one site, and the browser sends the cookies of both."""
    async with framing_app(provider, chromium) as app:
        await app.sign_in()

        await app.frame()

        assert len(await app.answer("code")) == 43
        assert await app.answer("cookies") == "app-lax app-none"


async def test_iframe_of_another_site_gets_login_required(
    provider: Provider, chromium: Browser
) -> None:
    """The form comes from another site, so the browser sends no Lax cookie of the app with it."""
    async with framing_app(provider, chromium, host="localhost") as app:
        await app.sign_in()

        await app.frame()

        assert await app.answer("error") == "login_required"
        assert await app.answer("cookies") == "app-none"


async def test_page_of_another_origin_frames_no_form(provider: Provider, chromium: Browser) -> None:
    async with framing_app(provider, chromium) as app:
        await app.sign_in()
        await app.page.goto(f"{app.url.replace('127.0.0.1', 'localhost')}/page")

        async with app.page.expect_console_message(lambda line: "frame-ancestors" in line.text):
            await app.frame()

        assert await app.page.frame_locator("iframe").locator("#cookies").count() == 0
