"""The WeChat stub has WeChat's paths, fields, errcodes and lifetimes, and faults."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from PIL import Image

from mp_stub.wechat import faults
from mp_stub.wechat.faults import FAULTS
from mp_stub.wechat.platform import TOKEN_LIFETIME, TOKEN_OVERLAP
from tests.support.builders import Clock
from tests.support.loop_clock import LoopClock
from tests.support.waiting import eventually
from tests.support.wechat import APPID, PAGE, SECRET, Pretending, pretending, seen_in

TOKEN = {"grant_type": "client_credential", "appid": APPID, "secret": SECRET}
PROOF = {"appid": APPID, "secret": SECRET, "grant_type": "authorization_code"}


class Caller:
    """A client of WeChat's API."""

    def __init__(self, http: aiohttp.ClientSession, wechat: Pretending) -> None:
        self.http = http
        self.wechat = wechat

    async def token(self, **changes: object) -> Any:
        return await self.json("POST", "/cgi-bin/stable_token", json={**TOKEN, **changes})

    async def code(self, token: str | None = None, **body: object) -> tuple[str, bytes]:
        """Content type and content of the answer."""
        params = {"access_token": token or (await self.token())["access_token"]}
        path = "/wxa/getwxacodeunlimit"
        async with self.http.post(path, params=params, json=body) as answer:
            assert answer.status == 200
            return answer.headers["Content-Type"], await answer.read()

    async def refusal(self, token: str | None = None, **body: object) -> int:
        kind, content = await self.code(token, **body)
        assert kind == "application/json; encoding=utf-8"
        return int(json.loads(content)["errcode"])

    async def session(self, js_code: str, **changes: str) -> Any:
        params = {**PROOF, "js_code": js_code, **changes}
        return await self.json("GET", "/sns/jscode2session", params=params)

    async def login(self, person: str) -> str:
        return str((await self.json("POST", "/pretend/login", json={"person": person}))["code"])

    async def json(self, method: str, path: str, **request: Any) -> Any:
        async with self.http.request(method, path, **request) as answer:
            return json.loads(await answer.read())


@pytest.fixture
async def caller(clock: Clock) -> AsyncIterator[Caller]:
    async with (
        pretending(clock=clock) as wechat,
        aiohttp.ClientSession(wechat.url) as http,
    ):
        yield Caller(http, wechat)


async def test_stable_token_is_constant_until_near_its_expiry(caller: Caller, clock: Clock) -> None:
    first = await caller.token()
    clock.time += TOKEN_LIFETIME - TOKEN_OVERLAP - 1
    again = await caller.token()
    clock.time += 1
    second = await caller.token()

    assert first["expires_in"] == TOKEN_LIFETIME
    assert again == {"access_token": first["access_token"], "expires_in": TOKEN_OVERLAP + 1}
    assert second["access_token"] != first["access_token"]
    for token in (first, second):
        assert (await caller.code(token["access_token"], scene="x"))[0] == "image/png"
    clock.time += TOKEN_OVERLAP
    assert await caller.refusal(first["access_token"], scene="x") == 42001


async def test_forced_refresh_revokes_the_token_every_30_seconds(
    caller: Caller, clock: Clock
) -> None:
    first = (await caller.token())["access_token"]
    second = (await caller.token(force_refresh=True))["access_token"]
    third = (await caller.token(force_refresh=True))["access_token"]
    clock.time += 30
    fourth = (await caller.token(force_refresh=True))["access_token"]

    assert second == third
    assert len({first, second, fourth}) == 3
    assert await caller.refusal(first, scene="x") == 40001


@pytest.mark.parametrize(
    ("changes", "errcode"),
    [
        ({"grant_type": "password"}, 40002),
        ({"appid": ""}, 41002),
        ({"secret": ""}, 41004),
        ({"appid": "wx" + "0" * 16}, 40013),
        ({"secret": "wrong"}, 40125),
    ],
)
async def test_wrong_appid_or_secret_gets_no_token(
    caller: Caller, changes: dict[str, object], errcode: int
) -> None:
    refused = await caller.token(**changes)

    assert refused["errcode"] == errcode
    assert re.search(r" rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$", refused["errmsg"])


async def test_form_body_is_refused(caller: Caller) -> None:
    refused = await caller.json("POST", "/cgi-bin/stable_token", data=TOKEN)

    assert refused["errcode"] == 47001


