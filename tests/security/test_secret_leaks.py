"""Canaries: two broker processes, a real Redis, logins of every kind; no secret gets out.

Everything that the Redis is told is caught with MONITOR.  No secret, skey or token
may stand in it, no scene and no js_code go over the bus, and none of them may stand
in a log, a metric or an error.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.clients import Payload, PythonBrowser, Refused
from tests.support.device_flow import GRANT
from tests.support.leaks import (
    Process,
    fetch,
    leaked,
    monitored,
    process,
    send_raw,
)
from tests.support.servers.redis import RedisServer, redis_program, running
from tests.support.waiting import eventually


class Known:
    """What those outside hold, and what they were refused.

    secrets: secrets, skeys and tokens, and what is made up.
    scenes: these may stand in the state's keys.
    js_codes: these too, for the pretend provider's proofs read like the subjects they prove.
    kept: the hashes that the state is to have of secrets and skeys.
    """

    def __init__(self) -> None:
        self.secrets = {"canary"}
        self.scenes: set[str] = set()
        self.js_codes: set[str] = set()
        self.kept: set[str] = set()
        self.errors: list[Payload] = []

    @property
    def all(self) -> set[str]:
        return self.secrets | self.scenes | self.js_codes

    def learn(self, answer: Payload) -> Payload:
        """Take note of an answer's secrets, or of its error."""
        if "error" in answer:
            self.errors.append(answer)
        for name in ("scene", "user_code"):
            self.scenes |= {answer[name]} if name in answer else set()
        for name in ("secret", "skey", "device_code"):
            if name in answer:
                secret = answer[name].rpartition(".")[2]
                self.secrets.add(secret)
                self.kept.add(b64encode(hashlib.sha256(secret.encode()).digest()).decode())
        self.secrets |= {answer["access_token"]} if "access_token" in answer else set()
        return answer


class Outside:
    """Browsers, phones and devices, all of which talk to either broker."""

    def __init__(self, brokers: list[Process], http: aiohttp.ClientSession) -> None:
        self.known = Known()
        self.brokers = brokers
        self._http = http
        self._open: list[PythonBrowser] = []

    async def socket(self, at: int, auth: object = None, namespace: str = "/login") -> Any:
        client = PythonBrowser(["websocket"])
        self._open.append(client)
        try:
            await client.connect(self.brokers[at].url, auth, namespace)
        except Refused as refusal:
            self.known.learn(refusal.data)
        return client

    async def ask(self, client: PythonBrowser, event: str, payload: object) -> Payload:
        return self.known.learn(await client.emit(event, payload))

    async def session(self, at: int, js_code: str) -> Payload:
        self.known.js_codes.add(js_code)
        return await self.phone(at, {}, "session", {"app": "default", "js_code": js_code})

    async def phone(self, at: int, session: Payload, verb: str, body: object) -> Payload:
        proof = {"X-WX-Id": session["id"], "X-WX-Skey": session["skey"]} if session else {}
        url = f"{self.brokers[at].url}/phone/{verb}"
        async with self._http.post(url, json=body, headers=proof) as response:
            return self.known.learn(await response.json())

    async def device(self, at: int, path: str, **form: str) -> Payload:
        url = f"{self.brokers[at].url}/oauth/{path}"
        async with self._http.post(url, data={"client_id": "default", **form}) as response:
            return self.known.learn(await response.json())

    async def close(self) -> None:
        for client in self._open:
            await client.close()


async def log_in_on_a_socket(outside: Outside) -> None:
    """It moves from one broker to the other, and somebody else tries to get into it."""
    before, browser = await outside.socket(0), await outside.socket(1)
    alice, mallory = [await outside.session(1, f"pretend:{name}") for name in ("alice", "mallory")]
    begun = await outside.ask(before, "begin", {})
    login = {"login_id": begun["login_id"]}
    owned = {**login, "secret": begun["secret"]}
    await outside.ask(browser, "redeem", owned)
    await outside.ask(browser, "resume", owned)
    for session in (alice, mallory):
        await outside.phone(0, session, "scan", {"scene": begun["scene"]})
    for session in (mallory, alice):
        await outside.phone(0, session, "confirm", login)
    assert await browser.push() == ("login-scanned", login)
    assert await browser.push() == ("login-confirmed", login)
    await outside.ask(browser, "redeem", {**login, "secret": "canary-secret"})
    assert "access_token" in await outside.ask(browser, "redeem", owned)
    await outside.ask(before, "redeem", owned)


