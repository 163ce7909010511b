"""Tests of logins with pooled codes, with WeChat and without."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import jwt
import pytest
from aiohttp import web

from broker.apps.model import App
from broker.blobs.pictures import ObjectPictureStore
from broker.identity.ports import Provider
from broker.infrastructure.runtime.server import Site, serve_sites
from broker.pool.filler import PoolFiller
from broker.pool.model import CodeRecord, PoolLevel
from broker.pool.model import OfferedCode as Offered
from broker.records.pool_codes import SqlCodeStore
from broker.records.store import open_records
from broker.state import StateBackend, open_state
from broker.state.redis.code_leases import LEASE
from mp_stub.wechat.platform import person_id
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Payload, PythonBrowser
from tests.support.leaks import Monitor, monitored
from tests.support.pool import FAST, CountingProvider
from tests.support.records import connected, database_of
from tests.support.servers.redis import Engines
from tests.support.waiting import eventually, opened
from tests.support.wechat import (
    APPID,
    DRAW,
    IDENTIFY,
    PAGE,
    TOKEN,
    Pretending,
    pretending,
    provider_at,
    seen_in,
)
from tests.support.wechat_logins import confirm

AT_ONCE = 200
APP = {"app": "shop"}


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as wechat:
        yield wechat


RECORDS = {"valkey": "sqlite", "redis": "postgresql"}
"""The databases of the brokers: state to records."""


@pytest.fixture(params=RECORDS)
def state_server(request: pytest.FixtureRequest, engines: Engines) -> str:
    engines.empty(request.param)
    return str(request.param)


@pytest.fixture
def records_url(state_server: str, request: pytest.FixtureRequest) -> str:
    return database_of(RECORDS[state_server], request)


@pytest.fixture
async def state(state_server: str, engines: Engines) -> AsyncIterator[StateBackend]:
    """The state of the brokers, opened by the test too."""
    store = open_state(engines.url(state_server))
    await opened(store)
    yield store
    await store.close()


@pytest.fixture
async def shop(records_url: str) -> AsyncIterator[App]:
    """The app `shop` in the records, with a pool of codes."""
    records = open_records(
        records_url,
        load_seal_keys=lambda: (b"k" * 32,),
        providers=("wechat",),
        reserved_ids=(),
        clock=time.time,
        trail_lifetime=3600,
    )
    await records.open()
    yield (await records.app_admin.add("shop", {"name": "A shop", "code_source": "pool"})).app
    await records.close()


Start = Callable[..., Awaitable[RunningBroker]]


@pytest.fixture
def start(
    start_broker: StartBroker,
    state_server: str,
    engines: Engines,
    wechat: Pretending,
    records_url: str,
    shop: App,
    tmp_path: Path,
) -> Start:
    """Start a broker with a pool of `count` codes that are drawn already."""

    async def start(count: int, **changes: object) -> RunningBroker:
        shared = {
            "pool_size": count,
            "pool_max": count,
            "key_file": tmp_path / "keys.json",
            "records_url": records_url,
            "state_url": engines.url(state_server),
            "pictures_url": (tmp_path / "pictures").as_uri(),
            "begins_per_minute": 10 * AT_ONCE,
        }
        return await start_broker(**wechat.settings(**{**shared, **changes}))

    return start


FillPool = Callable[[Provider, int], Awaitable[list[CodeRecord]]]


@pytest.fixture
def fill_pool(state: StateBackend, records_url: str, shop: App, tmp_path: Path) -> FillPool:
    """Draw codes for `shop` and offer them for lease."""

    async def fill_codes(provider: Provider, count: int) -> list[CodeRecord]:
        drawn: list[CodeRecord] = []

        async def offer(some: Sequence[CodeRecord]) -> None:
            drawn.extend(some)
            await state.code_leases.offer(shop.key, [offered(one) for one in some])

        async with connected(records_url) as database:
            await PoolFiller(
                provider=provider,
                codes=SqlCodeStore(database, clock=time.time),
                pictures=ObjectPictureStore(
                    (tmp_path / "pictures").as_uri(), public_url="http://none"
                ),
                app=shop.key,
                count=count,
                per_minute=FAST,
                offer=offer,
            ).run()
        return sorted(drawn, key=lambda code: code.number)

    return fill_codes


def offered(code: CodeRecord) -> Offered:
    return Offered(number=code.number, drawing=code.drawing, scene=code.scene, picture=code.picture)


def disable_drawing(wechat: Pretending) -> None:
    """Let every call to WeChat fail, except the exchange of a js_code."""
    for api in (TOKEN, DRAW):
        wechat.wechat.faults.set(api, "503")


Join = Callable[[str], Awaitable[PythonBrowser]]


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    """Connect a browser to a broker, and close it at the end of the test."""
    async with AsyncExitStack() as stack:

        async def connect(url: str) -> PythonBrowser:
            browser = PythonBrowser(["websocket"])
            stack.push_async_callback(browser.close)
            await browser.connect(url, auth=APP)
            return browser

        yield connect


async def begin(browser: PythonBrowser) -> Payload:
    answer: Payload = await browser.emit("begin", {})
    return answer


async def fetch(url: str) -> tuple[str, bytes]:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 200
        return response.content_type, await response.read()


def leases_in(monitor: Monitor) -> int:
    """Return the number of lease commands."""
    return sum(LEASE.sha.encode() in command.arguments for command in monitor.commands)


async def test_simultaneous_begins_lease_separate_codes_without_wechat(
    start: Start,
    join: Join,
    fill_pool: FillPool,
    state: StateBackend,
    shop: App,
    wechat: Pretending,
    engines: Engines,
    state_server: str,
) -> None:
    """The logins have the lowest of 1 000 codes. Each lease is one command."""
    disable_drawing(wechat)
    codes = await fill_pool(CountingProvider(), 1_000)
    brokers = [await start(1_000), await start(1_000)]
    browsers = [await join(brokers[number % 2].url) for number in range(AT_ONCE)]
    [node] = engines.nodes(state_server)
    await state.code_leases.lease("other", until=0, cooldown=0)  # loads the script in the server
    wechat.wechat.calls.clear()

    async with monitored(node) as monitor:
        new_logins = await asyncio.gather(*map(begin, browsers))
        await eventually(lambda: leases_in(monitor) >= AT_ONCE)

    assert leases_in(monitor) == AT_ONCE
    assert wechat.wechat.calls == {}
    lowest = [(code.scene, code.picture) for code in codes[:AT_ONCE]]
    received = [(one["scene"], one["code_url"].rpartition("/")[2]) for one in new_logins]
    assert Counter(received) == Counter(lowest)
    assert len({one["login_id"] for one in new_logins}) == AT_ONCE
    assert await state.code_leases.level(shop.key) == PoolLevel(free=800, leased=200, resting=0)


@pytest.mark.parametrize("shown_by", ["broker", "cdn"])
async def test_pooled_login_completes_while_drawing_fails(
    shown_by: str,
    start: Start,
    join: Join,
    fill_pool: FillPool,
    state: StateBackend,
    shop: App,
    wechat: Pretending,
    tmp_path: Path,
) -> None:
    """The scanned picture has the scene of the login of the browser."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    cdn = web.Application()
    cdn.router.add_static("/codes", folder)
    async with serve_sites([Site("cdn", cdn, "127.0.0.1", 0, "PORT")]) as sites:
        public = {"pictures_public_url": f"{sites['cdn']}/codes"} if shown_by == "cdn" else {}
        async with provider_at(wechat.url) as provider:
            codes = await fill_pool(provider, 3)
        disable_drawing(wechat)
        brokers = [await start(3, **public), await start(3, **public)]
        other, browser = await join(brokers[0].url), await join(brokers[0].url)

        await begin(other)
        new_login = await begin(browser)
        media_type, picture = await fetch(new_login["code_url"])
        seen = seen_in(picture)
        js_code = wechat.wechat.platform.login("alice")
        scan = await confirm(brokers[1].url, seen["scene"], js_code, app="shop")
        pushes = [await browser.push() for _ in range(2)]
        credentials = {"login_id": new_login["login_id"], "secret": new_login["secret"]}
        redeemed = await browser.emit("redeem", credentials)

        assert new_login["code_url"].startswith(sites["cdn"] if public else brokers[0].url)
        assert media_type == "image/png"
        assert seen == {"page": PAGE, "scene": new_login["scene"]}
        assert new_login["scene"] == codes[1].scene
        assert scan["login_id"] == new_login["login_id"]
        login = {"login_id": new_login["login_id"]}
        assert pushes == [("login-scanned", login), ("login-confirmed", login)]
        claims = jwt.decode(redeemed["access_token"], options={"verify_signature": False})
        assert (claims["aud"], claims["sub"]) == ("shop", f"wechat:{person_id(APPID, 'alice')}")
        assert wechat.wechat.calls[DRAW] == 3
        assert wechat.wechat.calls[IDENTIFY] == 1
        await eventually(lambda: is_level(state, shop, PoolLevel(free=1, leased=1, resting=1)))


