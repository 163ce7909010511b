"""Tests of live codes: an image is drawn once, and an address has a share of the draws."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from broker.apps.registry import AppRegistry
from broker.identity.ports import CodePicture
from broker.login.codes import DRAWS_SHARE, REDRAWS
from broker.providers.pretend import PretendProvider
from broker.state import StateBackend
from tests.support.builders import SHOP, Clock, RunningBroker, StartBroker, codes_of
from tests.support.clients import PythonBrowser
from tests.support.servers.redis import Engines
from tests.support.waiting import eventually
from tests.support.wechat import DRAW, Pretending, pretending

LOADS = 20


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as wechat:
        yield wechat


async def load_page(broker: RunningBroker, user_code: str) -> int:
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.get("/device", params={"user_code": user_code}) as response,
    ):
        assert response.status != 200 or "data:image/" in await response.text()
        return response.status


async def begin_on_socket(broker: RunningBroker) -> str:
    """Begin a login without a visit to its page, and return its user code."""
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    new_login = await browser.emit("begin", {})
    proof = {name: new_login[name] for name in ("login_id", "secret")}
    link = await browser.emit("link", proof)
    await browser.close()
    return str(link["user_code"])


async def test_device_page_shows_the_image_of_its_begin(
    start_broker: StartBroker, wechat: Pretending
) -> None:
    broker = await start_broker(**wechat.settings())
    async with aiohttp.ClientSession(broker.url) as http:
        form = {"client_id": "default"}
        async with http.post("/oauth/device_authorization", data=form) as response:
            code = (await response.json())["user_code"]

    statuses = await asyncio.gather(*(load_page(broker, code) for _ in range(LOADS)))

    assert statuses == [200] * LOADS
    assert wechat.wechat.calls[DRAW] == 1


async def test_image_is_drawn_once_for_all_instances(
    start_broker: StartBroker, wechat: Pretending, engines: Engines, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    shared = wechat.settings(state_url=engines.url("redis"), key_file=keys)
    brokers = [await start_broker(instance=name, **shared) for name in ("one", "two")]
    code = await begin_on_socket(brokers[0])
    assert wechat.wechat.calls[DRAW] == 1

    pages = [load_page(broker, code) for broker in brokers for _ in range(LOADS)]
    statuses = await asyncio.gather(*pages)

    assert statuses == [200] * len(statuses)
    assert wechat.wechat.calls[DRAW] == 2


async def test_failing_draws_for_one_page_are_few(
    start_broker: StartBroker, wechat: Pretending
) -> None:
    broker = await start_broker(**wechat.settings())
    code = await begin_on_socket(broker)
    wechat.wechat.faults.set(DRAW, "45009")

    statuses = [await load_page(broker, code) for _ in range(REDRAWS + 2)]

    assert statuses == [503] * REDRAWS + [429] * 2
    assert wechat.wechat.calls[DRAW] == 1 + REDRAWS


@pytest.mark.parametrize(("language", "text"), [("en", "Reload this page"), ("zh", "请稍后刷新")])
async def test_failing_device_page_shows_a_translated_sentence(
    start_broker: StartBroker, wechat: Pretending, language: str, text: str
) -> None:
    broker = await start_broker(**wechat.settings())
    code = await begin_on_socket(broker)
    wechat.wechat.faults.set(DRAW, "45009")

    headers = {"Accept-Language": language}
    async with (
        aiohttp.ClientSession(broker.url, headers=headers) as http,
        http.get("/device", params={"user_code": code}) as response,
    ):
        page = await response.text()

    assert (response.status, response.content_type) == (503, "text/html")
    assert text in page
    assert "error_description" not in page
    assert int(response.headers["Retry-After"]) > 0


class HeldProvider(PretendProvider):
    """A provider that draws when a test allows it, and counts the waiting draws."""

    waiting = 0
    may_draw = asyncio.Event()

    async def draw(self, scene: str) -> CodePicture:
        HeldProvider.waiting += 1
        await HeldProvider.may_draw.wait()
        HeldProvider.waiting -= 1
        return await super().draw(scene)


async def test_address_has_its_share_of_draws(store: StateBackend, clock: Clock) -> None:
    HeldProvider.waiting, HeldProvider.may_draw = 0, asyncio.Event()
    codes = codes_of(store, AppRegistry([SHOP]), HeldProvider)

    def take(address: str) -> asyncio.Task[object]:
        return asyncio.create_task(
            codes.acquire(SHOP, until=clock() + 120, address=address, is_shown_again=False)
        )

    draws = [take("192.0.2.1") for _ in range(3 * DRAWS_SHARE)]
    await eventually(lambda: HeldProvider.waiting == DRAWS_SHARE)
    other = take("192.0.2.2")
    await eventually(lambda: HeldProvider.waiting == DRAWS_SHARE + 1)

    HeldProvider.may_draw.set()
    assert len(await asyncio.gather(*draws, other)) == 3 * DRAWS_SHARE + 1
