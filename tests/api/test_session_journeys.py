"""Sessions with the provider wechat, from wx.login to the sign-out; docs/sessions.md as written.

The WeChat is the pretend one; the broker stands over memory and SQLite, and over Redis
and PostgreSQL.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import jwt
import pytest

from mp_stub.wechat.platform import person_id
from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Payload, PhoneClient, PythonBrowser
from tests.support.environment import ROOT, need
from tests.support.leaks import everything_in, leaked
from tests.support.records import database_of
from tests.support.servers.redis import Engines
from tests.support.session_server import Server, basic, secret_of
from tests.support.waiting import eventually
from tests.support.wechat import APPID, SECRET, Pretending, pretending
from tests.support.wechat_user_data import IV, b64, encrypted, packed

DOCS = ROOT / "docs" / "sessions.md"
GROUP = {"openGId": "group-1", "watermark": {"appid": APPID, "timestamp": 1477314187}}


class Stage(NamedTuple):
    """Two brokers where they share a state, and the one otherwise; app `red` and its server."""

    wechat: Pretending
    brokers: list[RunningBroker]
    state: str
    secret: str
    server: Server

    def js_code(self, person: str = "alice") -> str:
        return self.wechat.wechat.platform.login(person)

    def session_key(self) -> str:
        """The only one so far: what the phone signs and encrypts with."""
        [key] = [one for one in self.wechat.wechat.platform.issued if one.endswith("==")]
        return key


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as wechat:
        yield wechat


@pytest.fixture(params=["memory and sqlite", "redis and postgresql"])
def places(request: pytest.FixtureRequest, engines: Engines) -> tuple[str, dict[str, str]]:
    """The state's name, and what a broker is told of state and records."""
    state, _, records = request.param.split()
    return state, {"state_url": engines.url(state), "records_url": database_of(records, request)}


@pytest.fixture
async def stage(
    places: tuple[str, dict[str, str]],
    wechat: Pretending,
    start_broker: StartBroker,
    tmp_path: Path,
) -> AsyncIterator[Stage]:
    state, urls = places
    settings = wechat.settings(admin_token=TOKEN, key_file=tmp_path / "keys.json", **urls)
    brokers = [await start_broker(**settings)]
    secret = await secret_of(brokers[0], "red")
    if state != "memory":
        brokers.append(await start_broker(**settings))
    async with aiohttp.ClientSession(brokers[-1].url) as http:
        for broker in brokers:
            await ready(http, broker)
        yield Stage(wechat, brokers, state, secret, Server(http, basic("red", secret)))


async def ready(http: aiohttp.ClientSession, broker: RunningBroker) -> None:
    """Return once the broker has reached its state: on a busy machine that takes a while."""

    async def is_ready() -> bool:
        async with http.get(f"{broker.url}/health/ready") as response:
            return response.status == 200

    await eventually(is_ready)


async def log_in(url: str, phone: PhoneClient) -> Payload:
    """A browser's login, confirmed by the phone; what it redeems."""
    browser = PythonBrowser(["websocket"])
    await browser.connect(url, {"app": "red"})
    new_login = await browser.emit("begin", {})
    scan = await phone.post("scan", {"scene": new_login["scene"]})
    await phone.post("confirm", {"login_id": scan.body["login_id"]})
    owned = {"login_id": new_login["login_id"], "secret": new_login["secret"]}
    redeemed: Payload = await browser.emit("redeem", owned)
    await browser.close()
    return redeemed


