"""Failed attempts and begins are counted by address at every endpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient, PythonBrowser, Refused

Attempt = Callable[[str], Awaitable[Any]]
OWNED = {"login_id": "A" * 22, "secret": "B" * 43}


def on_socket(verb: str) -> Attempt:
    async def attempt(url: str) -> Any:
        browser = PythonBrowser(["websocket"])
        await browser.connect(url)
        answer = await browser.emit(verb, OWNED)
        await browser.close()
        return answer

    return attempt


def by_post(path: str, **request: Any) -> Attempt:
    async def attempt(url: str) -> Any:
        async with aiohttp.ClientSession(url) as http, http.post(path, **request) as response:
            return await response.json()

    return attempt


async def connect_as_a_phone(url: str) -> Any:
    browser = PythonBrowser(["websocket"])
    try:
        await browser.connect(url, {"id": "A" * 22, "skey": "B" * 43}, "/phone")
    except Refused as refusal:
        return refusal.data
    finally:
        await browser.close()


ATTEMPTS: dict[str, Attempt] = {
    "redeem": on_socket("redeem"),
    "resume": on_socket("resume"),
    "cancel": on_socket("cancel"),
    "phone connect": connect_as_a_phone,
    "phone session": by_post("/phone/session", json={"js_code": "nonsense"}),
    "phone act": by_post(
        "/phone/scan", json={"scene": "x"}, headers={"X-WX-Id": "a", "X-WX-Skey": "b"}
    ),
    "token": by_post(
        "/oauth/token",
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "client_id": "default",
            "device_code": "A.B",
        },
    ),
}


@pytest.mark.parametrize("endpoint", ATTEMPTS)
async def test_failed_attempt_is_counted(start_broker: StartBroker, endpoint: str) -> None:
    broker = await start_broker(misses_per_minute=1)
    attempt = ATTEMPTS[endpoint]

    first, second = await attempt(broker.url), await attempt(broker.url)

    assert first["error"] in ("invalid_grant", "invalid_session")
    assert second["error"] == "rate_limited"


async def test_begins_by_socket_and_polling_share_one_limit(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(begins_per_minute=2)
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    poll = by_post("/oauth/device_authorization", data={"client_id": "default"})

    answers = [
        await browser.emit("begin", {}),
        await poll(broker.url),
        await browser.emit("begin", {}),
    ]
    await browser.close()

    assert ["error" in answer for answer in answers] == [False, False, True]
    assert answers[-1]["error"] == "rate_limited"


async def test_invalid_request_is_not_a_failed_attempt(start_broker: StartBroker) -> None:
    broker = await start_broker(misses_per_minute=1)
    async with PhoneClient(broker.url) as phone:
        for _ in range(3):
            assert (await phone.post("scan", {})).body["error"] == "invalid_request"
