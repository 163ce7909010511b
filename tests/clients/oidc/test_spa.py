"""A single-page app with oidc-client-ts in Chromium: a public app without a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.node_client import FOLDER, node
from tests.support.oidc_browser import new_person
from tests.support.oidc_provider import Provider
from tests.support.pages import WAIT_MS, scene_on

LIBRARY = FOLDER / "node_modules/oidc-client-ts/dist/browser/oidc-client-ts.min.js"


class SinglePageApp(NamedTuple):
    url: str
    page: Page
    provider: Provider

    async def call(self, name: str) -> Any:
        return await self.page.evaluate(f"() => window.app.{name}()")

    async def shows(self, text: str) -> None:
        await expect(self.page.locator("#state")).to_have_text(text, timeout=WAIT_MS)


@pytest.fixture
async def app(provider: Provider, chromium: Browser) -> AsyncIterator[SinglePageApp]:
    node()  # the library is installed
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    await provider.add_app(
        "spa",
        client_type="public",
        origins=[url],
        redirect_urls=[f"{url}/spa.html"],
        post_logout_urls=[f"{url}/spa.html"],
        scopes=["openid", "profile", "offline_access"],
    )
    files = web.Application()
    for name in ("spa.html", "spa.js"):
        files.router.add_get(f"/{name}", _file(FOLDER / name))
    files.router.add_get("/oidc-client-ts.min.js", _file(LIBRARY))
    async with serve_sites([Site("app", files, "127.0.0.1", port, "PORT")]):
        page = await chromium.new_page()
        await page.goto(f"{url}/spa.html?issuer={provider.issuer}")
        yield SinglePageApp(url, page, provider)


def _file(path: Any) -> Any:
    async def serve(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return serve


async def confirm(provider: Provider, page: Page, person: str) -> None:
    """Scan the code on the page and confirm."""
    scene = await scene_on(page)
    async with PhoneClient(provider.phones, person) as phone:
        scanned = await phone.post("scan", {"scene": scene})
        await phone.post("confirm", {"login_id": scanned.body["login_id"]})


async def test_redirect_signs_in_and_refreshes(app: SinglePageApp) -> None:
    person = new_person()
    await app.shows("signed out")

    await app.page.evaluate("() => void window.app.signIn()")
    await app.page.wait_for_url(f"{app.provider.issuer}/oauth/authorize*")
    await confirm(app.provider, app.page, person)
    await app.shows("signed in")

    before = await app.call("user")
    after = await app.call("refresh")
    assert before["sub"] == after["sub"] == f"pretend:{person}"
    assert before["preferred_username"] == after["preferred_username"]
    assert before["refreshed"] != after["refreshed"]


async def test_popup_signs_in(app: SinglePageApp) -> None:
    person = new_person()
    await app.shows("signed out")

    async with app.page.expect_popup() as opened:
        await app.page.evaluate("() => { window.result = window.app.popup() }")
    await confirm(app.provider, await opened.value, person)

    user = await app.page.evaluate("() => window.result")
    assert user["sub"] == f"pretend:{person}"


async def test_sign_out_returns_to_the_app(app: SinglePageApp) -> None:
    await app.page.evaluate("() => void window.app.signIn()")
    await app.page.wait_for_url(f"{app.provider.issuer}/oauth/authorize*")
    await confirm(app.provider, app.page, new_person())
    await app.shows("signed in")

    await app.page.evaluate("() => void window.app.signOut()")

    await app.page.wait_for_url(f"{app.url}/spa.html*")
    await app.shows("signed out")
