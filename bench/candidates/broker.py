"""This broker, as docs/protocol.md says it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from bench.candidates import Browser, Command, Phone
from bench.keepalive import Connection
from bench.socketio import Broken, Client
from broker import __version__

LIFETIME = "900"
"""Seconds that a code lives: longer than a run, so that none ends in the middle."""

NO_LIMIT = "1000000"
"""The whole load comes from one address."""

MADE_OF = ("aiohttp", "python-socketio", "redis", "hiredis")


class BrokerBrowser:
    def __init__(self) -> None:
        self._confirmed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._client: Client
        self._secret = ""
        self.login_id = ""
        self.scene = ""

    @classmethod
    async def connect(cls, url: str) -> Self:
        browser = cls()
        browser._client = await Client.join(
            url, namespace="/login", auth={"app": "default"}, heard=browser._hear
        )
        return browser

    async def begin(self) -> None:
        begun = await self._call("begin", {})
        self.login_id, self.scene = begun["login_id"], begun["scene"]
        self._secret = begun["secret"]

    async def confirmed(self) -> float:
        return await self._confirmed

    async def redeem(self) -> None:
        owned = {"login_id": self.login_id, "secret": self._secret}
        if not (await self._call("redeem", owned))["access_token"]:
            raise Broken("no token")

    def close(self) -> None:
        self._client.close()

    @property
    def waits(self) -> bool:
        return self._client.is_open and not self._confirmed.done()

    async def _call(self, event: str, payload: object) -> Any:
        answer = await self._client.call(event, payload)
        if "error" in answer:
            raise Broken(f"{event}: {answer['error']}")
        return answer

    def _hear(self, event: str, payload: Any, at: float) -> None:
        mine = payload["login_id"] == self.login_id
        if event == "login-confirmed" and mine and not self._confirmed.done():
            self._confirmed.set_result(at)


class BrokerPhone:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._headers: dict[str, str] = {}

    @classmethod
    async def connect(cls, url: str) -> Self:
        """A session of its own, and everybody the same person, so that any may confirm."""
        phone = cls(await Connection.open(url))
        session = await phone._post("session", {"app": "default", "js_code": "pretend:alice"})
        phone._headers = {"Authorization": f"Bearer {session['id']}.{session['skey']}"}
        return phone

    async def scan(self, browser: Browser) -> None:
        assert isinstance(browser, BrokerBrowser)
        await self._post("scan", {"scene": browser.scene})

    async def confirm(self, browser: Browser) -> None:
        assert isinstance(browser, BrokerBrowser)
        await self._post("confirm", {"login_id": browser.login_id})

    def close(self) -> None:
        self._connection.close()

    async def _post(self, verb: str, body: object) -> Any:
        answer = await self._connection.post(f"/phone/{verb}", body, self._headers)
        if answer.status != 200:
            raise Broken(f"{verb}: {answer.status} {answer.body['error']}")
        return answer.body


class BrokerCandidate:
    name = "broker"
    warm_up = 3.0

    def command(self, *, redis_url: str, folder: Path) -> Command:
        environment = {
            "SCAN_LOGIN_PORT": "0",
            "SCAN_LOGIN_ADMIN_PORT": "0",
            "SCAN_LOGIN_PUBLIC_URL": "http://127.0.0.1",
            "SCAN_LOGIN_STATE_URL": redis_url,
            "SCAN_LOGIN_KEY_FILE": str(folder / "keys.json"),
            "SCAN_LOGIN_LOGIN_LIFETIME": LIFETIME,
            "SCAN_LOGIN_BEGINS_PER_MINUTE": NO_LIMIT,
            "SCAN_LOGIN_MISSES_PER_MINUTE": NO_LIMIT,
            "SCAN_LOGIN_LOG_LEVEL": "warning",
        }
        return Command([sys.executable, "-m", "broker", "serve"], environment)

    def versions(self) -> Mapping[str, str]:
        return {"broker": __version__, **{name: version(name) for name in MADE_OF}}

    async def browser(self, url: str) -> Browser:
        return await BrokerBrowser.connect(url)

    async def phone(self, url: str) -> Phone:
        return await BrokerPhone.connect(url)


CANDIDATE = BrokerCandidate()
