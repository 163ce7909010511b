"""Logins of every kind over two broker processes and a Redis expose no secret.

MONITOR records every command that Redis receives. No command contains a secret, skey or token.
No bus message contains a scene or js_code. No log, metric or error contains any of them.
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


class Secrets:
    """Secrets and errors that the clients received.

    secrets: secrets, skeys, tokens and canaries.
    scenes: state keys may contain them.
    user_codes: as clients show them. State keys may contain them without the hyphen.
    js_codes: state keys may contain them: the pretend provider's subjects equal them.
    hashes: the hashes of secrets and skeys, which the state stores.
    """

    def __init__(self) -> None:
        self.secrets = {"canary"}
        self.scenes: set[str] = set()
        self.user_codes: set[str] = set()
        self.js_codes: set[str] = set()
        self.hashes: set[str] = set()
        self.errors: list[Payload] = []

    @property
    def stored_codes(self) -> list[str]:
        return [code.replace("-", "") for code in self.user_codes]

    @property
    def all(self) -> set[str]:
        codes = {*self.user_codes, *self.stored_codes}
        return self.secrets | self.scenes | codes | self.js_codes

    def record(self, answer: Payload) -> Payload:
        """Record the secrets or the error of an answer."""
        if "error" in answer:
            self.errors.append(answer)
        self.scenes |= {answer["scene"]} if "scene" in answer else set()
        self.user_codes |= {answer["user_code"]} if "user_code" in answer else set()
        for name in ("secret", "skey", "device_code"):
            if name in answer:
                secret = answer[name].rpartition(".")[2]
                self.secrets.add(secret)
                self.hashes.add(b64encode(hashlib.sha256(secret.encode()).digest()).decode())
        self.secrets |= {answer["access_token"]} if "access_token" in answer else set()
        return answer


class Clients:
    """Browsers, phones and devices. Each request names the broker by its index."""

    def __init__(self, brokers: list[Process], http: aiohttp.ClientSession) -> None:
        self.received = Secrets()
        self.brokers = brokers
        self._http = http
        self._open: list[PythonBrowser] = []

    async def socket(self, at: int, auth: object = None, namespace: str = "/login") -> Any:
        client = PythonBrowser(["websocket"])
        self._open.append(client)
        try:
            await client.connect(self.brokers[at].url, auth, namespace)
        except Refused as refusal:
            self.received.record(refusal.data)
        return client

    async def ask(self, client: PythonBrowser, event: str, payload: object) -> Payload:
        return self.received.record(await client.emit(event, payload))

    async def session(self, at: int, js_code: str) -> Payload:
        self.received.js_codes.add(js_code)
        return await self.phone(at, {}, "session", {"app": "default", "js_code": js_code})

    async def phone(self, at: int, session: Payload, verb: str, body: object) -> Payload:
        proof = {"X-WX-Id": session["id"], "X-WX-Skey": session["skey"]} if session else {}
        url = f"{self.brokers[at].url}/phone/{verb}"
        async with self._http.post(url, json=body, headers=proof) as response:
            return self.received.record(await response.json())

    async def device(self, at: int, path: str, **form: str) -> Payload:
        url = f"{self.brokers[at].url}/oauth/{path}"
        async with self._http.post(url, data={"client_id": "default", **form}) as response:
            return self.received.record(await response.json())

    async def close(self) -> None:
        for client in self._open:
            await client.close()


async def log_in_on_a_socket(clients: Clients) -> None:
    """Move the login to the other broker, and let another phone try to scan and confirm it."""
    before, browser = await clients.socket(0), await clients.socket(1)
    alice, mallory = [await clients.session(1, f"pretend:{name}") for name in ("alice", "mallory")]
    new_login = await clients.ask(before, "begin", {})
    login = {"login_id": new_login["login_id"]}
    owned = {**login, "secret": new_login["secret"]}
    await clients.ask(browser, "redeem", owned)
    await clients.ask(browser, "resume", owned)
    for session in (alice, mallory):
        await clients.phone(0, session, "scan", {"scene": new_login["scene"]})
    for session in (mallory, alice):
        await clients.phone(0, session, "confirm", login)
    assert await browser.push() == ("login-scanned", login)
    assert await browser.push() == ("login-confirmed", login)
    await clients.ask(browser, "redeem", {**login, "secret": "canary-secret"})
    assert "access_token" in await clients.ask(browser, "redeem", owned)
    await clients.ask(before, "redeem", owned)


async def deny_login(clients: Clients) -> None:
    """Deny by a phone on a socket. The browser then begins again, and cancels."""
    session = await clients.session(0, "pretend:bob")
    proof = {"id": session["id"], "skey": session["skey"]}
    phone = await clients.socket(0, proof, "/phone")
    browser = await clients.socket(1)
    new_login = await clients.ask(browser, "begin", {})
    await clients.ask(phone, "scan", {"scene": new_login["scene"]})
    await clients.ask(phone, "deny", {"login_id": new_login["login_id"]})
    owned = {"login_id": new_login["login_id"], "secret": new_login["secret"]}
    await clients.ask(browser, "redeem", owned)
    again = await clients.ask(browser, "begin", {})
    await clients.ask(browser, "cancel", {"login_id": again["login_id"], "secret": again["secret"]})


async def log_in_on_a_device(clients: Clients) -> None:
    carol = await clients.session(1, "pretend:carol")
    new_login = await clients.device(0, "device_authorization")
    form = {"grant_type": GRANT, "device_code": new_login["device_code"]}
    for _ in range(2):
        await clients.device(1, "token", **form)
    await clients.phone(1, carol, "scan", {"scene": new_login["user_code"]})
    await clients.phone(0, carol, "confirm", {"login_id": new_login["login_id"]})
    assert "access_token" in await clients.device(0, "token", **form)
    await clients.device(1, "token", **form)


async def send_refused_requests(clients: Clients) -> None:
    """Send wrong credentials and invalid requests, each with a canary."""
    dave = await clients.session(0, "pretend:dave")
    await clients.session(1, "canary-js-code")
    await clients.phone(1, {**dave, "skey": "canary-skey"}, "scan", {"scene": "some-scene"})
    await clients.phone(0, dave, "scan", {"scene": "some-scene"})
    await clients.phone(0, dave, "scan", {"scene": "canary " * 20})
    await clients.phone(0, dave, "confirm", ["canary"])
    await clients.phone(1, dave, "register", {"invitation": "canary-invitation"})
    await clients.device(0, "token", grant_type="canary", device_code="canary")
    await clients.device(1, "token", grant_type=GRANT, device_code="some-id.canary-secret")
    await clients.socket(0, {"app": "unknown-app"})  # an error names it: it is not secret
    await clients.socket(1, {"id": "some-id", "skey": "canary-skey"}, "/phone")
    browser = await clients.socket(0)
    await clients.ask(browser, "canary-event", {"secret": "canary"})
    await clients.ask(browser, "redeem", {"login_id": "some-id", "secret": "canary " * 20})
    for broker in clients.brokers:
        await send_raw(broker.url, b"GET /canary HTTP/1.1\r\nX-WX-Skey canary\r\n\r\n")


LOGINS = (log_in_on_a_socket, deny_login, log_in_on_a_device, send_refused_requests)

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
"""Errors that the logins receive. Other tests cover errors of an unavailable store."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


