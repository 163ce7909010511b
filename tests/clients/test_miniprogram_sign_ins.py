"""The sign-ins in the mini program. miniprogram/sign_ins.test.js has the tests."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from broker.directories.open import OpenDirectory
from broker.errors import Unavailable
from broker.identity.errors import UserBlocked
from broker.identity.model import Identity, UserProfile
from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.builders import StartBroker
from tests.support.miniprogram import run_suite
from tests.support.oidc_browser import Page, ScanBrowser
from tests.support.oidc_site import OIDCSite, a_site

SCOPES = ["openid", "offline_access"]
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/126.0.0.0 Safari/537.36"
)


class FaultyDirectory(OpenDirectory):
    """A directory that blocks `blocked` and is unavailable for `unlucky`."""

    async def find(self, identity: Identity) -> UserProfile:
        if identity.id == "blocked":
            raise UserBlocked
        if identity.id == "unlucky":
            raise Unavailable
        return await super().find(identity)


class Browsers:
    """Browsers that sign in at `site`, for the tests in Node."""

    def __init__(self, site: OIDCSite, stack: AsyncExitStack) -> None:
        self._site = site
        self._stack = stack
        self._waiting: dict[str, tuple[ScanBrowser, Page, dict[str, str]]] = {}

    async def sign_in(self, request: web.Request) -> web.Response:
        """Sign a new browser in as `name`. With `offline` it signs out; the app keeps access."""
        browser = await self._open()
        is_offline = "offline" in request.query
        scope = " ".join(SCOPES) if is_offline else "openid"
        tokens = await self._site.signed_in(browser, request.query["name"], scope=scope)
        if is_offline:
            hint = tokens["id_token"]
            await browser.open(f"{self._site.provider.issuer}/oauth/logout?id_token_hint={hint}")
        return web.json_response({})

    async def begin(self, request: web.Request) -> web.Response:
        """Open the login page in a new browser, and return its scene."""
        browser = await self._open()
        login_page = await browser.open(self._site.url())
        scene, fields = await browser.begin(login_page)
        self._waiting[scene] = browser, login_page, fields
        return web.json_response({"scene": scene})

    async def finish(self, request: web.Request) -> web.Response:
        """Sign in after the confirm. Returns the status of the login page."""
        browser, login_page, fields = self._waiting[request.query["scene"]]
        answer = await browser.submit_login(login_page, fields, follow=False)
        return web.json_response({"status": answer.status})

    async def _open(self) -> ScanBrowser:
        browser = await self._stack.enter_async_context(ScanBrowser(self._site.provider.issuer))
        browser.http.headers["User-Agent"] = CHROME
        return browser


async def test_sign_ins_suite_passes(start_broker: StartBroker, tmp_path: Path) -> None:
    settings = {"directory": FaultyDirectory()}
    fields = {"name": "Bank", "sso": True, "scopes": SCOPES}
    async with AsyncExitStack() as stack:
        provider = a_site(start_broker, tmp_path, settings=settings, **fields)
        site, _ = await stack.enter_async_context(provider)
        browsers = Browsers(site, stack)
        app = web.Application()
        for act in (browsers.sign_in, browsers.begin, browsers.finish):
            app.router.add_post(f"/{act.__name__}", act)
        served = serve_sites([Site("browsers", app, "127.0.0.1", 0, "PORT")])
        addresses = await stack.enter_async_context(served)
        await run_suite("sign_ins", BROKER=site.provider.phones, BROWSERS=addresses["browsers"])