async def be_denied(outside: Outside) -> None:
    """By a phone on a socket; the browser then begins again, and cancels."""
    session = await outside.session(0, "pretend:bob")
    proof = {"id": session["id"], "skey": session["skey"]}
    phone = await outside.socket(0, proof, "/phone")
    browser = await outside.socket(1)
    begun = await outside.ask(browser, "begin", {})
    await outside.ask(phone, "scan", {"scene": begun["scene"]})
    await outside.ask(phone, "deny", {"login_id": begun["login_id"]})
    owned = {"login_id": begun["login_id"], "secret": begun["secret"]}
    await outside.ask(browser, "redeem", owned)
    again = await outside.ask(browser, "begin", {})
    await outside.ask(browser, "cancel", {"login_id": again["login_id"], "secret": again["secret"]})


async def log_in_on_a_device(outside: Outside) -> None:
    carol = await outside.session(1, "pretend:carol")
    begun = await outside.device(0, "device_authorization")
    form = {"grant_type": GRANT, "device_code": begun["device_code"]}
    for _ in range(2):
        await outside.device(1, "token", **form)
    await outside.phone(1, carol, "scan", {"scene": begun["user_code"]})
    await outside.phone(0, carol, "confirm", {"login_id": begun["login_id"]})
    assert "access_token" in await outside.device(0, "token", **form)
    await outside.device(1, "token", **form)


async def be_turned_away(outside: Outside) -> None:
    """By guesses and by nonsense, each with a canary of its own."""
    dave = await outside.session(0, "pretend:dave")
    await outside.session(1, "canary-js-code")
    await outside.phone(1, {**dave, "skey": "canary-skey"}, "scan", {"scene": "some-scene"})
    await outside.phone(0, dave, "scan", {"scene": "some-scene"})
    await outside.phone(0, dave, "scan", {"scene": "canary " * 20})
    await outside.phone(0, dave, "confirm", ["canary"])
    await outside.phone(1, dave, "register", {"invitation": "canary-invitation"})
    await outside.device(0, "token", grant_type="canary", device_code="canary")
    await outside.device(1, "token", grant_type=GRANT, device_code="some-id.canary-secret")
    await outside.socket(0, {"app": "canary-app"})
    await outside.socket(1, {"id": "some-id", "skey": "canary-skey"}, "/phone")
    browser = await outside.socket(0)
    await outside.ask(browser, "canary-event", {"secret": "canary"})
    await outside.ask(browser, "redeem", {"login_id": "some-id", "secret": "canary " * 20})
    for broker in outside.brokers:
        await send_raw(broker.url, b"GET /canary HTTP/1.1\r\nX-WX-Skey canary\r\n\r\n")


LOGINS = (log_in_on_a_socket, be_denied, log_in_on_a_device, be_turned_away)

WORDS = {
    "access_denied",
    "already_scanned",
    "authorization_pending",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_session",
    "slow_down",
    "unknown_scene",
    "unsupported_grant_type",
}
"""Failures that the logins met on their way; those of a broken store have tests of their own."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


async def test_no_secret_gets_out(redis: RedisServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        monitor = await stack.enter_async_context(monitored(redis))
        brokers = [
            await stack.enter_async_context(process(name, redis.url, tmp_path))
            for name in ("one", "two")
        ]
        http = await stack.enter_async_context(aiohttp.ClientSession())
        outside = Outside(brokers, http)
        for log_in in LOGINS:
            await log_in(outside)
        metrics = [await fetch(http, f"{broker.metrics_url}/metrics") for broker in brokers]
        await outside.close()
        with redis.client() as client:
            client.echo("the-end")
        await eventually(lambda: "the-end" in monitor.all())
    known = outside.known
    logs = [broker.log.read_text() for broker in brokers]

    assert {error["error"] for error in known.errors} == WORDS
    assert len(known.secrets) > 10
    assert len(known.scenes) == 4

    for event in ("login-scanned", "login-confirmed", "login-denied"):
        assert event in monitor.bus()
    assert not leaked(known.all, monitor.bus())

    assert not leaked(known.secrets, monitor.all())
    assert leaked(known.kept, monitor.all()) == list(known.kept)
    assert leaked(known.scenes, monitor.all()) == list(known.scenes)

    assert all("malformed request" in log for log in logs)
    assert all("scanlogin_logins_total" in one for one in metrics)
    for said in (*logs, *metrics, str(known.errors)):
        assert not leaked(known.all, said)


async def test_what_is_planted_is_found(redis: RedisServer) -> None:
    script = "redis.call('PUBLISH','scanlogin:instance:one',ARGV[1])"
    async with monitored(redis) as monitor:
        with redis.client() as client:
            client.set("some-key", '{"secret":"s3cr3t"}')
            client.publish("scanlogin:instance:one", '{"scene":"sc3n3"}')
            client.eval(script, 0, "t0k3n")
        await eventually(lambda: "t0k3n" in monitor.bus())

    assert leaked(["s3cr3t", "sc3n3", "t0k3n", "none"], monitor.all()) == [
        "s3cr3t",
        "sc3n3",
        "t0k3n",
    ]
    assert leaked(["s3cr3t", "sc3n3", "t0k3n"], monitor.bus()) == ["sc3n3", "t0k3n"]
