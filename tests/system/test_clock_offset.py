"""If the clock of Redis is wrong, sites accept the tokens and the broker logs a warning."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import jwt
import pytest
from structlog.testing import capture_logs

from broker.tokens.settings import TokenSettings
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.environment import ROOT, shifted
from tests.support.servers.redis import RedisServer, valkey_program
from tests.support.waiting import eventually

README = ROOT / "README.md"


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


def readme_verifier(broker: RunningBroker) -> Callable[[str], str]:
    """Return `subject_of` of the README's example."""
    [example] = [
        item
        for item in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        if "def subject_of" in item
    ]
    names: dict[str, Any] = {}
    exec(example.replace("https://login.example", broker.url), names)
    subject_of: Callable[[str], str] = names["subject_of"]
    return subject_of


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


async def test_readme_example_accepts_access_tokens_only(start_broker: StartBroker) -> None:
    broker = await start_broker()
    subject_of, token = readme_verifier(broker), await token_from(broker)

    assert await asyncio.to_thread(subject_of, token) == "pretend:alice"

    header, rest = token.split(".", 1)
    other = jwt.encode({}, "k" * 32, headers={"typ": "JWT"}).split(".")[0]
    assert header != other
    with pytest.raises(jwt.InvalidTokenError, match="not an access token"):
        await asyncio.to_thread(subject_of, f"{other}.{rest}")
