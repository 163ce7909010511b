"""The provider's pages in Chromium: sign in through three origins, sign out, and errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.loop_clock import LoopClock
from tests.support.oidc_provider import one_instance
from tests.support.oidc_site import OIDCSite, add_site
from tests.support.pages import (
    LOOKS,
    NARROW,
    VIEWPORTS,
    WAIT_MS,
    collect_errors,
    keep,
    open_page,
    scene_on,
    shows,
)

LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="52" height="52">'
    '<circle cx="26" cy="26" r="20" fill="teal"/></svg>'
)


class Stage(NamedTuple):
    """An app at its own origin, whose callback redirects to a third origin.

    other: an app with the same callback.  bank: another one, with a match by number.
    """

    site: OIDCSite
    callback: str
    home: str
    other: OIDCSite
    bank: OIDCSite

    def url(self, **fields: str) -> str:
        return self.site.url(redirect_uri=self.callback, **fields)


@asynccontextmanager
async def staged(
    start_broker: StartBroker, folder: Path, **settings: object
) -> AsyncIterator[Stage]:
    ports = free_port(), free_port()
    callback, home = f"http://127.0.0.1:{ports[0]}/cb", f"http://localhost:{ports[1]}/home"

    async def start(**common: object) -> object:
        return await start_broker(**common, **settings)

    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(one_instance(start, folder))  # type: ignore[arg-type]
        sites = [
            Site("callback", site_that_redirects(home), "127.0.0.1", ports[0], "PORT"),
            Site("home", site_that_shows_its_fields(), "127.0.0.1", ports[1], "PORT"),
        ]
        await stack.enter_async_context(serve_sites(sites))
        fields = {"redirect_urls": [callback], "home_url": home, "post_logout_urls": [home]}
        scopes = ["openid", "profile", "email", "groups", "offline_access"]
        logo = f"http://127.0.0.1:{ports[0]}/logo.svg"
        usual = {"provider": "pretend", "sso": True, "scopes": scopes, "logo_url": logo, **fields}
        site = await add_site(provider, name="Grafana", **usual)
        other = await add_site(provider, "other", name="GitLab", **usual)
        bank = await add_site(provider, "bank", name="Bank", match="number", **usual)
        yield Stage(site, callback, home, other, bank)


def site_that_redirects(home: str) -> web.Application:
    async def callback(request: web.Request) -> web.Response:
        fields = await request.post() if request.method == "POST" else request.query
        query = urlencode({name: str(value) for name, value in fields.items()})
        raise web.HTTPSeeOther(f"{home}?{query}")

    async def logo(request: web.Request) -> web.Response:
        return web.Response(text=LOGO, content_type="image/svg+xml")

    app = web.Application()
    app.router.add_route("*", "/cb", callback)
    app.router.add_get("/logo.svg", logo)
    return app


def site_that_shows_its_fields() -> web.Application:
    async def show(request: web.Request) -> web.Response:
        rows = "".join(f"<p id={name}>{escape(text)}</p>" for name, text in request.query.items())
        return web.Response(text=f"<h1>Home</h1>{rows}", content_type="text/html")

    app = web.Application()
    app.router.add_get("/home", show)
    return app


async def confirm(stage: Stage, page: Page, person: str = "alice", verb: str = "confirm") -> None:
    """Scan the code on the page and confirm, or deny, on the phone."""
    scene = await scene_on(page)
    async with PhoneClient(stage.site.provider.phones, person) as phone:
        scanned = await phone.post("scan", {"scene": scene})
        await shows(page, "scanned")
        answer = await phone.post(verb, {"login_id": scanned.body["login_id"]})
        assert answer.status == 200, answer.body


async def is_home(page: Page, field: str = "code") -> None:
    await expect(page.locator("h1")).to_have_text("Home", timeout=WAIT_MS)
    await expect(page.locator(f"#{field}")).to_be_visible()


async def fits(page: Page) -> bool:
    return not await page.evaluate(
        "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )


@pytest.mark.parametrize("mode", ["query", "form_post"])
async def test_login_returns_through_three_origins_in_chromium(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path, mode: str
) -> None:
    async with staged(start_broker, tmp_path) as stage:
        page = await open_page(chromium, stage.url(response_mode=mode))
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        collect_errors(
            page,
            complaints,
            is_expected=lambda line: line.location["url"].endswith("/favicon.ico"),
        )

        logo = page.locator("main > header img.logo")
        await expect(logo).to_be_visible()
        await expect(logo).to_have_js_property("complete", True)
        assert await logo.evaluate("logo => logo.naturalWidth") == 52
        await confirm(stage, page)

        await is_home(page)
        await expect(page.locator("#state")).to_have_text("s&=1")
        assert complaints == []


async def test_second_visit_needs_no_scan(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path
) -> None:
    async with staged(start_broker, tmp_path) as stage:
        page = await open_page(chromium, stage.url())
        await confirm(stage, page)
        await is_home(page)

        await page.goto(stage.url(state="again"))

        await is_home(page)
        await expect(page.locator("#state")).to_have_text("again")


async def test_second_app_needs_no_scan(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path
) -> None:
    async with staged(start_broker, tmp_path) as stage:
        page = await open_page(chromium, stage.url())
        await confirm(stage, page)
        await is_home(page)
        first = await page.locator("#code").inner_text()

        await page.goto(stage.other.url(redirect_uri=stage.callback, state="other"))

        await is_home(page)
        await expect(page.locator("#state")).to_have_text("other")
        assert await page.locator("#code").inner_text() != first


async def test_number_on_the_sign_in_page_signs_in(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path
) -> None:
    async with staged(start_broker, tmp_path) as stage:
        page = await open_page(chromium, stage.bank.url(redirect_uri=stage.callback))
        scene = await scene_on(page)
        async with PhoneClient(stage.site.provider.phones, "alice") as phone:
            scanned = await phone.post("scan", {"scene": scene, "can": ["match"]})
            await shows(page, "number")
            number = await page.locator("scan-login .number").inner_text()
            assert number in scanned.body["match"]["choices"]
            await phone.post("confirm", {"login_id": scanned.body["login_id"], "match": number})

        await is_home(page)


async def test_two_tabs_finish_their_own_requests(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path
) -> None:
    async with staged(start_broker, tmp_path) as stage:
        first = await open_page(chromium, stage.url(state="first"))
        second = await first.context.new_page()
        await second.goto(stage.url(state="second"))

        await confirm(stage, second)
        await is_home(second)
        await confirm(stage, first)
        await is_home(first)

        await expect(first.locator("#state")).to_have_text("first")
        await expect(second.locator("#state")).to_have_text("second")


async def test_back_button_does_not_end_at_a_dead_page(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path
) -> None:
    async with staged(start_broker, tmp_path) as stage:
        page = await open_page(chromium, stage.home)
        await page.goto(stage.url())
        await confirm(stage, page)
        await is_home(page)

        await page.go_back(wait_until="commit")

        await is_home(page)


async def test_denied_login_can_be_cancelled(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path
) -> None:
    async with staged(start_broker, tmp_path) as stage:
        page = await open_page(chromium, stage.url())
        await confirm(stage, page, verb="deny")
        await shows(page, "denied")

        await page.get_by_role("button", name="Cancel and return to Grafana").click()

        await is_home(page, "error")
        await expect(page.locator("#error")).to_have_text("access_denied")


async def test_expired_request_links_to_the_app(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path, loop_clock: LoopClock
) -> None:
    async with staged(start_broker, tmp_path, clock=loop_clock) as stage:
        page = await open_page(chromium, stage.url())
        await shows(page, "code")
        await loop_clock.move(601)

        await page.get_by_role("button", name="Cancel and return to Grafana").click()

        await expect(page.locator("h1")).to_have_text("This sign-in has ended")


async def test_logout_asks_and_signs_out(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path
) -> None:
    async with staged(start_broker, tmp_path) as stage:
        page = await open_page(chromium, stage.url())
        await confirm(stage, page)
        await is_home(page)

        await page.goto(f"{stage.site.provider.issuer}/oauth/logout?client_id=site")
        await page.get_by_role("button", name="Sign out").click()

        await expect(page.locator("h1")).to_have_text("You are signed out", timeout=WAIT_MS)
        await page.get_by_role("link", name="Go to Grafana").click()
        await expect(page.locator("h1")).to_have_text("Home")


@pytest.mark.parametrize(("language", "width", "scheme"), LOOKS)
async def test_pages_fit_in_each_look(
    chromium: Browser,
    start_broker: StartBroker,
    tmp_path: Path,
    language: str,
    width: str,
    scheme: str,
) -> None:
    look = {
        "locale": language,
        "color_scheme": scheme,
        "viewport": VIEWPORTS[width],
    }
    name = f"oidc-{language[:2]}-{width}-{scheme}"
    async with staged(start_broker, tmp_path) as stage:
        scope = "openid profile email groups offline_access"
        url = stage.url(scope=scope, login_hint="alice@example.com")
        page = await open_page(chromium, url, **look)
        await scene_on(page)
        await keep(page, f"{name}-1-sign-in")
        assert await fits(page)
        issuer = stage.site.provider.issuer
        await confirm(stage, page)
        await is_home(page)
        pages = {
            "2-logout": f"{issuer}/oauth/logout",
            "3-error": f"{issuer}/oauth/authorize?client_id=site",
        }
        for number, address in pages.items():
            await page.goto(address)
            await keep(page, f"{name}-{number}")
            assert await fits(page)
        await page.goto(f"{issuer}/oauth/logout?client_id=site")
        await page.locator("button").click()
        await expect(page.locator(".icon.signed_out")).to_be_visible(timeout=WAIT_MS)
        await keep(page, f"{name}-4-signed-out")
        assert await fits(page)


HANDSET = {
    "viewport": NARROW,
    "is_mobile": True,
    "has_touch": True,
    "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
}


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
async def test_phone_opens_the_app_and_signs_in(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path, language: str
) -> None:
    """A phone cannot scan its own screen. The link is that of the app whose phones may scan."""
    app_url = "weixin://dl/business/?query=scene%3D{scene}"
    async with staged(start_broker, tmp_path, open_url=app_url) as stage:
        page = await open_page(chromium, stage.url(), locale=language, **HANDSET)
        link = page.locator("scan-login a.open")
        await expect(link).to_be_visible()
        await expect(page.locator(".handset")).to_be_visible()
        await keep(page, f"oidc-handset-{language}")
        assert await fits(page)
        href = str(await link.get_attribute("href"))
        prefix, _, end = app_url.partition("{scene}")
        assert href.startswith(prefix)
        scene = href.removeprefix(prefix).removesuffix(end)

        async with PhoneClient(stage.site.provider.phones, "alice") as phone:
            scanned = await phone.post("scan", {"scene": scene})
            await phone.post("confirm", {"login_id": scanned.body["login_id"]})

        await is_home(page)


async def test_page_without_javascript_shows_the_reason(
    chromium: Browser, start_broker: StartBroker, tmp_path: Path
) -> None:
    async with staged(start_broker, tmp_path) as stage:
        page = await open_page(chromium, stage.url(), java_script_enabled=False)

        await keep(page, "oidc-noscript")
        await expect(page.locator("noscript p")).to_be_visible()
