"""The widget in pages of sites, and on bad networks."""

from __future__ import annotations

import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
from playwright.async_api import (
    Browser,
    Page,
    Request,
    Route,
    ViewportSize,
    WebSocketRoute,
    expect,
)

from broker.widget.api import STATIC
from tests.support.builders import FixedDirectory, StartBroker
from tests.support.environment import ROOT, miss
from tests.support.pages import (
    NARROW,
    WAIT_MS,
    Stage,
    keep,
    open_page,
    open_page_with_clock,
    scan,
    shows,
    staged,
)
from tests.support.proxy import Proxy
from tests.support.waiting import eventually
from tests.support.widget_pages import Serve, log_in, record_console

JS = Path(__file__).parent / "js"
DEFINED = {
    "process.env.NODE_ENV": '"production"',
    "__VUE_OPTIONS_API__": "true",
    "__VUE_PROD_DEVTOOLS__": "false",
    "__VUE_PROD_HYDRATION_MISMATCH_DETAILS__": "false",
}
REGISTER_URL = "https://site.example/register"

LOOKS: list[tuple[str, ViewportSize, Literal["light", "dark"]]] = [
    ("wide", {"width": 1280, "height": 800}, "light"),
    ("wide", {"width": 1280, "height": 800}, "dark"),
    ("narrow", {"width": 360, "height": 740}, "light"),
    ("narrow", {"width": 360, "height": 740}, "dark"),
]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the built pages of tests/clients/js and with RequireJS."""
    modules = JS / "node_modules"
    if not (modules / "vue").exists():
        miss("the pages' libraries are not installed: make test does so, by npm")
    folder = tmp_path_factory.mktemp("bundles")
    defined = [f"--define:{name}={value}" for name, value in DEFINED.items()]
    command = [str(modules / ".bin/esbuild"), "react.js", "vue.js", "--bundle", "--log-level=error"]
    subprocess.run([*command, *defined, f"--outdir={folder}"], cwd=JS, check=True, timeout=60)
    (folder / "require.js").write_bytes((modules / "requirejs/require.js").read_bytes())
    return folder


async def texts_on(page: Page) -> str:
    """The visible text of the widget."""
    return await page.locator("scan-login .card").inner_text()


# ---- handlers ----

FRAMEWORK = "<div id=app></div><script>BROKER = '{broker}'</script>"
WIDGET = "<script src='{broker}/scan-login.js'></script>"
BUNDLES = [
    ("react", ""),
    ("vue", "?binding=:onlogin"),
    ("vue", "?binding=.onlogin"),
    ("vue", "?binding=@login"),
]


@pytest.mark.parametrize(("framework", "query"), BUNDLES)
async def test_framework_handler_gets_the_token(
    chromium: Browser, serve: Serve, bundles: Path, framework: str, query: str
) -> None:
    html = f"{WIDGET}{FRAMEWORK}<script src='{framework}.js'></script>"
    served = await serve(html, files=bundles)
    page = await open_page(chromium, served.url + query)

    await log_in(page, served)

    await shows(page, "done")
    await expect(page.locator("h1")).to_have_text("pretend:alice", timeout=WAIT_MS)
    assert len(served.tokens) == 1


@pytest.mark.parametrize(("framework", "query"), [BUNDLES[0], BUNDLES[2], BUNDLES[3]])
async def test_framework_handler_mounted_before_the_widget_gets_the_token(
    chromium: Browser, serve: Serve, bundles: Path, framework: str, query: str
) -> None:
    served = await serve(f"{FRAMEWORK}<script src='{framework}.js'></script>", files=bundles)
    page = await open_page(chromium, served.url + query)
    await page.locator("scan-login").wait_for(state="attached")
    await page.add_script_tag(url=f"{served.broker.url}/scan-login.js")

    await log_in(page, served)

    await shows(page, "done")
    await expect(page.locator("h1")).to_have_text("pretend:alice", timeout=WAIT_MS)
    assert len(served.tokens) == 1


async def test_vue_attribute_set_before_the_widget_is_reported(
    chromium: Browser, serve: Serve, bundles: Path
) -> None:
    served = await serve(f"{FRAMEWORK}<script src='vue.js'></script>", files=bundles)
    page = await open_page(chromium, served.url)
    lines = record_console(page)
    await page.locator("scan-login").wait_for(state="attached")
    await page.add_script_tag(url=f"{served.broker.url}/scan-login.js")

    await log_in(page, served)

    await shows(page, "unhandled")
    assert any("the attribute onlogin is not supported" in line for line in lines)


@pytest.mark.parametrize(("framework", "query"), BUNDLES[:3])
async def test_rejected_framework_handler_is_shown(
    chromium: Browser, serve: Serve, bundles: Path, framework: str, query: str
) -> None:
    html = f"{WIDGET}{FRAMEWORK}<script src='{framework}.js'></script>"
    served = await serve(html, files=bundles)
    served.answer[0] = 500
    page = await open_page(chromium, served.url + query)

    await log_in(page, served)

    await shows(page, "rejected")


PLAIN = f"{WIDGET}<scan-login></scan-login>"


@pytest.mark.parametrize(
    ("script", "view"),
    [
        ("widget.onlogin = (token) => take(token.access_token)", "done"),
        ("widget.onlogin = async () => { throw new Error('no') }", "rejected"),
        ("widget.onlogin = () => { throw new Error('no') }", "rejected"),
        ("widget.onlogin = 'take()'", "unhandled"),
        ("widget.setAttribute('onlogin', 'take()')", "unhandled"),
        ("widget.addEventListener('login', (event) => take(event.access_token))", "done"),
        ("document.addEventListener('scan-login-token', (event) => take(event.detail))", "done"),
        ("document.addEventListener('scan-login-token', (event) => take(event.type))", "unhandled"),
        ("widget.addEventListener('login', async (event) => fail(event.detail))", "rejected"),
        (
            "window.onerror = () => { broken = true };"
            "widget.addEventListener('login', () => {});"
            "widget.dispatchEvent(new Event('login'));"
            "if (!broken) widget.onlogin = take",
            "done",
        ),
        (
            "const fn = (event) => take(event.detail);"
            "widget.addEventListener('login', fn); widget.removeEventListener('login', fn)",
            "unhandled",
        ),
        (
            "document.addEventListener('scan-login-token',"
            " (event) => event.waitUntil(fail(event.detail)))",
            "rejected",
        ),
        ("", "unhandled"),
    ],
)
async def test_view_after_the_token_depends_on_its_handlers(
    chromium: Browser, serve: Serve, script: str, view: str
) -> None:
    helpers = "let broken; const take = () => {}, fail = async () => { throw new Error('no') };"
    script = f"const widget = document.querySelector('scan-login');{helpers}{script}"
    served = await serve(f"{PLAIN}<script>{script}</script>")
    page = await open_page(chromium, served.url)

    await log_in(page, served)

    await shows(page, view)


@pytest.mark.parametrize(("language", "scheme"), [("en-GB", "light"), ("zh-CN", "dark")])
async def test_unhandled_token_is_explained_to_person_and_developer(
    chromium: Browser, serve: Serve, language: str, scheme: str
) -> None:
    served = await serve(PLAIN)
    look = {"locale": language, "color_scheme": scheme, "viewport": NARROW}
    page = await open_page(chromium, served.url, **look)
    lines = record_console(page)

    await log_in(page, served)

    await shows(page, "unhandled")
    await keep(page, f"unhandled-{language[:2]}-{scheme}")
    assert any("no handler took the token" in line for line in lines)
    assert "onlogin" not in await texts_on(page)


async def test_handler_that_never_settles_ends_as_rejected(chromium: Browser, serve: Serve) -> None:
    script = "document.querySelector('scan-login').onlogin = () => new Promise(() => {})"
    served = await serve(f"{PLAIN}<script>{script}</script>")
    page = await open_page(chromium, "about:blank")
    await page.clock.install()
    await page.goto(served.url)
    await log_in(page, served)
    await shows(page, "confirmed")

    await page.clock.fast_forward(31_000)

    await shows(page, "rejected")


# ---- the page's globals and the widget's address ----

WATCHED = """
for (const name of ["define", "module", "exports", "io"]) {
  let value = window[name];
  Object.defineProperty(window, name, {
    get() { touched.push(`read ${name} ${new Error().stack}`); return value; },
    set(other) { touched.push(`write ${name} ${new Error().stack}`); value = other; },
  });
}
"""


async def test_widget_in_a_requirejs_page_touches_no_global(
    chromium: Browser, serve: Serve, bundles: Path
) -> None:
    watch = f"<script>touched = [];{WATCHED}</script>"
    served = await serve(f"{watch}<script src='require.js'></script>{PLAIN}", files=bundles)
    (bundles / "own.js").write_text("define([], () => 'the own module')")
    page = await open_page(chromium, served.url)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await shows(page, "code")

    loaded = await page.evaluate("new Promise((resolve, fail) => require(['own'], resolve, fail))")

    touched = await page.evaluate("touched")
    assert loaded == "the own module"
    assert any("own.js" in access for access in touched)
    assert [access for access in touched if served.broker.url in access] == []
    assert complaints == []


SUB_PATH = "login-broker"


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """A site's folder with the broker's scripts below a path."""
    folder = tmp_path / "site" / SUB_PATH
    (folder / "socket.io").mkdir(parents=True)
    for name in ("scan-login.js", "scan-login-1.0.0.js"):
        (folder / name).write_bytes((STATIC / "scan-login.js").read_bytes())
    client = (STATIC / "vendor/socket.io.esm.min.js").read_bytes()
    (folder / "socket.io/socket.io.esm.min.js").write_bytes(client)
    return folder.parent


@pytest.mark.parametrize(
    "script",
    [
        f"<script src='{SUB_PATH}/scan-login.js?v=1'></script>",
        f"<script src='{SUB_PATH}/scan-login.js' type=module></script>",
        f"<script src='{SUB_PATH}/scan-login-1.0.0.js' type=module></script>",
        f"<script type=module>import './{SUB_PATH}/scan-login.js'</script>",
        f"<script>import('./{SUB_PATH}/scan-login.js')</script>",
    ],
)
async def test_broker_is_the_folder_of_the_script(
    chromium: Browser, serve: Serve, below: Path, script: str
) -> None:
    served = await serve(f"<scan-login></scan-login>{script}", files=below)
    page = await open_page(chromium, "about:blank")

    async with page.expect_websocket() as opened:
        await page.goto(served.url)

    address = (await opened.value).url
    assert address.startswith(f"{served.url.replace('http', 'ws')}/{SUB_PATH}/socket.io/?")


async def test_broker_attribute_overrides_the_scripts_folder(
    chromium: Browser, serve: Serve, below: Path
) -> None:
    script = f"<script src='{SUB_PATH}/scan-login.js'></script>"
    served = await serve(f"{script}<scan-login broker='{{broker}}'></scan-login>", files=below)
    page = await open_page(chromium, served.url)

    await shows(page, "code")


async def test_widget_works_under_the_documented_policy(chromium: Browser, serve: Serve) -> None:
    docs = (ROOT / "docs/widget.md").read_text()
    [policy] = re.findall(r"```\n(script-src.*?)```", docs, re.DOTALL)
    policy = policy.replace("wss://login.example", "{socket}").replace("\n", " ")
    policy = policy.replace("https://login.example", "{broker}")
    policy += "; default-src 'none'; require-trusted-types-for 'script'"
    served = await serve(f'<meta http-equiv=Content-Security-Policy content="{policy}">{PLAIN}')
    page = await open_page(chromium, "about:blank")
    lines = record_console(page)

    await page.goto(served.url)

    await shows(page, "code")
    assert [line for line in lines if "Content Security Policy" in line] == []


# ---- texts ----


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
async def test_unknown_app_shows_a_translated_sentence(
    chromium: Browser, serve: Serve, language: str
) -> None:
    served = await serve(PLAIN.replace("<scan-login>", "<scan-login app=nothing>"))
    page = await open_page(chromium, "about:blank", locale=language, viewport=NARROW)
    lines = record_console(page)

    await page.goto(served.url)

    await shows(page, "refused")
    await keep(page, f"refused-{language[:2]}")
    words = {"en-GB": "Please contact the site's administrator.", "zh-CN": "请联系网站管理员"}
    assert words[language] in await texts_on(page)
    assert any(line.startswith("scan-login: invalid_client: ") for line in lines)


@pytest.mark.parametrize("polls", [False, True])
async def test_refused_origin_shows_a_translated_sentence(
    chromium: Browser, start_broker: StartBroker, polls: bool
) -> None:
    async with staged(start_broker, blocks_websockets=polls) as stage:
        other = stage.site.replace("127.0.0.1", "localhost")
        page = await open_page(chromium, "about:blank", locale="zh-CN")
        lines = record_console(page)

        await page.goto(other)

        await shows(page, "refused")
        assert not re.search("[a-z]", await texts_on(page))
        assert any("scan-login: invalid_client: " in line for line in lines)


async def test_unknown_error_word_shows_a_translated_sentence(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker, blocks_websockets=True) as stage:
        page = await open_page(chromium, "about:blank", locale="zh-CN")
        lines = record_console(page)
        answer = {"error": "brand_new", "error_description": "words for developers"}
        await page.route(
            "**/oauth/device_authorization",
            lambda route: route.fulfill(
                status=400, json=answer, headers={"Access-Control-Allow-Origin": "*"}
            ),
        )

        await page.goto(stage.site)

        await shows(page, "error")
        assert not re.search("[a-z]", await texts_on(page))
        assert "scan-login: brand_new: words for developers" in lines


# ---- networks ----


async def test_swallowed_websocket_does_not_delay_the_code(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        stage.proxy.hold_websockets()
        page = await open_page(chromium, stage.site)
        await shows(page, "code")
        assert stage.proxy.holds == 1  # the widget did not wait for this attempt to fail
        await eventually(lambda: stage.proxy.held == 0, 30)

        phone = await scan(chromium, stage, page)
        await phone.locator("#allow").click()

        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=30_000)


async def test_websocket_that_wins_cancels_the_polled_login(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        stage.proxy.hold_websockets()
        page = await open_page(chromium, "about:blank")
        begun: dict[str, str] = {}

        async def win(route: Route) -> None:
            response = await route.fetch()
            begun.update(await response.json())
            stage.proxy.pass_websockets()
            await shows(page, "code")
            await route.fulfill(response=response)

        await page.route("**/oauth/device_authorization", win)
        await page.goto(stage.site)
        await eventually(lambda: begun, 30)

        async def is_cancelled() -> bool:
            form = {
                "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
                "device_code": begun["device_code"],
                "client_id": "default",
            }
            url = f"http://127.0.0.1:{stage.proxy.port}/oauth/token"
            async with aiohttp.ClientSession() as http, http.post(url, data=form) as response:
                return bool((await response.json())["error"] == "invalid_grant")

        await eventually(is_cancelled, 30)
        phone = await scan(chromium, stage, page)
        await phone.locator("#allow").click()
        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=30_000)


async def test_client_that_failed_to_load_is_loaded_again(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, "about:blank")
        down = True

        async def fail(route: Route, request: Request) -> None:
            is_widget = request.url.endswith("/scan-login.js")
            await (route.abort() if down and not is_widget else route.continue_())

        await page.route(f"http://127.0.0.1:{stage.proxy.port}/**", fail)
        await page.goto(stage.site)
        await shows(page, "offline")

        async with page.expect_websocket(timeout=30_000):
            down = False

        await shows(page, "code")


async def pause_timers(page: Page) -> None:
    await page.clock.pause_at(await page.evaluate("Date.now()") / 1_000 + 1)


async def test_lost_connection_stops_spinning_and_offers_a_button(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, "about:blank", viewport=NARROW)
        await page.clock.install()
        await page.goto(stage.site)
        await shows(page, "code")
        stage.proxy.cut()
        await shows(page, "offline")

        await page.clock.fast_forward(61_000)
        await shows(page, "unreachable")
        await keep(page, "unreachable")
        await pause_timers(page)  # the client would reconnect before the click
        stage.proxy.restore()
        await page.locator("scan-login .button:visible").first.click()
        await page.clock.resume()

        await shows(page, "code")


async def test_socket_that_swallows_begin_ends_as_an_error(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, "about:blank", locale="zh-CN")
        lines = record_console(page)
        begins: list[str | bytes] = []

        def swallow(socket: WebSocketRoute) -> None:
            server = socket.connect_to_server()

            def pass_on(message: str | bytes) -> None:
                if '"begin"' in str(message):
                    begins.append(message)
                else:
                    server.send(message)

            socket.on_message(pass_on)

        await page.route_web_socket(re.compile("/socket.io/"), swallow)
        await page.clock.install()
        await page.goto(stage.site)

        def has_begun(times: int) -> bool:
            return len(begins) == times

        for attempts in (1, 2, 3):
            await eventually(partial(has_begun, attempts), 30)
            await page.clock.fast_forward(9_000)

        await shows(page, "error")
        assert any(line.startswith("scan-login: unanswered: ") for line in lines)


async def record_polls(page: Page, proxy: Proxy) -> list[int]:
    """Return a list that gets the number of pending upgrades at each poll."""
    pending: list[int] = []

    async def record(route: Route) -> None:
        pending.append(proxy.held)
        await route.continue_()

    await page.route("**/oauth/token", record)
    return pending


async def test_swallowed_reconnect_does_not_delay_the_result(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)
        await shows(page, "scanned")
        pending = await record_polls(page, stage.proxy)

        stage.proxy.hold_websockets()
        stage.proxy.cut()
        await shows(page, "offline")
        stage.proxy.restore()
        await phone.locator("#allow").click()

        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=30_000)
        assert 1 in pending  # without a poll in parallel, none is sent while an upgrade is pending


async def test_swallowed_reconnect_after_disconnect_continues_by_polling(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, "about:blank")
        sockets: list[WebSocketRoute] = []

        def connect(socket: WebSocketRoute) -> None:
            sockets.append(socket)
            if len(sockets) == 1:
                socket.connect_to_server()  # later sockets get no answer

        await page.route_web_socket(re.compile("/socket.io/"), connect)
        await page.goto(stage.site)
        await shows(page, "code")

        sockets[0].send("41/login,")  # a disconnect packet
        await shows(page, "offline")

        await shows(page, "code")
        assert len(sockets) == 2


async def page_that_lost_its_socket(chromium: Browser, stage: Stage) -> tuple[Page, list[int]]:
    """Return a page with paused timers whose proxy refuses connections, and its later polls."""
    page = await open_page(chromium, "about:blank")
    await page.clock.install()
    await page.add_init_script("Math.random = () => 0.99")  # the longest delays of the client
    await page.goto(stage.site)
    await shows(page, "code")
    polls = await record_polls(page, stage.proxy)
    await pause_timers(page)
    stage.proxy.cut()
    await shows(page, "offline")
    return page, polls


async def test_refused_reconnect_keeps_the_login_on_the_socket(
    chromium: Browser, start_broker: StartBroker
) -> None:
    """A broker that restarts does not move its browsers to polling."""
    async with staged(start_broker) as stage:
        page, polls = await page_that_lost_its_socket(chromium, stage)

        async with page.expect_websocket() as opened:
            await page.clock.run_for(1_600)
        refused = await opened.value
        await eventually(refused.is_closed, 30)
        stage.proxy.restore()
        await page.clock.run_for(2_700)  # the second attempt is 3 seconds after the first
        assert await page.locator("scan-login .card").get_attribute("data-view") == "offline"
        await page.clock.run_for(1_000)

        await shows(page, "code")
        assert polls == []


async def test_dropped_reconnect_keeps_the_login_on_the_socket(
    chromium: Browser, start_broker: StartBroker
) -> None:
    """The timer of an attempt that succeeded does not take a later outage for a pending attempt."""
    async with staged(start_broker) as stage:
        page, polls = await page_that_lost_its_socket(chromium, stage)
        stage.proxy.restore()
        await page.clock.run_for(1_600)
        await shows(page, "code")

        await page.clock.run_for(1_200)
        stage.proxy.cut()
        await shows(page, "offline")
        stage.proxy.restore()
        await page.clock.run_for(2_000)

        await shows(page, "code")
        assert polls == []


async def answer_unavailable(route: Route) -> None:
    headers = {"Access-Control-Allow-Origin": "*"}
    answer = {"error": "temporarily_unavailable", "retry_after": 1}
    await route.fulfill(status=503, json=answer, headers=headers)


async def test_unavailable_broker_does_not_end_the_reconnect(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with staged(start_broker) as stage:
        page = await open_page(chromium, stage.site)
        await shows(page, "code")
        await page.route("**/oauth/token", answer_unavailable)
        stage.proxy.hold_websockets()
        stage.proxy.cut()
        await shows(page, "offline")

        async with page.expect_response("**/oauth/token", timeout=WAIT_MS):
            stage.proxy.restore()
        stage.proxy.pass_websockets()

        await shows(page, "code")


async def test_polling_shows_the_code_again_after_an_outage(
    chromium: Browser, start_broker: StartBroker
) -> None:
    """The first answer is that the broker is unavailable."""

    async def abort(route: Route) -> None:
        await route.abort()

    async with staged(start_broker, blocks_websockets=True) as stage:
        page = await open_page_with_clock(chromium, stage.site)
        await shows(page, "code")
        await page.route("**/oauth/token", answer_unavailable, times=1)
        await page.route("**/oauth/token", abort)
        await shows(page, "offline")

        await page.unroute("**/oauth/token", abort)
        async with page.expect_response("**/oauth/token", timeout=WAIT_MS) as answered:
            await page.clock.fast_forward(7_000)

        assert (await answered.value).status == 503
        await shows(page, "code")


# ---- registration ----


@pytest.mark.parametrize("polls", [False, True])
async def test_registration_replaces_the_code_and_login_resumes(
    chromium: Browser, start_broker: StartBroker, polls: bool
) -> None:
    register = FixedDirectory()
    settings = {"register": register, "register_url": REGISTER_URL, "blocks_websockets": polls}
    async with staged(start_broker, **settings) as stage:  # type: ignore[arg-type]
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)
        await shows(page, "scanned")
        await phone.locator("#allow").click()

        await shows(page, "unregistered")
        await expect(page.locator("scan-login .code")).to_be_hidden(timeout=WAIT_MS)
        await expect(page.get_by_role("timer")).to_have_text(
            re.compile(r"^Time left to register: (9:\d\d|10:00)$"), timeout=WAIT_MS
        )
        assert await page.locator("scan-login .register").get_attribute("href") == REGISTER_URL
        register.known.add("alice")
        await phone.locator("#again").click()

        await expect(page.locator("h1")).to_contain_text("Signed in as", timeout=30_000)


async def test_reconnected_page_recovers_a_missed_registration_push(
    chromium: Browser, start_broker: StartBroker
) -> None:
    settings = {"register": FixedDirectory(), "register_url": REGISTER_URL}
    async with staged(start_broker, **settings) as stage:  # type: ignore[arg-type]
        page = await open_page(chromium, stage.site)
        phone = await scan(chromium, stage, page)
        await shows(page, "scanned")
        stage.proxy.cut()
        await shows(page, "offline")
        await phone.locator("#allow").click()
        await expect(phone.locator("#register")).to_have_attribute("href", REGISTER_URL)

        stage.proxy.restore()

        await shows(page, "unregistered")
        assert await page.locator("scan-login .register").get_attribute("href") == REGISTER_URL


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
async def test_registration_view_fits_its_page(
    chromium: Browser, start_broker: StartBroker, language: str
) -> None:
    settings = {"register": FixedDirectory(), "register_url": REGISTER_URL}
    async with staged(start_broker, **settings) as stage:  # type: ignore[arg-type]
        page = await open_page(chromium, stage.site, locale=language)
        phone = await scan(chromium, stage, page, locale=language)
        await phone.locator("#allow").click()
        await shows(page, "unregistered")

        for name, size, scheme in LOOKS:
            await page.set_viewport_size(size)
            await page.emulate_media(color_scheme=scheme)
            await keep(page, f"unregistered-{language[:2]}-{name}-{scheme}")
            assert not await page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