async def test_no_secret_is_exposed(redis: RedisServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        monitor = await stack.enter_async_context(monitored(redis))
        brokers = [
            await stack.enter_async_context(process(name, redis.url, tmp_path))
            for name in ("one", "two")
        ]
        http = await stack.enter_async_context(aiohttp.ClientSession())
        clients = Clients(brokers, http)
        for log_in in LOGINS:
            await log_in(clients)
        metrics = [await fetch(http, f"{broker.metrics_url}/metrics") for broker in brokers]
        await clients.close()
        with redis.client() as client:
            client.echo("the-end")
        await eventually(lambda: "the-end" in monitor.all())
    received = clients.received
    logs = [broker.log.read_text() for broker in brokers]

    assert {error["error"] for error in received.errors} == WORDS
    assert len(received.secrets) > 10
    assert len(received.scenes) == 4
    assert len(received.user_codes) == 1

    for event in ("login-scanned", "login-confirmed", "login-denied"):
        assert event in monitor.bus()
    assert not leaked(received.all, monitor.bus())

    assert not leaked(received.secrets, monitor.all())
    assert leaked(received.hashes, monitor.all()) == list(received.hashes)
    assert leaked(received.scenes, monitor.all()) == list(received.scenes)
    assert leaked(received.stored_codes, monitor.all()) == received.stored_codes

    assert all("malformed request" in log for log in logs)
    assert all("scanlogin_logins_total" in metric_text for metric_text in metrics)
    for output in (*logs, *metrics, str(received.errors)):
        assert not leaked(received.all, output)


async def test_planted_secret_is_found(redis: RedisServer) -> None:
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
