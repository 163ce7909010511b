"""Profiles of people of WeChat in Wafer's session calls."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

import aiohttp
import pytest

from tests.support.app_admin import TOKEN
from tests.support.builders import StartBroker
from tests.support.wafer import Fields, SessionServer
from tests.support.wechat import APPID, Pretending, pretending
from tests.support.wechat_user_data import IV, KEY, OTHER, b64, encrypted, packed

PROFILE: Mapping[str, object] = {
    "openId": "forged",
    "unionId": "forged",
    "nickName": "雪",
    "watermark": {"appid": APPID, "timestamp": 1},
}


class World(NamedTuple):
    url: str
    http: aiohttp.ClientSession
    server: SessionServer
    stub: Pretending

    async def open(self, **encrypted_data: object) -> Fields:
        """Log Alice in with a session key that is always `KEY`."""
        js_code = self.stub.wechat.platform.login("alice")
        return await self.server.call("id_skey", code=js_code, **encrypted_data)


@pytest.fixture
async def world(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, long_wechat_timeouts: None
) -> AsyncIterator[World]:
    async with pretending(has_unionid=True) as stub, aiohttp.ClientSession() as http:
        platform = stub.wechat.platform
        session = platform.session
        monkeypatch.setattr(
            platform, "session", lambda query: {**session(query), "session_key": b64(KEY)}
        )
        broker = await start_broker(admin_token=TOKEN, **stub.settings())
        yield World(broker.url, http, SessionServer(http, broker.url), stub)


async def test_encrypted_profile_is_kept_with_verified_ids(world: World) -> None:
    plain = (await world.open())["returnData"]["user_info"]
    opened = (await world.open(encrypt_data=encrypted(packed(PROFILE)), iv=b64(IV)))["returnData"]

    checked = await world.server.call("auth", id=opened["id"], skey=opened["skey"])

    user_info = opened["user_info"]
    assert user_info["nickName"] == "雪"
    assert (user_info["openId"], user_info["unionId"]) == (plain["openId"], plain["unionId"])
    assert "forged" not in user_info.values()
    assert checked["returnData"] == {"user_info": user_info}


@pytest.mark.parametrize(
    "encrypt_data",
    [
        encrypted(packed(PROFILE), OTHER),
        encrypted(packed({**PROFILE, "watermark": {"appid": "wxffffffffffffffff"}})),
        encrypted(packed({"nickName": "without a watermark"})),
        encrypted(packed({**PROFILE, "nickName": "x" * 4_096})),
        encrypted(packed([])),
        encrypted(b"\0" * 32),
        encrypted(packed(PROFILE))[:-4],
        "*" * 24,
    ],
    ids=["key", "app", "no watermark", "size", "list", "padding", "cut", "base64"],
)
async def test_invalid_encrypted_profile_opens_no_session(world: World, encrypt_data: str) -> None:
    answer = await world.open(encrypt_data=encrypt_data, iv=b64(IV))

    assert (answer["returnCode"], answer["returnData"]) == (60021, "")


@pytest.mark.parametrize("iv", [None, "", "short", 7, "A" * 25])
async def test_encrypted_profile_needs_an_iv(world: World, iv: object) -> None:
    answer = await world.open(encrypt_data=encrypted(packed(PROFILE)), iv=iv)

    assert answer["returnCode"] == 1003


async def test_raw_data_of_a_wafer_session_is_verified(world: World) -> None:
    data = (await world.open())["returnData"]
    signature = hashlib.sha1(f"text{b64(KEY)}".encode()).hexdigest()
    body = {"app": "default", "id": data["id"], "skey": data["skey"], "raw_data": "text"}

    for sent, is_valid in ((signature, True), ("0" * 40, False)):
        async with world.http.post(
            f"{world.url}/sessions/verify",
            json={**body, "signature": sent},
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as response:
            assert await response.json() == {"valid": is_valid}
