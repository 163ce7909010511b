"""The pages in a real browser: Debian's Chromium with Playwright.

With SCREENSHOTS set, the views are also kept as tests/screenshots/*.png.
"""

from __future__ import annotations

import asyncio
import io
import re
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import zxingcpp
from aiohttp import web
from PIL import Image
from playwright.async_api import (
    Browser,
    Page,
    Response,
    Route,
    WebSocket,
    WebSocketRoute,
    expect,
)

from broker.infrastructure.runtime.server import Site, serve_sites
from mp_stub.phone import Phone
from tests.support.builders import FixedDirectory, StartBroker
from tests.support.client_packages import python_command
from tests.support.clients import PhoneClient
from tests.support.demo import demo, run_curl
from tests.support.environment import ROOT, free_port
from tests.support.loop_clock import LoopClock
from tests.support.pages import (
    LOOKS,
    NARROW,
    VIEWPORTS,
    WAIT_MS,
    collect_errors,
    keep,
    open_page,
    open_page_with_clock,
    scan,
    scene_on,
    shows,
    staged,
)
from tests.support.servers.redis import Engines

HEADLINES = {"en-GB": "Signed in as alice", "zh-CN": "已登录：alice"}


@pytest.mark.parametrize(("language", "width", "scheme"), LOOKS)
async def test_scan_and_confirm_sign_the_browser_in(
    chromium: Browser,
    start_broker: StartBroker,
    language: str,
    width: str,
    scheme: str,
) -> None:
    name = f"{language[:2]}-{width}-{scheme}"
    look = {"locale": language, "color_scheme": scheme}
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site, viewport=VIEWPORTS[width], **look)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        collect_errors(page, complaints)
        await shows(page, "code")
        await keep(page, f"{name}-1-code")
        phone = await scan(chromium, stage, page, **look)
        await shows(page, "scanned")
        await keep(page, f"{name}-2-scanned")
        await keep(phone, f"{name}-3-phone")

        await phone.locator("#allow").click()

        await expect(page.locator("h1")).to_have_text(HEADLINES[language], timeout=WAIT_MS)
        await keep(page, f"{name}-4-signed-in")
        await expect(phone.locator("#outcome")).to_be_visible()
        await keep(phone, f"{name}-5-phone-done")
        assert complaints == []
        assert not await page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )


async def test_phone_page_shows_facts_and_equal_buttons(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker, app_name="小店 & Co") as stage:
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)

        await expect(phone.locator("#fact-site")).to_have_text("小店 & Co")
        await expect(phone.locator("#fact-browser")).to_contain_text("Chrome")
        await expect(phone.locator("#fact-from")).to_contain_text("127.0.0.1")
        await expect(phone.locator("#fact-since")).to_contain_text("ago")
        boxes = [await phone.locator(button).bounding_box() for button in ("#deny", "#allow")]
        sizes = [(round(box["width"]), round(box["height"])) for box in boxes if box]
        looks = [
            await phone.locator(button).evaluate(
                "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor,"
                " document.activeElement === e].join()"
            )
            for button in ("#deny", "#allow")
        ]
        assert sizes[0] == sizes[1]
        assert looks[0] == looks[1]
        assert looks[0].endswith("false")


async def test_denied_login_can_be_retried(chromium: Browser, start_broker: StartBroker) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)

        await phone.locator("#deny").click()

        await shows(page, "denied")
        await keep(page, "denied")
        await page.locator("scan-login .button:visible").first.click()
        await shows(page, "code")


async def expire(page: Page, loop_clock: LoopClock) -> None:
    """Move the clocks of the page and the broker by 21 seconds."""
    await page.clock.fast_forward(21_000)
    await loop_clock.move(21)


async def refresh_by_hand(page: Page) -> None:
    await page.locator("scan-login").evaluate("(e) => e.setAttribute('auto_refresh', 'off')")


async def test_expired_code_is_replaced_by_one_click(
    chromium: Browser, start_broker: StartBroker, loop_clock: LoopClock
) -> None:
    async with staged(start_broker, login_lifetime=20, clock=loop_clock) as stage:
        page = await open_page_with_clock(chromium, stage.site)
        first = await scene_on(page)
        await refresh_by_hand(page)

        await expire(page, loop_clock)

        await shows(page, "expired")
        await keep(page, "expired")
        await page.locator("scan-login .button:visible").first.click()

        await shows(page, "code")
        assert await scene_on(page) != first


async def test_lost_login_gets_a_new_code(
    chromium: Browser, start_broker: StartBroker, engines: Engines
) -> None:
    """Redis restarts without its data."""
    async with staged(start_broker, state_url=engines.url("valkey")) as stage:
        page = await open_page(chromium, stage.site)
        await shows(page, "code")
        lost = await page.locator("scan-login .code").get_attribute("src")

        engines.empty("valkey")

        await expect(page.locator("scan-login .code")).not_to_have_attribute(
            "src", lost or "", timeout=WAIT_MS
        )
        await shows(page, "code")


