"""Tests of sessions with the provider wechat, and of the examples in docs/sessions.md.

They run against the WeChat simulator. The broker uses memory and SQLite, or Redis and
PostgreSQL.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import jwt
import pytest

from mp_stub.wechat.platform import person_id
from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Payload, PhoneClient, PythonBrowser
from tests.support.doc_examples import shell, structure
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


class Deployment(NamedTuple):
    """Two brokers that share a state, or one broker; the app `red` and its server."""

    wechat: Pretending
    brokers: list[RunningBroker]
    state: str
    secret: str
    server: Server

    def js_code(self, person: str = "alice") -> str:
        return self.wechat.wechat.platform.login(person)

    def session_key(self) -> str:
        """Return the only session key. The phone signs and encrypts with it."""
        [key] = [one for one in self.wechat.wechat.platform.issued if one.endswith("==")]
        return key


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as wechat:
        yield wechat


@pytest.fixture(params=["memory and sqlite", "redis and postgresql"])
def databases(request: pytest.FixtureRequest, engines: Engines) -> tuple[str, dict[str, str]]:
    """The kind of the state, and the settings for state and records."""
    state, _, records = request.param.split()
    return state, {"state_url": engines.url(state), "records_url": database_of(records, request)}


@pytest.fixture
async def deployment(
    databases: tuple[str, dict[str, str]],
    wechat: Pretending,
    start_broker: StartBroker,
    tmp_path: Path,
) -> AsyncIterator[Deployment]:
    state, urls = databases
    settings = wechat.settings(admin_token=TOKEN, key_file=tmp_path / "keys.json", **urls)
    brokers = [await start_broker(**settings)]
    secret = await secret_of(brokers[0], "red")
    if state != "memory":
        brokers.append(await start_broker(**settings))
    async with aiohttp.ClientSession(brokers[-1].url) as http:
        for broker in brokers:
            await ready(http, broker)
        yield Deployment(wechat, brokers, state, secret, Server(http, basic("red", secret)))


async def ready(http: aiohttp.ClientSession, broker: RunningBroker) -> None:
    """Wait until the broker is connected to its state."""

    async def is_ready() -> bool:
        async with http.get(f"{broker.url}/health/ready") as response:
            return response.status == 200

    await eventually(is_ready)


async def log_in(url: str, phone: PhoneClient) -> Payload:
    """Confirm a login with the phone, and return the redeemed token."""
    browser = PythonBrowser(["websocket"])
    await browser.connect(url, {"app": "red"})
    new_login = await browser.emit("begin", {})
    scan = await phone.post("scan", {"scene": new_login["scene"]})
    await phone.post("confirm", {"login_id": scan.body["login_id"]})
    credentials = {"login_id": new_login["login_id"], "secret": new_login["secret"]}
    redeemed: Payload = await browser.emit("redeem", credentials)
    await browser.close()
    return redeemed


async def test_session_from_login_to_sign_out(deployment: Deployment, engines: Engines) -> None:
    first, last = deployment.brokers[0].url, deployment.brokers[-1].url
    async with PhoneClient(first, js_code=deployment.js_code(), app="red") as phone:
        session = {"id": phone.session["id"], "skey": phone.session["skey"]}

        checked = (await deployment.server.ask("/sessions/check", **session)).body
        openid = person_id(APPID, "alice")
        assert checked == {
            "app": "red",
            "openid": openid,
            "unionid": person_id("", "alice"),
            "subject": f"wechat:{openid}",
            "expires_in": pytest.approx(2_592_000, abs=60),
        }

        signature = hashlib.sha1(f"text{deployment.session_key()}".encode()).hexdigest()
        signed = {"raw_data": "text", "signature": signature}
        assert (await deployment.server.ask("/sessions/verify", **session, **signed)).body == {
            "valid": True
        }
        signed["raw_data"] = "another"
        assert (await deployment.server.ask("/sessions/verify", **session, **signed)).body == {
            "valid": False
        }
        key = base64.b64decode(deployment.session_key())
        ciphertext = {"encrypted_data": encrypted(packed(GROUP), key), "iv": b64(IV)}
        opened = await deployment.server.ask("/sessions/decrypt", **session, **ciphertext)
        assert opened.body == {"data": GROUP}

        redeemed = await log_in(last, phone)
        claims = jwt.decode(redeemed["access_token"], options={"verify_signature": False})
        assert claims["sub"] == redeemed["subject"] == checked["subject"]

        for node in engines.nodes(deployment.state):
            assert not leaked(
                {SECRET, *deployment.wechat.wechat.platform.issued}, everything_in(node)
            )
        assert not leaked(deployment.wechat.wechat.platform.issued, f"{checked}{redeemed}{opened}")

        assert (await phone.delete("session")).body == {"ended": 1}
        for answer in (
            await phone.post("scan", {"scene": "x"}),
            await deployment.server.ask("/sessions/check", **session),
        ):
            assert (answer.status, answer.body["error"]) == (401, "invalid_session")


async def test_data_of_an_earlier_session_is_not_decrypted(deployment: Deployment) -> None:
    old = (await deployment.server.ask("/sessions", js_code=deployment.js_code())).body
    key = base64.b64decode(deployment.session_key())
    session = {"id": old["id"], "skey": old["skey"]}
    ciphertext = {"encrypted_data": encrypted(packed(GROUP), key), "iv": b64(IV)}
    foreign = packed({"watermark": {"appid": "wxffffffffffffffff"}})
    new = (await deployment.server.ask("/sessions", js_code=deployment.js_code())).body
    new_session = {"id": new["id"], "skey": new["skey"]}

    refusals = [
        await deployment.server.ask("/sessions/decrypt", **new_session, **ciphertext),
        await deployment.server.ask(
            "/sessions/decrypt",
            **session,
            **{**ciphertext, "encrypted_data": encrypted(foreign, key)},
        ),
        await deployment.server.ask(
            "/sessions/decrypt", **session, **{**ciphertext, "iv": "*" * 24}
        ),
    ]

    assert {answer.status for answer in refusals} == {400}
    assert len({str(answer.body) for answer in refusals}) == 1
    assert (await deployment.server.ask("/sessions/decrypt", **session, **ciphertext)).status == 200


async def test_examples_in_the_docs_return_the_documented_responses(
    deployment: Deployment,
) -> None:
    need("curl")
    examples = re.findall(r"```sh\n(.*?)```\n+```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    opened = (await deployment.server.ask("/sessions", js_code=deployment.js_code())).body
    key = deployment.session_key()
    variables = {
        "BROKER": deployment.brokers[0].url,
        "APP": "red",
        "SECRET": deployment.secret,
        "JS_CODE": deployment.js_code("bob"),
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
            assert structure(answer) == structure(json.loads(written)), lines
