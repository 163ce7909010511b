"""Wafer's session calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import pytest

from tests.support.app_admin import ODD, TOKEN
from tests.support.builders import RunningBroker, StartBroker
from tests.support.session_server import Server, basic, secret_of
from tests.support.wafer import SessionServer, session_call
from tests.support.wechat import pretending

AUTH_FAIL = {
    "version": 1,
    "componentName": "MA",
    "returnCode": 60012,
    "returnMessage": "AUTH_FAIL",
    "returnData": "",
}


class World(NamedTuple):
    broker: RunningBroker
    http: aiohttp.ClientSession
    server: SessionServer


@pytest.fixture
async def world(start_broker: StartBroker) -> AsyncIterator[World]:
    broker = await start_broker(admin_token=TOKEN)
    async with aiohttp.ClientSession() as http:
        yield World(broker, http, SessionServer(http, broker.url))


async def test_code_opens_session(world: World) -> None:
    opened = await world.server.open()

    data = opened["returnData"]
    assert (opened["returnCode"], opened["returnMessage"]) == (0, "NEW_SESSION_SUCCESS")
    assert (opened["version"], opened["componentName"]) == (1, "MA")
    assert data["user_info"] == {"openId": "alice", "nickName": "alice"}
    assert data["duration"] == pytest.approx(2_592_000, abs=60)


async def test_session_authenticates_with_its_user(world: World) -> None:
    data = (await world.server.open())["returnData"]

    checked = await world.server.call("auth", id=data["id"], skey=data["skey"])

    assert (checked["returnCode"], checked["returnMessage"]) == (0, "AUTH_SUCCESS")
    assert checked["returnData"] == {"user_info": {"openId": "alice", "nickName": "alice"}}


async def test_session_of_wafer_is_valid_for_phones(world: World) -> None:
    data = (await world.server.open())["returnData"]
    headers = {"X-WX-Id": data["id"], "X-WX-Skey": data["skey"]}

    async with world.http.delete(f"{world.broker.url}/phone/session", headers=headers) as ended:
        assert await ended.json() == {"ended": 1}

    checked = await world.server.call("auth", id=data["id"], skey=data["skey"])
    assert checked == AUTH_FAIL


async def test_native_session_authenticates_too(world: World) -> None:
    secret = await secret_of(world.broker, "red")
    async with aiohttp.ClientSession(world.broker.url) as http:
        opened = await Server(http, basic("red", secret)).open("bob")
    red = SessionServer(world.http, world.broker.url, "/wafer/red/mina_auth/")

    checked = await red.call("auth", id=opened["id"], skey=opened["skey"])

    assert checked["returnData"] == {"user_info": {"openId": "bob", "nickName": "bob"}}


async def test_two_sessions_of_a_person_are_valid(world: World) -> None:
    first, second = [(await world.server.open())["returnData"] for _ in range(2)]

    for data in (first, second):
        checked = await world.server.call("auth", id=data["id"], skey=data["skey"])
        assert checked["returnCode"] == 0


async def test_final_slash_of_the_path_is_optional(world: World) -> None:
    server = SessionServer(world.http, world.broker.url, "/mina_auth")

    assert (await server.open())["returnCode"] == 0


@pytest.mark.parametrize(
    "change", [{"skey": "wrong"}, {"id": "x" * 22}, {"id": "ü"}, {"skey": "?"}]
)
async def test_wrong_session_has_one_answer(world: World, change: dict[str, str]) -> None:
    data = (await world.server.open())["returnData"]

    checked = await world.server.call("auth", **{"id": data["id"], "skey": data["skey"], **change})

    assert checked == AUTH_FAIL


async def test_session_of_another_app_is_refused(world: World) -> None:
    await secret_of(world.broker, "red")
    data = (await world.server.open())["returnData"]
    red = SessionServer(world.http, world.broker.url, "/wafer/red/mina_auth/")

    assert await red.call("auth", id=data["id"], skey=data["skey"]) == AUTH_FAIL


CALL = session_call("auth", id="x", skey="y")

INVALID = [
    (b"not json", 1009),
    (b"[1]", 1009),
    (b"\xff", 1009),
    (b"[" * 30_000, 1009),
    (b'"' + b"x" * 70_000 + b'"', 1009),
    ({}, 1002),
    ({"interface": []}, 1002),
    ({"interface": {"para": {}}}, 1002),
    (session_call("initdata", appid="x"), 1010),
    (session_call("decrypt", id="x"), 1010),
    ({"interface": {"interfaceName": ["x"], "para": {}}}, 1010),
    ({"interface": {"interfaceName": "qcloud.cam.auth"}}, 1011),
    ({"interface": {"interfaceName": "qcloud.cam.auth", "para": [1]}}, 1003),
    (session_call("auth", id="x"), 1003),
    (session_call("auth", id="x", skey=7), 1003),
    (session_call("id_skey"), 1003),
    (session_call("id_skey", code="x" * 257), 1003),
    (session_call("id_skey", code="pretend:alice", encrypt_data="AAAA"), 1003),
    (session_call("id_skey", code="pretend:alice", encrypt_data="AAAA", iv="short"), 1003),
    (session_call("id_skey", code="no code"), 40029),
]


@pytest.mark.parametrize(("body", "code"), INVALID)
async def test_invalid_call_has_its_return_code(world: World, body: object, code: int) -> None:
    answer = await world.server.post(body)

    assert (answer.status, answer.body["returnCode"], answer.body["returnData"]) == (200, code, "")


async def test_odd_values_get_return_codes(world: World) -> None:
    bodies = [
        {"interface": {"interfaceName": name, "para": {"code": odd, "id": odd, "skey": odd}}}
        for odd in ODD
        for name in ("qcloud.cam.auth", "qcloud.cam.id_skey", odd)
    ]

    statuses = {(await world.server.post(repr_json(body))).status for body in bodies}

    assert statuses == {200}


def repr_json(body: object) -> bytes:
    """Return JSON with escapes, so that lone surrogates can be sent."""
    return json.dumps(body).encode()


async def test_unknown_app_has_no_account(world: World) -> None:
    server = SessionServer(world.http, world.broker.url, "/wafer/unknown/mina_auth/")

    assert (await server.open())["returnCode"] == 1012


async def test_public_address_is_refused(start_broker: StartBroker) -> None:
    broker = await start_broker(wafer_networks="203.0.113.0/24")
    async with aiohttp.ClientSession() as http:
        answer = await SessionServer(http, broker.url).post(CALL)

    assert (answer.status, answer.body["error"]) == (403, "access_denied")


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
async def test_request_of_an_unknown_proxy_is_refused(world: World, name: str) -> None:
    answer = await world.server.post(CALL, **{name: "10.0.0.1"})

    assert (answer.status, answer.body["error"]) == (403, "access_denied")


@pytest.mark.parametrize(("client", "status"), [("10.0.0.1", 200), ("198.51.100.7", 403)])
async def test_trusted_proxy_names_the_client(
    start_broker: StartBroker, client: str, status: int
) -> None:
    broker = await start_broker(trusted_proxies="127.0.0.1")
    async with aiohttp.ClientSession() as http:
        server = SessionServer(http, broker.url)

        assert (await server.post(CALL, **{"X-Forwarded-For": client})).status == status
        assert (await server.post(CALL, **{"X-Real-IP": "10.0.0.1"})).status == 403


async def test_wechat_faults_have_their_return_codes(start_broker: StartBroker) -> None:
    async with pretending() as stub, aiohttp.ClientSession() as http:
        broker = await start_broker(**stub.settings(wechat_api_url="http://127.0.0.1:9/"))
        answer = await SessionServer(http, broker.url).open("any")

    assert answer["returnCode"] == 1005
