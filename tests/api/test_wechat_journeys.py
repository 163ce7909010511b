"""Tests of whole logins with the provider wechat, and of faults of WeChat.

They run against the WeChat simulator. A code reader decodes the displayed pictures.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import jwt
import pytest

from broker.directories.open import OpenDirectory
from broker.identity.model import UserProfile
from broker.infrastructure.runtime.server import Site, serve_sites
from broker.providers.wechat.client import RESPONSE_MAX_BYTES
from mp_stub.wechat.platform import person_id
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Payload, PhoneClient, PythonBrowser
from tests.support.leaks import Process, everything_in, fetch, leaked, process
from tests.support.servers.redis import Engines
from tests.support.wechat import (
    APPID,
    DRAW,
    IDENTIFY,
    PAGE,
    SECRET,
    TOKEN,
    Odd,
    Pretending,
    pretending,
    settings_of,
)
from tests.support.wechat_logins import begin, confirm, scanned


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as wechat:
        yield wechat


@pytest.mark.parametrize("state", ["memory", "valkey"])
async def test_login_from_code_to_token(
    state: str, wechat: Pretending, start_broker: StartBroker, engines: Engines, tmp_path: Path
) -> None:
    """With a shared state, the browser and the phone use different brokers."""
    shared = {"key_file": tmp_path / "keys.json", "state_url": engines.url(state)}
    settings = wechat.settings(**shared)
    brokers: list[RunningBroker] = [await start_broker(**settings)]
    brokers += [] if state == "memory" else [await start_broker(**settings)]
    browser = PythonBrowser(["websocket"])
    await browser.connect(brokers[0].url)

    new_login = await begin(browser)
    code = scanned(new_login)
    assert code == {"page": PAGE, "scene": new_login["scene"]}
    await confirm(brokers[-1].url, code["scene"], wechat.wechat.platform.login("alice"))
    pushes = [await browser.push() for _ in range(2)]
    redeemed = await browser.emit(
        "redeem", {"login_id": new_login["login_id"], "secret": new_login["secret"]}
    )
    await browser.close()

    login = {"login_id": new_login["login_id"]}
    assert pushes == [("login-scanned", login), ("login-confirmed", login)]
    claims = jwt.decode(redeemed["access_token"], options={"verify_signature": False})
    openid = person_id(APPID, "alice")
    assert (claims["idp"], claims["sub"]) == ("wechat", f"wechat:{openid}")
    assert person_id("", "alice") not in str(claims)
    assert wechat.wechat.calls[TOKEN] == len(brokers)
    for node in engines.nodes(state):
        assert not leaked({SECRET, *wechat.wechat.platform.issued}, everything_in(node))


async def test_unionid_reaches_the_directory(
    wechat: Pretending, start_broker: StartBroker, engines: Engines
) -> None:
    unionids: list[str | None] = []

    class Directory(OpenDirectory):
        async def find(self, identity: Any) -> UserProfile:
            unionids.append(identity.unionid)
            return UserProfile(subject="user-1")

    broker = await start_broker(Directory(), **wechat.settings(state_url=engines.url("valkey")))
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    new_login = await begin(browser)
    await confirm(broker.url, new_login["scene"], wechat.wechat.platform.login("alice"))
    await browser.close()

    assert unionids == [person_id("", "alice")]


async def test_unionid_bound_during_a_login_changes_no_identity(
    wechat: Pretending, start_broker: StartBroker
) -> None:
    broker = await start_broker(**wechat.settings())
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    new_login = await begin(browser)
    programs = wechat.wechat.platform.programs
    programs[APPID] = programs[APPID]._replace(has_unionid=False)
    async with PhoneClient(broker.url, js_code=wechat.wechat.platform.login("alice")) as phone:
        await phone.post("scan", {"scene": new_login["scene"]})
    programs[APPID] = programs[APPID]._replace(has_unionid=True)

    assert await confirm(broker.url, new_login["scene"], wechat.wechat.platform.login("alice"))
    await browser.close()


async def test_login_in_progress_completes_during_a_wechat_outage(
    wechat: Pretending, start_broker: StartBroker
) -> None:
    broker = await start_broker(**wechat.settings())
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    new_login = await begin(browser)
    async with PhoneClient(broker.url, js_code=wechat.wechat.platform.login("alice")) as phone:
        for api in (TOKEN, DRAW, IDENTIFY):
            wechat.wechat.faults.set(api, "hang")
        scan = await phone.post("scan", {"scene": new_login["scene"]})
        await phone.post("confirm", {"login_id": scan.body["login_id"]})
    credentials = {"login_id": new_login["login_id"], "secret": new_login["secret"]}
    redeemed = await browser.emit("redeem", credentials)
    await browser.close()

    assert redeemed["access_token"]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_largest_picture_reaches_the_browser(
    transport: str, start_broker: StartBroker
) -> None:
    odd = Odd(b"\xff\xd8\xff".ljust(RESPONSE_MAX_BYTES), "image/jpeg")
    site = Site("odd", odd.application(), "127.0.0.1", 0, "PORT")
    async with serve_sites([site]) as addresses:
        broker = await start_broker(**settings_of(addresses["odd"]))
        browser = PythonBrowser([transport])
        await browser.connect(broker.url)
        new_login = await begin(browser)
        await browser.close()

    assert len(new_login["code_url"]) > RESPONSE_MAX_BYTES * 4 / 3


# Faults, as the browser, the phone and the operator see them


class Responses(NamedTuple):
    """The errors that the browser and the phone receive; None for success."""

    browser: str | None
    phone: tuple[int, str] | None


SUCCESS = Responses(None, None)
NO_CODE = Responses("temporarily_unavailable", None)
INVALID_JS_CODE = Responses(None, (401, "invalid_session"))
PHONE_UNAVAILABLE = Responses(None, (503, "temporarily_unavailable"))

FAULTS: dict[tuple[str, str], Responses] = {
    (TOKEN, "-1"): NO_CODE,
    (TOKEN, "40013"): NO_CODE,
    (TOKEN, "40125"): NO_CODE,
    (TOKEN, "40164"): NO_CODE,
    (TOKEN, "45009"): NO_CODE,
    (DRAW, "-1"): NO_CODE,
    (DRAW, "503"): NO_CODE,
    (DRAW, "html"): NO_CODE,
    (DRAW, "cut"): NO_CODE,
    (DRAW, "slow"): SUCCESS,
    (DRAW, "40001"): NO_CODE,
    (DRAW, "41030"): NO_CODE,
    (DRAW, "45009"): NO_CODE,
    (IDENTIFY, "-1"): PHONE_UNAVAILABLE,
    (IDENTIFY, "503"): PHONE_UNAVAILABLE,
    (IDENTIFY, "html"): PHONE_UNAVAILABLE,
    (IDENTIFY, "cut"): PHONE_UNAVAILABLE,
    (IDENTIFY, "slow"): SUCCESS,
    (IDENTIFY, "40029"): INVALID_JS_CODE,
    (IDENTIFY, "40163"): INVALID_JS_CODE,
    (IDENTIFY, "40226"): Responses(None, (403, "access_denied")),
    (IDENTIFY, "45011"): Responses(None, (429, "rate_limited")),
    (IDENTIFY, "40125"): PHONE_UNAVAILABLE,
}

OUTCOMES = {"503": "unreadable", "html": "unreadable", "cut": "unreadable", "slow": "0"}
"""The errcode in the metrics for a fault without an errcode."""


@pytest.mark.parametrize(
    ("fault", "expected"), FAULTS.items(), ids=lambda one: "-".join(map(str, one))
)
async def test_wechat_fault_has_its_response(
    fault: tuple[str, str], expected: Responses, wechat: Pretending, start_broker: StartBroker
) -> None:
    api, name = fault
    wechat.wechat.faults.set(api, name)
    broker = await start_broker(**wechat.settings())
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)

    new_login = await begin(browser)
    async with aiohttp.ClientSession(broker.url) as http:
        body = {"app": "default", "js_code": wechat.wechat.platform.login("alice")}
        async with http.post("/phone/session", json=body) as response:
            answer, headers = await response.json(), response.headers
    await browser.close()

    phone = (response.status, answer["error"]) if "error" in answer else None
    assert Responses(new_login.get("error"), phone) == expected
    for text in (new_login, answer):
        assert "rid" not in text.get("error_description", "")
        if text.get("error") in ("temporarily_unavailable", "rate_limited"):
            assert text["retry_after"] > 0
    assert headers.get("Retry-After") == (
        str(answer["retry_after"]) if "retry_after" in answer else None
    )


def log_lines(broker: Process, **fields: object) -> list[Payload]:
    """Return the log lines that have these fields."""
    lines = [json.loads(line) for line in broker.log.read_text().splitlines()]
    return [line for line in lines if line.items() >= fields.items()]


async def test_fault_is_logged_with_advice_and_no_secret(
    wechat: Pretending, tmp_path: Path
) -> None:
    settings = {key.upper(): str(value) for key, value in wechat.settings().items()}
    refusals: list[Payload] = []
    faults = [fault for fault in FAULTS if fault[0] != TOKEN and fault[1] != "slow"]
    async with (
        process("one", "memory://", tmp_path, **settings) as broker,
        aiohttp.ClientSession() as http,
    ):
        browser = PythonBrowser(["websocket"])
        await browser.connect(broker.url)
        new_login = await begin(browser)
        await confirm(broker.url, new_login["scene"], wechat.wechat.platform.login("alice"))
        credentials = {"login_id": new_login["login_id"], "secret": new_login["secret"]}
        redeemed = await browser.emit("redeem", credentials)
        for api, name in faults:
            wechat.wechat.faults.set(api, name, 1)
            refusals.append(await begin(browser))
            body = {"app": "default", "js_code": wechat.wechat.platform.login("canary-person")}
            async with http.post(f"{broker.url}/phone/session", json=body) as response:
                refusals.append(await response.json())
        await browser.close()
        metrics = await fetch(http, f"{broker.metrics_url}/metrics")

    for api, name in faults:
        errcode = OUTCOMES.get(name, name)
        assert f'scanlogin_wechat_requests_total{{api="{api}",errcode="{errcode}"}}' in metrics
        lines = log_lines(broker, event="wechat request failed", api=api, errcode=errcode)
        assert lines
        assert all(line["appid"] == APPID and line["advice"] for line in lines)
        assert all(line["rid"] for line in lines) == (name not in OUTCOMES)
    secrets = {SECRET, new_login["scene"], *wechat.wechat.platform.issued}
    errors = [refusal for refusal in refusals if "error" in refusal]
    assert len(errors) > 5
    for text in (broker.log.read_text(), metrics, str(errors), redeemed["access_token"]):
        assert not leaked(secrets, text)


async def test_stopping_broker_cancels_hanging_wechat_requests(
    wechat: Pretending, tmp_path: Path
) -> None:
    settings = {key.upper(): str(value) for key, value in wechat.settings().items()}
    wechat.wechat.faults.set(TOKEN, "hang")
    async with asyncio.timeout(60):
        async with process("one", "memory://", tmp_path, **settings, DRAIN="0") as broker:
            pass
    assert "never retrieved" not in broker.log.read_text()
    assert "Unclosed" not in broker.log.read_text()
