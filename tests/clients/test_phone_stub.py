"""The simulated phone: as a command and as a page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from broker.infrastructure.runtime.server import Site, serve_sites
from mp_stub.phone_page import build_phone_page
from tests.support.builders import FixedDirectory, RunningBroker, StartBroker
from tests.support.demo import phone
from tests.support.environment import free_port
from tests.support.oidc_site import a_site


async def begin(broker: RunningBroker) -> Any:
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.post("/oauth/device_authorization", data={"client_id": "default"}) as response,
    ):
        return await response.json()


async def outcome(broker: RunningBroker, begun: Any) -> Any:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "client_id": "default",
        "device_code": begun["device_code"],
    }
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.post("/oauth/token", data=form) as response,
    ):
        return await response.json()


@pytest.mark.parametrize("over", [[], ["--socketio"]])
async def test_confirm_command_signs_the_browser_in(broker: RunningBroker, over: list[str]) -> None:
    begun = await begin(broker)

    ran = await phone("confirm", begun["user_code"], "--as", "alice", *over, broker=broker.url)

    assert (ran.code, ran.errors) == (0, "")
    assert (await outcome(broker, begun))["subject"] == "pretend:alice"


async def test_confirm_command_sends_the_chosen_number(start_broker: StartBroker) -> None:
    broker = await start_broker(policy="built-in")
    begun = await begin(broker)
    command = ("confirm", begun["user_code"], "--as", "alice")

    asked = await phone(*command, broker=broker.url)
    number = (await outcome(broker, begun))["match"]
    ran = await phone(*command, "--number", number, broker=broker.url)

    assert (asked.code, number in asked.errors, "--number" in asked.errors) == (1, True, True)
    assert (ran.code, ran.errors) == (0, "")
    assert (await outcome(broker, begun))["subject"] == "pretend:alice"


@pytest.mark.parametrize("over", [[], ["--socketio"]])
async def test_deny_command_ends_the_login(broker: RunningBroker, over: list[str]) -> None:
    begun = await begin(broker)

    ran = await phone("deny", begun["user_code"], "--as", "alice", *over, broker=broker.url)

    assert ran.code == 0
    assert (await outcome(broker, begun))["error"] == "access_denied"


async def test_scan_command_prints_site_and_browser(broker: RunningBroker) -> None:
    begun = await begin(broker)
    link = f"http://127.0.0.1:8090/?scene={begun['user_code']}"

    ran = await phone("scan", link, "--as", "小明", broker=broker.url)

    assert ran.code == 0
    for shown in ("Example site", "127.0.0.1", "ago"):
        assert shown in ran.output
    assert (await outcome(broker, begun))["state"] == "scanned"


async def test_refusal_is_printed_as_one_line(broker: RunningBroker) -> None:
    ran = await phone("scan", "unknown", "--as", "alice", broker=broker.url)

    assert ran.code == 1
    assert "unknown_scene" in ran.errors
    assert len(ran.errors.splitlines()) == 1


async def test_missing_broker_is_reported_as_unreachable() -> None:
    ran = await phone("scan", "x", "--as", "a", broker=f"http://127.0.0.1:{free_port()}")

    assert ran.code == 1
    assert "scan-login serve" in ran.errors
    assert "Traceback" not in ran.errors


async def test_missing_wechat_stub_is_reported_as_unreachable(broker: RunningBroker) -> None:
    wechat = f"http://127.0.0.1:{free_port()}"

    ran = await phone("scan", "x", "--wechat", wechat, broker=broker.url)

    assert ran.code == 1
    assert f"cannot reach the WeChat stub at {wechat}" in ran.errors
    assert "python -m mp_stub wechat" in ran.errors


class Page(NamedTuple):
    url: str
    http: aiohttp.ClientSession

    async def post(self, act: str, body: object, **headers: str) -> tuple[int, Any]:
        async with self.http.post(f"/api/{act}", json=body, headers=headers) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def phone_page(broker_url: str) -> AsyncIterator[Page]:
    site = Site("phone", build_phone_page(broker_url=broker_url), "127.0.0.1", 0, "PORT")
    async with (
        serve_sites([site]) as addresses,
        aiohttp.ClientSession(addresses["phone"]) as http,
    ):
        yield Page(addresses["phone"], http)


@pytest.fixture
async def page(broker: RunningBroker) -> AsyncIterator[Page]:
    async with phone_page(broker.url) as page:
        yield page


async def test_phone_page_scans_and_confirms(broker: RunningBroker, page: Page) -> None:
    begun = await begin(broker)

    status, seen = await page.post("scan", {"scene": begun["user_code"], "name": "小明"})
    assert (status, seen["app"]["name"]) == (200, "Example site")
    status, done = await page.post("confirm", {"login_id": begun["login_id"], "name": "小明"})
    assert (status, done["state"]) == (200, "confirmed")

    assert (await outcome(broker, begun))["subject"] == "pretend:小明"


async def test_phone_page_passes_scopes(broker: RunningBroker, page: Page) -> None:
    begun = await begin(broker)

    _, seen = await page.post("scan", {"scene": begun["user_code"], "name": "alice"})

    assert seen["app"]["scopes"] == ["openid", "profile"]


async def test_phone_page_forwards_an_error_answer(broker: RunningBroker, page: Page) -> None:
    status, answer = await page.post("scan", {"scene": "unknown", "name": "alice"})

    assert (status, answer["error"]) == (404, "unknown_scene")


async def test_phone_page_returns_the_register_url(start_broker: StartBroker) -> None:
    broker = await start_broker(FixedDirectory(), register_url="https://site.example/register")
    begun = await begin(broker)
    async with phone_page(broker.url) as page:
        await page.post("scan", {"scene": begun["user_code"], "name": "alice"})
        status, answer = await page.post(
            "confirm", {"login_id": begun["login_id"], "name": "alice"}
        )

    assert (status, answer["error"]) == (403, "unregistered_user")
    assert answer["register_url"] == "https://site.example/register"


async def test_page_of_another_site_cannot_confirm(broker: RunningBroker, page: Page) -> None:
    begun = await begin(broker)
    body = {"scene": begun["user_code"], "name": "alice"}

    status, _ = await page.post("scan", body, Origin="https://evil.example")
    assert status == 403
    async with page.http.post("/api/scan", data=b"{}") as answer:
        assert answer.status == 415

    assert (await outcome(broker, begun))["state"] == "pending"


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        7,
        {},
        {"scene": 1, "name": "a"},
        {"scene": "x", "name": ""},
        {"scene": "x", "name": "a b"},
        {"scene": "x", "name": "a" * 33},
        {"scene": "x" * 70_000, "name": "a"},
    ],
    ids=lambda body: str(body)[:30],
)
@pytest.mark.parametrize("act", ["scan", "confirm", "deny", "report", "end"])
async def test_invalid_request_to_phone_page_is_refused(page: Page, act: str, body: object) -> None:
    status, answer = await page.post(act, body)

    assert 400 <= status < 500
    assert answer["error"]
    assert answer["error_description"]


async def test_phone_page_reports_a_confirmed_login(broker: RunningBroker, page: Page) -> None:
    begun = await begin(broker)
    fields = {"login_id": begun["login_id"], "name": "alice"}
    await page.post("scan", {"scene": begun["user_code"], "name": "alice"})
    await page.post("confirm", fields)

    assert await page.post("report", fields) == (200, {"ended": 0})
    status, answer = await page.post("report", {**fields, "name": "bob"})
    assert (status, answer["error"]) == (400, "invalid_grant")


async def test_phone_page_lists_and_ends_sign_ins(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    visit = a_site(start_broker, tmp_path, sso=True, scopes=["openid", "offline_access"])
    async with visit as (site, browser), phone_page(site.provider.phones) as page:
        person = {"name": "alice"}
        tokens = await site.signed_in(browser, "alice", scope="openid offline_access")
        sid = tokens["claims"]["sid"]

        _, answer = await page.post("signins", person)
        [one] = answer["signins"]
        assert (one["sid"], one["apps"], one["offline"]) == (sid, ["Site"], False)
        assert await page.post("end", {**person, "sid": "Aunknown"}) == (200, {"ended": 0})
        assert await page.post("end", {**person, "sid": sid}) == (200, {"ended": 1})
        assert await page.post("signins", person) == (200, {"signins": []})

        await site.signed_in(browser, "alice")
        assert await page.post("end-all", person) == (200, {"ended": 1})
        assert await page.post("signins", person) == (200, {"signins": []})
