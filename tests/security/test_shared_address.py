"""Failed attempts of one client do not lock out others behind the same address."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import pytest

from broker.login.phone_api import REPORTS_PER_MINUTE
from broker.sessions.limits import PROOFS_SHARE, SessionLimits
from broker.users.phone_api import REGISTRATIONS_PER_MINUTE
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser, SocketPhone
from tests.support.waiting import eventually

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
WRONG_CODE = {"grant_type": GRANT, "client_id": "default", "device_code": f"{'A' * 22}.{'B' * 43}"}
WRONG_CODES = 500


async def begin_without_socket(http: aiohttp.ClientSession) -> dict[str, str]:
    form = {"client_id": "default"}
    async with http.post("/oauth/device_authorization", data=form) as response:
        assert response.status == 200
        login: dict[str, str] = await response.json()
        return login


async def ask_for_token(http: aiohttp.ClientSession, **changes: str) -> tuple[int, dict[str, str]]:
    async with http.post("/oauth/token", data={**WRONG_CODE, **changes}) as response:
        return response.status, await response.json()


async def exhaust_failed_attempts(broker: RunningBroker) -> None:
    """Send wrong device codes from this address until the broker refuses them."""
    async with aiohttp.ClientSession(broker.url) as http:
        seen = {(await ask_for_token(http))[0] for _ in range(WRONG_CODES)}
    assert seen == {400, 429}


@pytest.fixture
async def attacked(start_broker: StartBroker) -> RunningBroker:
    """A broker whose limit of failed attempts this address has exceeded."""
    broker = await start_broker()
    await exhaust_failed_attempts(broker)
    return broker


async def test_socket_login_succeeds_behind_attacked_address(attacked: RunningBroker) -> None:
    browser = PythonBrowser(["websocket"])
    await browser.connect(attacked.url)
    login = await browser.emit("begin", {})
    owned = {name: login[name] for name in ("login_id", "secret")}

    async with PhoneClient(attacked.url) as phone:
        assert (await phone.post("scan", {"scene": login["scene"]})).status == 200
        assert (await phone.post("confirm", {"login_id": login["login_id"]})).status == 200
    resumed = await browser.emit("resume", owned)
    redeemed = await browser.emit("redeem", owned)
    await browser.close()

    assert resumed["state"] == "confirmed"
    assert redeemed["subject"] == "pretend:alice"


async def test_device_login_succeeds_behind_attacked_address(attacked: RunningBroker) -> None:
    async with (
        aiohttp.ClientSession(attacked.url) as http,
        PhoneClient(attacked.url) as session,
    ):
        login = await begin_without_socket(http)
        phone = SocketPhone(PythonBrowser(["websocket"]))
        await phone.connect(attacked.url, session.session)
        assert (await phone.post("scan", {"scene": login["user_code"]})).status == 200
        assert (await phone.post("confirm", {"login_id": login["login_id"]})).status == 200
        await phone.close()

        status, token = await ask_for_token(http, device_code=login["device_code"])

    assert status == 200
    assert token["subject"] == "pretend:alice"


async def test_cancel_succeeds_behind_attacked_address(attacked: RunningBroker) -> None:
    browser = PythonBrowser(["websocket"])
    await browser.connect(attacked.url)
    login = await browser.emit("begin", {})

    cancelled = await browser.emit(
        "cancel", {"login_id": login["login_id"], "secret": login["secret"]}
    )
    await browser.close()

    assert cancelled["state"] == "cancelled"


async def test_failed_scans_count_per_person(start_broker: StartBroker) -> None:
    broker = await start_broker(misses_per_minute=1)
    async with PhoneClient(broker.url, "alice") as alice, PhoneClient(broker.url, "bob") as bob:
        seen = [await phone.post("scan", {"scene": "x"}) for phone in (alice, alice, bob)]

    assert [answer.status for answer in seen] == [404, 429, 404]


async def test_opened_sessions_do_not_count_for_the_address(start_broker: StartBroker) -> None:
    broker = await start_broker(begins_per_minute=2, misses_per_minute=100)
    async with aiohttp.ClientSession(broker.url) as http:

        async def open_session(js_code: str) -> int:
            async with http.post("/phone/session", json={"js_code": js_code}) as response:
                return response.status

        opened = [await open_session("pretend:alice") for _ in range(5)]
        refused = [await open_session("wrong") for _ in range(3)]

    assert opened == [200] * 5
    assert refused == [401, 401, 429]


async def test_address_has_limited_share_of_concurrent_proofs() -> None:
    limits, may_end = SessionLimits(per_minute=100), asyncio.Event()
    running: Counter[str] = Counter()

    async def verify(address: str) -> None:
        async with limits.opening(address):
            running[address] += 1
            await may_end.wait()

    tasks = [asyncio.create_task(verify("192.0.2.1")) for _ in range(3 * PROOFS_SHARE)]
    await eventually(lambda: running["192.0.2.1"] == PROOFS_SHARE)
    tasks.append(asyncio.create_task(verify("192.0.2.2")))
    await eventually(lambda: running["192.0.2.2"] == 1)

    assert running["192.0.2.1"] == PROOFS_SHARE
    may_end.set()
    await asyncio.gather(*tasks)


async def test_invitation_attempts_are_limited_per_person(start_broker: StartBroker) -> None:
    broker = await start_broker()
    body = {"invitation": "x" * 32}
    async with PhoneClient(broker.url, "alice") as alice, PhoneClient(broker.url, "bob") as bob:
        attempts = range(REGISTRATIONS_PER_MINUTE + 1)
        seen = [(await alice.post("register", body)).status for _ in attempts]

        assert seen == [400] * REGISTRATIONS_PER_MINUTE + [429]
        assert (await bob.post("register", body)).status == 400


async def test_reports_are_limited_per_person(start_broker: StartBroker) -> None:
    broker = await start_broker()
    body = {"login_id": "A" * 22}
    async with PhoneClient(broker.url, "alice") as alice, PhoneClient(broker.url, "bob") as bob:
        seen = [(await alice.post("report", body)).status for _ in range(REPORTS_PER_MINUTE + 1)]

        assert seen == [400] * REPORTS_PER_MINUTE + [429]
        assert (await bob.post("report", body)).status == 400