async def test_unknown_user_registers_and_signs_in(
    chromium: Browser, start_broker: StartBroker
) -> None:
    register = FixedDirectory()
    url = "https://site.example/register"
    async with staged(start_broker, register=register, register_url=url) as stage:
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)
        await phone.locator("#allow").click()

        await shows(page, "unregistered")
        await keep(page, "unregistered")
        assert await page.locator("scan-login .register").get_attribute("href") == url
        await expect(phone.locator("#register")).to_have_attribute("href", url)
        await keep(phone, "unregistered-phone")
        register.known.add("alice")
        await phone.locator("#again").click()

        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=WAIT_MS)


@pytest.mark.both_engines
async def test_widget_resumes_after_a_network_failure(
    chromium: Browser, start_broker: StartBroker
) -> None:
    """The phone confirms meanwhile. The browser signs in after it has reconnected."""
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)
        await shows(page, "scanned")

        stage.proxy.cut()
        await shows(page, "offline")
        await keep(page, "offline")
        await phone.locator("#allow").click()
        await expect(phone.locator("#outcome")).to_be_visible()
        stage.proxy.restore()

        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=30_000)


@pytest.mark.both_engines
async def test_blocked_websocket_falls_back_to_polling(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker, blocks_websockets=True) as stage:
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)
        await shows(page, "scanned")

        await phone.locator("#allow").click()

        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=WAIT_MS)


async def test_broken_websocket_continues_login_by_polling(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)
        await shows(page, "scanned")

        stage.proxy.blocks_websockets = True
        stage.proxy.cut()
        await shows(page, "offline")
        stage.proxy.restore()
        await shows(page, "scanned")
        await phone.locator("#allow").click()

        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=30_000)


async def lose_first_token_on_websocket(page: Page, lost: list[str]) -> None:
    """Close the WebSocket instead of delivering the first token."""

    def connect(link: WebSocketRoute) -> None:
        server = link.connect_to_server()

        def deliver(message: str | bytes) -> None:
            if not lost and "access_token" in str(message):
                lost.append(str(message))
                asyncio.get_running_loop().create_task(link.close())
            else:
                link.send(message)

        server.on_message(deliver)

    await page.route_web_socket(re.compile("/socket.io/"), connect)


async def lose_first_token_on_polling(page: Page, lost: list[str]) -> None:
    """Reset the connection instead of delivering the first token."""

    async def fetch(route: Route) -> None:
        response = await route.fetch()
        text = await response.text()
        if not lost and "access_token" in text:
            lost.append(text)
            await route.abort("connectionreset")
        else:
            await route.fulfill(response=response)

    await page.route("**/oauth/token", fetch)


@pytest.mark.parametrize(
    ("lose_first_token", "polls"),
    [(lose_first_token_on_websocket, False), (lose_first_token_on_polling, True)],
    ids=["websocket", "polling"],
)
async def test_token_lost_in_transit_is_delivered_again(
    chromium: Browser,
    start_broker: StartBroker,
    lose_first_token: Callable[[Page, list[str]], Awaitable[None]],
    polls: bool,
) -> None:
    async with staged(start_broker, blocks_websockets=polls) as stage:
        lost: list[str] = []
        page = await open_page(chromium, "about:blank")
        await lose_first_token(page, lost)
        await page.goto(stage.site)
        phone = await scan(chromium, stage, page)
        await shows(page, "scanned")

        await phone.locator("#allow").click()

        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=30_000)
        assert len(lost) == 1


async def test_unregistered_user_is_shown_while_polling(
    chromium: Browser, start_broker: StartBroker
) -> None:
    url = "https://site.example/register"
    settings = {"register": FixedDirectory(), "blocks_websockets": True, "register_url": url}
    async with staged(start_broker, **settings) as stage:  # type: ignore[arg-type]
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)

        await phone.locator("#allow").click()

        await shows(page, "unregistered")
        assert await page.locator("scan-login .register").get_attribute("href") == url