async def is_level(state: StateBackend, shop: App, level: PoolLevel) -> bool:
    return await state.code_leases.level(shop.key) == level


async def test_empty_pool_draws_live_or_returns_retry_after(
    start: Start, join: Join, fill_pool: FillPool, wechat: Pretending
) -> None:
    await fill_pool(CountingProvider(), 1)
    broker = await start(1)
    browsers = [await join(broker.url) for _ in range(3)]

    pooled, live = [await begin(browser) for browser in browsers[:2]]
    disable_drawing(wechat)
    refused = await begin(browsers[2])
    form = {"client_id": "shop"}
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.post("/oauth/device_authorization", data=form) as response,
    ):
        response_body = await response.json()

    assert pooled["code_url"].startswith(f"{broker.url}/codes/")
    assert live["code_url"].startswith("data:image/png;base64,")
    assert wechat.wechat.calls[DRAW] > 1
    for failure in (refused, response_body):
        assert failure["error"] == "temporarily_unavailable"
        assert failure["retry_after"] > 0
    assert response.status == 503
    assert response.headers["Retry-After"] == str(response_body["retry_after"])


async def test_new_begin_returns_the_former_code_to_cooldown(
    start: Start, join: Join, shop: App, fill_pool: FillPool, state: StateBackend
) -> None:
    codes = await fill_pool(CountingProvider(), 5)
    broker = await start(5)
    browser = await join(broker.url)

    new_logins = [await begin(browser) for _ in range(3)]

    assert [one["scene"] for one in new_logins] == [code.scene for code in codes[:3]]
    await eventually(lambda: is_level(state, shop, PoolLevel(free=2, leased=1, resting=2)))


@pytest.mark.parametrize("public_url", ["", "https://cdn.example/codes"])
async def test_device_page_shows_the_picture_of_the_pool(
    public_url: str, start: Start, fill_pool: FillPool, wechat: Pretending
) -> None:
    disable_drawing(wechat)
    [code] = await fill_pool(CountingProvider(), 1)
    broker = await start(1, **({"pictures_public_url": public_url} if public_url else {}))
    pictures = public_url or f"{broker.url}/codes"

    async with aiohttp.ClientSession(broker.url) as http:
        form = {"client_id": "shop"}
        async with http.post("/oauth/device_authorization", data=form) as response:
            new_login = await response.json()
        query = {"user_code": new_login["user_code"]}
        async with http.get("/device", params=query) as response:
            page, headers = await response.text(), response.headers

    assert new_login["scene"] == code.scene
    assert new_login["code_url"] == f"{pictures}/{code.picture}"
    assert f'src="{new_login["code_url"]}"' in page
    assert f"img-src data: {pictures}/;" in headers["Content-Security-Policy"]