async def test_a_session_from_the_login_to_the_sign_out(stage: Stage, engines: Engines) -> None:
    first, last = stage.brokers[0].url, stage.brokers[-1].url
    async with PhoneClient(first, js_code=stage.js_code(), app="red") as phone:
        shown = {"id": phone.session["id"], "skey": phone.session["skey"]}

        who = (await stage.server.ask("/sessions/check", **shown)).body
        openid = person_id(APPID, "alice")
        assert who == {
            "app": "red",
            "openid": openid,
            "unionid": person_id("", "alice"),
            "subject": f"wechat:{openid}",
            "expires_in": pytest.approx(2_592_000, abs=60),
        }

        signature = hashlib.sha1(f"text{stage.session_key()}".encode()).hexdigest()
        signed = {"raw_data": "text", "signature": signature}
        assert (await stage.server.ask("/sessions/verify", **shown, **signed)).body == {
            "valid": True
        }
        signed["raw_data"] = "another"
        assert (await stage.server.ask("/sessions/verify", **shown, **signed)).body == {
            "valid": False
        }
        key = base64.b64decode(stage.session_key())
        sent = {"encrypted_data": encrypted(packed(GROUP), key), "iv": b64(IV)}
        opened = await stage.server.ask("/sessions/decrypt", **shown, **sent)
        assert opened.body == {"data": GROUP}

        redeemed = await log_in(last, phone)
        claims = jwt.decode(redeemed["access_token"], options={"verify_signature": False})
        assert claims["sub"] == redeemed["subject"] == who["subject"]

        for node in engines.nodes(stage.state):
            assert not leaked({SECRET, *stage.wechat.wechat.platform.issued}, everything_in(node))
        assert not leaked(stage.wechat.wechat.platform.issued, f"{who}{redeemed}{opened}")

        assert (await phone.delete("session")).body == {"ended": 1}
        for answer in (
            await phone.post("scan", {"scene": "x"}),
            await stage.server.ask("/sessions/check", **shown),
        ):
            assert (answer.status, answer.body["error"]) == (401, "invalid_session")


async def test_data_of_an_earlier_login_does_not_open(stage: Stage) -> None:
    old = (await stage.server.ask("/sessions", js_code=stage.js_code())).body
    key = base64.b64decode(stage.session_key())
    shown = {"id": old["id"], "skey": old["skey"]}
    sent = {"encrypted_data": encrypted(packed(GROUP), key), "iv": b64(IV)}
    foreign = packed({"watermark": {"appid": "wxffffffffffffffff"}})
    new = (await stage.server.ask("/sessions", js_code=stage.js_code())).body
    newer = {"id": new["id"], "skey": new["skey"]}

    refusals = [
        await stage.server.ask("/sessions/decrypt", **newer, **sent),
        await stage.server.ask(
            "/sessions/decrypt", **shown, **{**sent, "encrypted_data": encrypted(foreign, key)}
        ),
        await stage.server.ask("/sessions/decrypt", **shown, **{**sent, "iv": "*" * 24}),
    ]

    assert {answer.status for answer in refusals} == {400}
    assert len({str(answer.body) for answer in refusals}) == 1
    assert (await stage.server.ask("/sessions/decrypt", **shown, **sent)).status == 200


async def shell(lines: str, variables: dict[str, str]) -> list[Payload]:
    """What the examples print, one object after the other."""
    bash = await asyncio.create_subprocess_exec(
        *(need("bash"), "-c", lines),
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await bash.communicate()
    text, decoder, answers = output.decode(), json.JSONDecoder(), []
    while text:
        answer, end = decoder.raw_decode(text)
        answers.append(answer)
        text = text[end:]
    return answers


def kept(answer: Any) -> Any:
    """The names in an answer, without its values."""
    return {name: kept(value) for name, value in answer.items()} if isinstance(answer, dict) else 0


async def test_the_examples_of_the_docs_answer_as_written(stage: Stage) -> None:
    need("curl")
    examples = re.findall(r"```sh\n(.*?)```\n+```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    opened = (await stage.server.ask("/sessions", js_code=stage.js_code())).body
    key = stage.session_key()
    variables = {
        "BROKER": stage.brokers[0].url,
        "APP": "red",
        "SECRET": stage.secret,
        "JS_CODE": stage.js_code("bob"),
        "ID": opened["id"],
        "SKEY": opened["skey"],
        "OPENID": opened["openid"],
        "SIGNATURE": hashlib.sha1(f"text{key}".encode()).hexdigest(),
        "DATA": encrypted(packed(GROUP), base64.b64decode(key)),
        "IV": b64(IV),
    }

    assert len(examples) == 5
    for lines, written in examples:
        for answer in await shell(lines, variables):
            assert kept(answer) == kept(json.loads(written)), lines
