"""A single-page app with oidc-client-ts in Chromium: a public app without a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.node_client import FOLDER, node
from tests.support.oidc_browser import new_person
from tests.support.oidc_provider import Provider
from tests.support.pages import WAIT_MS, add_frame, confirm_on

LIBRARY = FOLDER / "node_modules/oidc-client-ts/dist/browser/oidc-client-ts.min.js"


class SinglePageApp(NamedTuple):
    url: str
    page: Page
    provider: Provider
    scope: str

    async def open(self) -> None:
        query = urlencode({"issuer": self.provider.issuer, "scope": self.scope})
        await self.page.goto(f"{self.url}/spa.html?{query}")
        await self.shows("signed out")

    async def sign_in(self, person: str) -> None:
        await self.page.evaluate("() => void window.app.signIn()")
        await self.page.wait_for_url(f"{self.provider.issuer}/oauth/authorize*")
        await confirm_on(self.page, self.provider.phones, person)
        await self.shows("signed in")

    async def call(self, name: str) -> Any:
        return await self.page.evaluate(f"() => window.app.{name}()")

    async def shows(self, text: str) -> None:
        await expect(self.page.locator("#state")).to_have_text(text, timeout=WAIT_MS)


@asynccontextmanager
async def single_page_app(
    provider: Provider,
    chromium: Browser,
    *,
    host: str = "127.0.0.1",
    scope: str = "openid profile offline_access",
    sso: bool = False,
) -> AsyncIterator[SinglePageApp]:
    """host: `localhost` is another site than the provider's 127.0.0.1."""
    node()  # the library is installed
    port = free_port()
    url = f"http://{host}:{port}"
    await provider.add_app(
        "spa",
        client_type="public",
        origins=[url],
        redirect_urls=[f"{url}/spa.html"],
        post_logout_urls=[f"{url}/spa.html"],
        scopes=["openid", "profile", "offline_access"],
        sso=sso,
    )
    files = web.Application()
    for name in ("spa.html", "spa.js"):
        files.router.add_get(f"/{name}", _file(FOLDER / name))
    files.router.add_get("/oidc-client-ts.min.js", _file(LIBRARY))
    async with serve_sites([Site("app", files, "127.0.0.1", port, "PORT")]):
        app = SinglePageApp(url, await chromium.new_page(), provider, scope)
        await app.open()
        yield app


@pytest.fixture
async def app(provider: Provider, chromium: Browser) -> AsyncIterator[SinglePageApp]:
    async with single_page_app(provider, chromium) as app:
        yield app


def _file(path: Any) -> Any:
    async def serve(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return serve


async def test_redirect_signs_in_and_refreshes(app: SinglePageApp) -> None:
    person = new_person()

    await app.sign_in(person)

    before = await app.call("user")
    after = await app.call("refresh")
    assert before["sub"] == after["sub"] == f"pretend:{person}"
    assert before["preferred_username"] == after["preferred_username"]
    assert before["refreshed"] != after["refreshed"]


async def test_ended_sign_in_is_not_refreshed(app: SinglePageApp) -> None:
    """The library has no back-channel logout: it knows the user until the app removes it."""
    person = new_person()
    await app.sign_in(person)

    async with PhoneClient(app.provider.phones, person) as phone:
        assert (await phone.delete("signins")).body == {"ended": 1}

    assert await app.call("refusal") == "invalid_grant"
    assert (await app.call("user"))["sub"] == f"pretend:{person}"


async def test_popup_signs_in(app: SinglePageApp) -> None:
    person = new_person()

    async with app.page.expect_popup() as opened:
        await app.page.evaluate("() => { window.result = window.app.popup() }")
    await confirm_on(await opened.value, app.provider.phones, person)

    user = await app.page.evaluate("() => window.result")
    assert user["sub"] == f"pretend:{person}"


async def test_sign_out_returns_to_the_app(app: SinglePageApp) -> None:
    await app.sign_in(new_person())

    await app.page.evaluate("() => void window.app.signOut()")

    await app.page.wait_for_url(f"{app.url}/spa.html*")
    await app.shows("signed out")


async def test_sign_in_works_after_a_key_rotation(app: SinglePageApp, chromium: Browser) -> None:
    await app.sign_in(new_person())

    await app.provider.rotate_keys()

    other, person = app._replace(page=await chromium.new_page()), new_person()
    await other.open()
    await other.sign_in(person)
    assert (await other.call("user"))["sub"] == f"pretend:{person}"


WITHOUT_REFRESH_TOKEN = "openid profile"

in_one_layout = pytest.mark.parametrize("provider", ["one-instance"], indirect=True)
"""The layout does not change what a browser sends from an iframe, or shows in it."""


@in_one_layout
async def test_iframe_of_the_same_site_renews(provider: Provider, chromium: Browser) -> None:
    """Other ports of one host are one site, and the browser sends the sign-in cookie."""
    async with single_page_app(provider, chromium, scope=WITHOUT_REFRESH_TOKEN, sso=True) as app:
        await app.sign_in(new_person())
        before = await app.call("user")

        after = await app.call("refresh")

    assert after["refreshed"] is None
    assert (after["sub"], after["sid"]) == (before["sub"], before["sid"])
    assert after["access"] != before["access"]


@in_one_layout
async def test_iframe_of_another_site_gets_login_required(
    provider: Provider, chromium: Browser
) -> None:
    async with single_page_app(
        provider, chromium, host="localhost", scope=WITHOUT_REFRESH_TOKEN, sso=True
    ) as app:
        await app.sign_in(new_person())

        assert await app.call("refusal") == "login_required"


@in_one_layout
async def test_iframe_shows_no_sign_in_page(app: SinglePageApp) -> None:
    """The redirect of `prompt=none` is not framed content, but the sign-in page is."""
    query = urlencode(
        {
            "client_id": "spa",
            "redirect_uri": f"{app.url}/spa.html",
            "response_type": "code",
            "scope": WITHOUT_REFRESH_TOKEN,
            "code_challenge": "A" * 43,
            "code_challenge_method": "S256",
        }
    )
    async with app.page.expect_console_message(lambda line: "frame-ancestors" in line.text):
        await add_frame(app.page, f"{app.provider.issuer}/oauth/authorize?{query}")

    assert await app.page.frame_locator("iframe").locator("scan-login").count() == 0