@pytest.mark.both_engines
async def test_readme_example_signs_in(
    chromium: Browser, start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The examples are unchanged except for the URL of the broker."""
    monkeypatch.syspath_prepend(ROOT / "packages/client-python/src")
    readme = (ROOT / "README.md").read_text()
    [page_text] = re.findall(r"```html\n(.*?)```", readme, re.DOTALL)
    [check] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    port = free_port()
    broker = await start_broker(origins=f"http://127.0.0.1:{port}")
    scope: dict[str, Any] = {}
    exec(check.replace("https://login.example", broker.url), scope)

    async def show(request: web.Request) -> web.Response:
        text = page_text.replace("https://login.example", broker.url)
        return web.Response(text=f"<!doctype html>{text}", content_type="text/html")

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        return web.Response(text=await asyncio.to_thread(scope["user_of"], body))

    async def account(request: web.Request) -> web.Response:
        return web.Response(text="<h1>In</h1>", content_type="text/html")

    site = web.Application()
    site.add_routes([web.get("/", show), web.post("/session", take), web.get("/account", account)])
    async with serve_sites([Site("site", site, "127.0.0.1", port, "PORT")]) as addresses:
        page = await open_page(chromium, addresses["site"])
        answers: list[Response] = []
        page.on(
            "response", lambda one: answers.append(one) if one.url.endswith("session") else None
        )
        scene = await scene_on(page)
        async with Phone(broker=broker.url, name="alice") as phone:
            await phone.confirm((await phone.scan(scene))["login_id"])

        await expect(page.locator("h1")).to_have_text("In", timeout=WAIT_MS)
        assert [answer.status for answer in answers] == [200]


def quick_start(language: str) -> str:
    """The first example in `preferred_language` of docs/quick-start.md that is a file or a
    server.
    """
    text = (ROOT / "docs/quick-start.md").read_text()
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(next(one for one in found if language != "sh" or "flask --app" in one))


async def test_quick_start_site_signs_in(
    chromium: Browser, tmp_path: Path, python_folder: Path
) -> None:
    port = str(free_port())
    async with demo(SCAN_LOGIN_ORIGINS=f"http://127.0.0.1:{port}") as running:
        await running.line("Broker")
        ports = {"8000": "PORT", "8090": "PHONE_PORT"}
        moved = {printed: running.ports[name] for printed, name in ports.items()} | {"8081": port}
        for name, language in {"index.html": "html", "server.py": "python"}.items():
            text = re.sub(r"\b(8000|8081|8090)\b", lambda one: moved[one[1]], quick_start(language))
            (tmp_path / name).write_text(text)
        flask = shlex.split(quick_start("sh").replace("8081", port))[1:]
        site = await asyncio.create_subprocess_exec(
            *python_command(python_folder, "-m", "flask", *flask),
            cwd=tmp_path,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert site.stderr is not None
            while b"Running on" not in await site.stderr.readline():
                assert not site.stderr.at_eof()
            page = await open_page(chromium, f"http://127.0.0.1:{port}")
            await shows(page, "code")
            async with page.expect_popup() as popup:
                await page.get_by_text("Pretend to be the phone").click()
            phone = await popup.value

            await phone.locator("#scan").click(timeout=WAIT_MS)
            await phone.locator("#allow").click(timeout=WAIT_MS)

            heading = page.locator("h1")
            await expect(heading).to_have_text("Signed in as pretend:alice", timeout=WAIT_MS)
        finally:
            site.terminate()
            await site.communicate()


@pytest.mark.parametrize(
    ("language", "text"),
    [("en-GB", "Sign-in is temporarily unavailable"), ("zh-CN", "暂时无法登录")],
)
async def test_site_without_the_widget_shows_an_error(
    chromium: Browser, start_broker: StartBroker, language: str, text: str
) -> None:
    async with staged(start_broker) as stage:
        page = await (await chromium.new_context(locale=language)).new_page()
        await page.route("**/scan-login.js", lambda route: route.abort())

        await page.goto(stage.site)

        await expect(page.locator("scan-login")).to_be_visible(timeout=WAIT_MS)
        await expect(page.locator("scan-login")).to_contain_text(text)


async def test_sign_out_returns_to_the_login_page(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)
        await phone.locator("#allow").click()
        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=WAIT_MS)

        await page.get_by_role("button", name="Sign out").click()

        await shows(page, "code")


async def test_login_works_with_keyboard_and_screen_reader(
    chromium: Browser, start_broker: StartBroker, loop_clock: LoopClock
) -> None:
    async with staged(start_broker, login_lifetime=20, clock=loop_clock) as stage:
        page = await open_page_with_clock(chromium, stage.site)
        await shows(page, "code")
        await refresh_by_hand(page)
        await expire(page, loop_clock)
        await expect(page.get_by_role("status")).to_contain_text("expired", timeout=WAIT_MS)

        await page.get_by_role("button", name="New code").focus()
        await page.keyboard.press("Enter")

        await expect(page.get_by_role("status")).to_contain_text("Scan", timeout=WAIT_MS)
        await expect(page.get_by_role("img", name="code")).to_be_visible()


async def test_foreign_origin_shows_error_without_retries(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site.replace("127.0.0.1", "localhost"))

        await expect(page.locator("scan-login .card")).to_have_attribute(
            "data-view", "refused", timeout=WAIT_MS
        )
        await keep(page, "refused")


async def test_secret_is_not_exposed_to_the_page(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, "about:blank")
        heard: list[str] = []

        def listen(socket: WebSocket) -> None:
            socket.on("framereceived", lambda frame: heard.append(str(frame)))

        page.on("websocket", listen)
        await page.goto(stage.site)
        await shows(page, "code")
        [ack] = [frame for frame in heard if '"secret"' in frame]
        secret = ack.split('"secret":"')[1][:43]

        everything = await page.evaluate(
            "document.documentElement.outerHTML + document.querySelector('scan-login')"
            ".shadowRoot.innerHTML + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)"
            " + document.cookie + location.href"
        )

        assert secret not in everything


async def test_broker_pages_are_readable(chromium: Browser, start_broker: StartBroker) -> None:
    broker = await start_broker()
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.post("/oauth/device_authorization", data={"client_id": "default"}) as response,
    ):
        begun = await response.json()
    for width, viewport in VIEWPORTS.items():
        page = await open_page(chromium, broker.url, viewport=viewport)
        await keep(page, f"broker-index-{width}")
        await page.goto(f"{broker.url}/device")
        await keep(page, f"broker-device-{width}")

        await page.get_by_label("Code").fill(begun["user_code"])
        await page.get_by_role("button").click()

        assert page.url == begun["verification_uri_complete"]
        picture = await page.get_by_role("img").screenshot()
        [code] = zxingcpp.read_barcodes(Image.open(io.BytesIO(picture)))
        assert code.text.endswith(begun["scene"])
        await keep(page, f"broker-code-{width}")


CUT_ELEMENTS = """
[...document.querySelectorAll("body *")]
  .filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1).map((e) => e.tagName)
