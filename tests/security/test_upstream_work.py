"""One client causes a bounded number of webhook calls, and does not affect other clients."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from broker.directories.shared import REQUESTS_MAX
from broker.login.limits import JUDGED_SCANS_PER_MINUTE
from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Answer, PhoneClient
from tests.support.http_site import serving
from tests.support.webhook import SECRET, Site

FLOOD = 200


STATUSES = {"alice": 404, "bob": 200, "mallory": 500}


class Register(Site):
    """A site whose webhook knows bob, does not know alice, and fails for mallory."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = self._answer
        self.calls: Counter[str] = Counter()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        openid = (await request.json())["data"]["openid"]
        self.calls[openid] += 1
        return web.json_response({"subject": openid}, status=STATUSES[openid])


@pytest.fixture
async def site() -> AsyncIterator[tuple[Register, str]]:
    site = Register()
    application = web.Application()
    application.router.add_post("/hook", site.hook)
    async with serving(application) as port:
        yield site, f"http://127.0.0.1:{port}/hook"


@pytest.fixture
async def broker(start_broker: StartBroker, site: tuple[Register, str]) -> RunningBroker:
    return await start_broker(
        site[1], directory_secret=SECRET, directory_private=True, admin_token=TOKEN
    )


async def begin_and_scan(broker: RunningBroker, phone: PhoneClient) -> dict[str, str]:
    """Begin a login, scan it with `phone`, and return its `login_id`."""
    form = {"client_id": "default"}
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.post("/oauth/device_authorization", data=form) as response,
    ):
        login = await response.json()
    assert (await phone.post("scan", {"scene": login["user_code"]})).status == 200
    return {"login_id": login["login_id"]}


async def confirm_many_times(broker: RunningBroker, name: str) -> list[Answer]:
    async with PhoneClient(broker.url, name) as phone:
        login = await begin_and_scan(broker, phone)
        return await asyncio.gather(*(phone.post("confirm", login) for _ in range(FLOOD)))


async def confirm_once(broker: RunningBroker, name: str) -> int:
    async with PhoneClient(broker.url, name) as phone:
        return (await phone.post("confirm", await begin_and_scan(broker, phone))).status


async def test_repeated_confirms_of_unregistered_phone_rarely_call_webhook(
    broker: RunningBroker, site: tuple[Register, str]
) -> None:
    answers = await confirm_many_times(broker, "alice")

    words = Counter(answer.body["error"] for answer in answers)
    assert words.keys() == {"unregistered_user", "rate_limited"}
    assert site[0].calls["alice"] <= 2
    assert await confirm_once(broker, "bob") == 200


async def test_failures_of_one_phone_keep_the_breaker_closed(
    broker: RunningBroker, site: tuple[Register, str]
) -> None:
    async with PhoneClient(broker.url, "mallory") as phone:
        login = await begin_and_scan(broker, phone)
        statuses = [(await phone.post("confirm", login)).status for _ in range(REQUESTS_MAX + 1)]

    assert set(statuses[:REQUESTS_MAX]) == {503}
    assert site[0].calls["mallory"] == REQUESTS_MAX
    assert await confirm_once(broker, "bob") == 200


async def test_session_checks_rarely_call_webhook(
    broker: RunningBroker, site: tuple[Register, str]
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with PhoneClient(broker.url, "bob") as phone, aiohttp.ClientSession(broker.url) as http:
        credentials = {name: phone.session[name] for name in ("id", "skey")}

        async def check() -> str:
            body = {"app": "default", **credentials}
            async with http.post("/sessions/check", json=body, headers=headers) as response:
                return str((await response.json())["subject"])

        assert set(await asyncio.gather(*(check() for _ in range(FLOOD)))) == {"bob"}

    assert site[0].calls["bob"] < FLOOD / 10


async def test_scans_by_old_phone_rarely_call_policy(
    start_broker: StartBroker, site: tuple[Register, str]
) -> None:
    async def challenge(request: web.Request) -> web.StreamResponse:
        return web.json_response({"verdict": "challenge"})

    site[0].answer = challenge
    broker = await start_broker(policy=site[1], policy_secret=SECRET, webhooks_private=True)
    async with PhoneClient(broker.url, "alice") as phone, aiohttp.ClientSession(broker.url) as http:
        form = {"client_id": "default"}
        async with http.post("/oauth/device_authorization", data=form) as response:
            scan = {"scene": (await response.json())["user_code"]}

        answers = [await phone.post("scan", scan) for _ in range(JUDGED_SCANS_PER_MINUTE + 5)]

    assert Counter(answer.status for answer in answers) == {400: JUDGED_SCANS_PER_MINUTE, 429: 5}
    assert len(site[0].questions) == JUDGED_SCANS_PER_MINUTE
