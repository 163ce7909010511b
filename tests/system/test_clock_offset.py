"""If the clock of Redis is wrong, sites accept the tokens and the broker logs a warning."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import aiohttp
import jwt
import pytest
from structlog.testing import capture_logs

from broker.tokens.settings import TokenSettings
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.environment import shifted
from tests.support.servers.redis import RedisServer, valkey_program
from tests.support.waiting import eventually


@pytest.fixture(params=["+1m", "-1m"])
def redis(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A Valkey whose clock differs from this host's by a minute.

    libfaketime does not work with the memory allocator of Redis.
    """
    server = RedisServer(valkey_program())
    try:
        with monkeypatch.context() as patch:
            for name, value in shifted(request.param).items():
                patch.setenv(name, value)
            server.start()
        yield server
    finally:
        server.close()


async def token_from(broker: RunningBroker) -> str:
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    login = await browser.emit("begin", {})
    async with PhoneClient(broker.url) as phone:
        await phone.post("scan", {"scene": login["scene"]})
        await phone.post("confirm", {"login_id": login["login_id"]})
    owned = {"login_id": login["login_id"], "secret": login["secret"]}
    token = (await browser.emit("redeem", owned))["access_token"]
    second_token = (await browser.emit("redeem", owned))["access_token"]
    await browser.close()
    assert claims_of(second_token) == claims_of(token)
    return str(token)


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def test_site_accepts_tokens_despite_wrong_redis_clock(
    redis: RedisServer, start_broker: StartBroker
) -> None:
    broker = await start_broker(state_url=redis.url)
    token = await token_from(broker)
    keys = jwt.PyJWKClient(f"{broker.url}/.well-known/jwks.json")
    key = await asyncio.to_thread(keys.get_signing_key_from_jwt, token)

    claims = jwt.decode(token, key, algorithms=["ES256"], audience="default")  # no leeway

    assert claims["exp"] - claims["iat"] == broker.settings[TokenSettings].token_lifetime
    assert claims["auth_time"] <= claims["iat"]


async def test_clock_offset_is_logged_and_measured(
    redis: RedisServer, start_broker: StartBroker
) -> None:
    with capture_logs() as lines:
        broker = await start_broker(state_url=redis.url)
        await eventually(lambda: "clock differs from redis" in [item["event"] for item in lines])

    async with aiohttp.ClientSession() as http, http.get(f"{broker.admin}/metrics") as response:
        [offset] = re.findall(r"^scanlogin_clock_offset_seconds (\S+)", await response.text(), re.M)
    assert 55 < abs(float(offset)) < 65