"""


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
async def test_broker_pages_fit_a_narrow_screen(
    chromium: Browser, start_broker: StartBroker, language: str
) -> None:
    broker = await start_broker()
    page = await open_page(chromium, "about:blank", viewport=NARROW, locale=language)

    for path in ("/", "/device", "/device?user_code=unknown"):
        await page.goto(broker.url + path)

        assert await page.evaluate("document.documentElement.scrollWidth") == NARROW["width"], path
        assert await page.evaluate(CUT_ELEMENTS) == [], path


@pytest.mark.parametrize(("language", "width", "scheme"), LOOKS)
async def test_device_page_continues_after_registration(
    chromium: Browser, start_broker: StartBroker, language: str, width: str, scheme: str
) -> None:
    register = FixedDirectory()
    url = "https://site.example/register"
    broker = await start_broker(register, register_url=url)
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.post("/oauth/device_authorization", data={"client_id": "default"}) as response,
    ):
        begun = await response.json()
    size = VIEWPORTS[width]
    look = {"locale": language, "viewport": size, "color_scheme": scheme}
    page = await open_page(chromium, begun["verification_uri_complete"], **look)
    await expect(page.get_by_role("img")).to_be_visible(timeout=WAIT_MS)
    await expect(page.get_by_role("link")).to_have_count(0)
    async with PhoneClient(broker.url) as phone:
        await phone.post("scan", {"scene": begun["scene"]})
        await phone.post("confirm", {"login_id": begun["login_id"]})

        await expect(page.locator("main.unregistered")).to_be_visible(timeout=WAIT_MS)
        await keep(page, f"device-unregistered-{language[:2]}-{width}-{scheme}")
        await expect(page.get_by_role("link")).to_have_attribute("href", url)
        await expect(page.get_by_role("img")).to_have_count(0)
        await expect(page.locator("form")).to_be_hidden()
        await expect(page.locator("html")).to_have_js_property("scrollWidth", size["width"])
        register.known.add("alice")
        await phone.post("confirm", {"login_id": begun["login_id"]})

    await expect(page.locator("main.done")).to_be_visible(timeout=WAIT_MS)


async def test_pool_code_works_while_wechat_is_down(
    chromium: Browser,
) -> None:
    async with demo("--pool") as running:
        broker, site, wechat = (
            f"http://127.0.0.1:{running.ports[name]}"
            for name in ("PORT", "SITE_PORT", "WECHAT_PORT")
        )
        await run_curl(await running.line("stable_token"))
        page = await open_page(chromium, site)
        complaints: list[str] = []
        collect_errors(page, complaints)

        scene = await scene_on(page)
        await keep(page, "pool-1-code")
        source = await page.locator("scan-login .code").get_attribute("src")
        async with Phone(broker=broker, name="alice", wechat=wechat) as phone:
            await phone.confirm((await phone.scan(scene))["login_id"])

        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=WAIT_MS)
        await keep(page, "pool-2-signed-in")
        assert source is not None
        assert source.startswith(f"{broker}/codes/")
        assert complaints == []