@pytest.mark.parametrize("width", [280, 430, 1280])
async def test_code_contains_page_and_scene(caller: Caller, width: int) -> None:
    kind, picture = await caller.code(scene="a_B-9" * 6, page=PAGE, width=width)

    assert kind == "image/png"
    assert seen_in(picture) == {"page": PAGE, "scene": "a_B-9" * 6}
    assert 0.8 * width < Image.open(io.BytesIO(picture)).width <= width


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, 40169),
        ({"scene": ""}, 40169),
        ({"scene": "x" * 33}, 40169),
        ({"scene": "50%"}, 40129),
        ({"scene": "a b"}, 40129),
        ({"scene": "码"}, 40129),
        ({"scene": "x", "page": "/pages/index/wsLogin"}, 41030),
        ({"scene": "x", "page": "pages/index/wsLogin?a=b"}, 41030),
        ({"scene": "x", "page": "pages/elsewhere"}, 41030),
        ({"scene": "x", "env_version": ""}, 40097),
        ({"scene": "x", "width": 279}, 40097),
        ({"scene": "x", "width": 1281}, 40097),
        ({"scene": "x", "width": "wide"}, 47001),
    ],
    ids=str,
)
async def test_invalid_code_request_is_refused(
    caller: Caller, body: dict[str, Any], errcode: int
) -> None:
    assert await caller.refusal(**body) == errcode


async def test_unchecked_page_may_be_missing(caller: Caller) -> None:
    kind, picture = await caller.code(scene="x", page="pages/elsewhere", check_path=False)

    assert kind == "image/png"
    assert seen_in(picture)["page"] == "pages/elsewhere"


@pytest.mark.parametrize(("token", "errcode"), [("wrong", 40001), ("a b", 40014)])
async def test_code_without_valid_token_is_refused(
    caller: Caller, token: str, errcode: int
) -> None:
    assert await caller.refusal(token, scene="x") == errcode


async def test_js_code_is_accepted_once(caller: Caller) -> None:
    js_code = await caller.login("alice")

    proved = await caller.session(js_code)
    assert set(proved) == {"openid", "unionid", "session_key"}
    assert re.fullmatch(r"o[\w-]{27}", proved["openid"])
    assert proved["openid"] != proved["unionid"]
    assert (await caller.session(js_code))["errcode"] == 40163
    again = await caller.session(await caller.login("alice"))
    assert (again["openid"], again["unionid"]) == (proved["openid"], proved["unionid"])
    assert again["session_key"] != proved["session_key"]
    assert (await caller.session(await caller.login("bob")))["openid"] != proved["openid"]


async def test_mini_program_without_account_has_no_unionid() -> None:
    async with (
        pretending(has_unionid=False) as wechat,
        aiohttp.ClientSession(wechat.url) as http,
    ):
        caller = Caller(http, wechat)
        assert set(await caller.session(await caller.login("alice"))) == {"openid", "session_key"}


async def test_invalid_js_code_is_refused(caller: Caller, clock: Clock) -> None:
    assert (await caller.session("none"))["errcode"] == 40029
    assert (await caller.session(""))["errcode"] == 41008
    js_code = await caller.login("alice")
    assert (await caller.session(js_code, secret="wrong"))["errcode"] == 40125
    clock.time += 300
    assert (await caller.session(js_code))["errcode"] == 40029


async def test_faults_are_set_over_http(caller: Caller) -> None:
    await caller.json("PUT", "/pretend/faults/stable_token", json={"fault": "-1", "times": 1})
    assert (await caller.token())["errcode"] == -1
    assert "access_token" in await caller.token()
    await caller.json("PUT", "/pretend/faults/stable_token", json={"fault": "45009"})
    assert [(await caller.token())["errcode"] for _ in range(2)] == [45009, 45009]
    await caller.json("DELETE", "/pretend/faults")
    token = (await caller.token())["access_token"]
    await caller.json("POST", "/pretend/revoke", json={"appid": APPID})
    assert await caller.refusal(token, scene="x") == 40001
    assert (await caller.json("GET", "/pretend/calls"))["stable_token"] == 5

    wrong = await caller.json("PUT", "/pretend/faults/stable_token", json={"fault": "rain"})
    assert "use an errcode or one of" in wrong["error_description"]


@pytest.mark.parametrize("kind", FAULTS)
async def test_fault_has_its_documented_effect(
    caller: Caller, kind: str, monkeypatch: pytest.MonkeyPatch, loop_clock: LoopClock
) -> None:
    monkeypatch.setattr(faults, "SLOW_DELAY", 100.0)
    caller.wechat.wechat.faults.set("stable_token", kind)
    outcome: object
    asked = asyncio.create_task(ask(caller))
    await eventually(lambda: caller.wechat.wechat.calls["stable_token"] == 1)
    if kind in ("slow", "hang"):
        await caller.json("GET", "/pretend/calls")  # other requests are answered
        assert not asked.done()
        await loop_clock.move(faults.SLOW_DELAY)
    if kind == "hang":
        await loop_clock.move(faults.SLOW_DELAY)
    try:
        outcome = await asked
    except (TimeoutError, aiohttp.ClientPayloadError) as error:
        outcome = type(error)

    assert (
        outcome
        == {
            "slow": (200, "application/json", True),
            "hang": TimeoutError,
            "503": (503, "text/html", True),
            "html": (200, "text/html", True),
            "cut": aiohttp.ClientPayloadError,
        }[kind]
    )


async def ask(caller: Caller) -> object:
    async with caller.http.post(
        "/cgi-bin/stable_token", json=TOKEN, timeout=aiohttp.ClientTimeout(140)
    ) as answer:
        return answer.status, answer.content_type, len(await answer.read()) > 0
