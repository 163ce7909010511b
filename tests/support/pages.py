"""Pages in Chromium."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

import zxingcpp
from PIL import Image
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    expect,
)

from broker.infrastructure.runtime.server import Site, serve_sites
from broker.infrastructure.runtime.settings import ServerSettings
from mp_stub.phone_page import build_phone_page
from tests.support.builders import FixedDirectory, RunningBroker, StartBroker
from tests.support.clients import PhoneClient
from tests.support.environment import ROOT, free_port, need_file
from tests.support.proxy import Proxy, proxying
from web_demo.site import build_site

SCREENSHOTS = ROOT / "tests/screenshots"

KEEPS_SCREENSHOTS = bool(os.environ.get("SCREENSHOTS"))
"""Whether tests keep pictures of the pages. No test compares them, and each takes 0.1 s."""

AXE = ROOT / "tests/clients/js/node_modules/axe-core/axe.min.js"

FINISH_TRANSITIONS = """
for (const animation of document.getAnimations())
  if (animation.effect.getComputedTiming().endTime < Infinity) animation.finish();
"""

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}

VIEWPORTS = {"wide": WIDE, "narrow": NARROW}

LOOKS = [
    ("en-GB", "wide", "light"),
    ("en-GB", "narrow", "dark"),
    ("zh-CN", "wide", "dark"),
    ("zh-CN", "narrow", "light"),
]
"""Every pair of language, viewport and colour scheme."""

WAIT_MS = 30_000
expect.set_options(timeout=WAIT_MS)

CHAT_ROOM = "lobby"

Schemes = tuple[Literal["light", "dark"], ...]

SCHEMES_BY_LANGUAGE: Mapping[str, Schemes] = {
    "en": ("light", "dark", "light"),
    "zh": ("dark", "light", "dark"),
}
"""The colour scheme for each of three window sizes: every pair of language, size and scheme."""


class Stage(NamedTuple):
    """The example site and the phone page, with a proxy between browsers and broker.

    broker: `url` is its address without the proxy.
    """

    site: str
    phone: str
    proxy: Proxy
    broker: RunningBroker


@asynccontextmanager
async def staged(
    start_broker: StartBroker,
    *,
    register: FixedDirectory | None = None,
    blocks_websockets: bool = False,
    **settings: object,
) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxying(blocks_websockets=blocks_websockets))
        site_port, phone_port = free_port(), free_port()
        site_url, phone_url = (f"http://127.0.0.1:{port}" for port in (site_port, phone_port))
        broker = await start_broker(
            register,
            public_url=f"http://127.0.0.1:{proxy.port}",
            origins=site_url,
            phone_page_url=f"{phone_url}/",
            **settings,
        )
        proxy.lead_to(broker.settings[ServerSettings].port)
        site = build_site(
            broker_url=broker.settings[ServerSettings].public_url,
            phone_url=phone_url,
            chat_room=CHAT_ROOM,
        )
        phone = build_phone_page(broker_url=broker.url)
        await stack.enter_async_context(
            serve_sites(
                [
                    Site("site", site, "127.0.0.1", site_port, "PORT"),
                    Site("phone", phone, "127.0.0.1", phone_port, "PORT"),
                ]
            )
        )
        yield Stage(site_url, phone_url, proxy, broker)


async def open_page(chromium: Browser, url: str, **context: object) -> Page:
    """Open a page in a new browser context, by default wide and in English."""
    options = {"viewport": WIDE, "locale": "en-GB", **context}
    page = await (await chromium.new_context(**options)).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(WAIT_MS)
    await page.goto(url)
    return page


async def open_page_with_clock(chromium: Browser, url: str) -> Page:
    """Open a page whose clock a test can move forward."""
    page = await open_page(chromium, "about:blank")
    await page.clock.install()
    await page.goto(url)
    return page


def view(page: Page, name: str) -> Locator:
    """Return the locator of the widget's view `name`."""
    return page.locator(f"scan-login .card[data-view={name}]")


async def shows(page: Page, name: str) -> None:
    await expect(view(page, name)).to_be_visible(timeout=WAIT_MS)


async def keep(page: Page, name: str) -> None:
    """Keep a picture of the page for a person to look at, if SCREENSHOTS is set."""
    if not KEEPS_SCREENSHOTS:
        return
    SCREENSHOTS.mkdir(exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    await page.screenshot(path=path, full_page=True, animations="disabled")


def collect_errors(
    page: Page,
    texts: list[str],
    *,
    is_expected: Callable[[ConsoleMessage], bool] = lambda line: False,
) -> None:
    """Add the text of each error in the console of the page to `texts`, except expected ones."""

    def collect(line: ConsoleMessage) -> None:
        if line.type == "error" and not is_expected(line):
            texts.append(line.text)

    page.on("console", collect)


async def serious_findings(page: Page) -> list[str]:
    """Return the serious findings of axe-core on the page."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(Path(need_file(str(AXE))).read_text())
    await page.evaluate(FINISH_TRANSITIONS)  # a colour in a transition has another contrast
    found = await page.evaluate("axe.run({ preload: false, resultTypes: ['violations'] })")
    return [
        f"{one['id']}: {node['html']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


async def fits(page: Page) -> bool:
    return not await page.evaluate(
        "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )


async def scene_on(page: Page) -> str:
    """Return the scene of the code on the screen."""
    await expect(page.locator("scan-login .frame.drawn")).to_be_visible(timeout=WAIT_MS)
    picture = await page.locator("scan-login .frame").screenshot(animations="disabled")
    [code] = zxingcpp.read_barcodes(Image.open(io.BytesIO(picture)))
    [scene] = parse_qs(urlsplit(code.text).query)["scene"]
    return scene


async def confirm_on(page: Page, phones: str, person: str) -> None:
    """Scan the code on the page and confirm.  phones: the URL at which the phone calls."""
    scene = await scene_on(page)
    async with PhoneClient(phones, person) as phone:
        scanned = await phone.post("scan", {"scene": scene})
        await phone.post("confirm", {"login_id": scanned.body["login_id"]})


async def add_frame(page: Page, url: str) -> None:
    await page.evaluate(
        "url => document.body.append(Object.assign(document.createElement('iframe'), "
        "{ src: url }))",
        url,
    )


async def scan(chromium: Browser, stage: Stage, page: Page, **context: object) -> Page:
    """Scan the page's code as alice on a phone page, and return that page."""
    url = f"{stage.phone}/?scene={await scene_on(page)}"
    phone = await open_page(chromium, url, viewport=NARROW, **context)
    await phone.locator("input[value=alice]").check(force=True)
    await phone.locator("#scan").click()
    await expect(phone.locator("#confirm")).to_be_visible(timeout=WAIT_MS)
    return phone


def wrong(digits: str) -> str:
    """Return other digits."""
    return f"{(int(digits) + 1) % 10_000:04}"


async def type_digits(page: Page, digits: str) -> None:
    """Send the digits of a match in the widget."""
    await page.locator("scan-login input").fill(digits)
    await page.locator("scan-login input").press("Enter")
