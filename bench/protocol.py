"""What browsers and phones say, after docs/protocol.md: to the broker, and to its peers."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from bench.keepalive import Connection
from bench.socketio import Broken, Client
from bench.targets import Browser, Command, Phone, Pings


class LoginBrowser:
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
            url, namespace="/login", auth='{"app":"default"}', heard=browser._hear
        )
        return browser

    async def begin(self) -> None:
        begun = await self._call("begin", "{}")
        self.login_id, self.scene = begun["login_id"], begun["scene"]
        self._secret = begun["secret"]

    async def confirmed(self) -> float:
        return await self._confirmed

    async def redeem(self) -> None:
        owned = f'{{"login_id":"{self.login_id}","secret":"{self._secret}"}}'
        if not (await self._call("redeem", owned))["access_token"]:
            raise Broken("no token")

    def close(self) -> None:
        self._client.close()

    def drop(self) -> None:
        self._client.drop()

    @property
    def waits(self) -> bool:
        return self._client.is_open and not self._confirmed.done()

    @property
    def pings(self) -> Pings:
        return self._client.pings

    async def _call(self, event: str, payload: str) -> Any:
        answer = await self._client.call(event, payload)
        if "error" in answer:
            raise Broken(f"{event}: {answer['error']}")
        return answer

    def _hear(self, event: str, payload: Any, at: float) -> None:
        mine = payload["login_id"] == self.login_id
        if event == "login-confirmed" and mine and not self._confirmed.done():
            self._confirmed.set_result(at)


class LoginPhone:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._bearer = ""

    @classmethod
    async def connect(cls, url: str) -> Self:
        phone = cls(await Connection.open(url))
        session = await phone._post(
            b"/phone/session", b'{"app":"default","js_code":"pretend:alice"}'
        )
        phone._authorize(f"{session['id']}.{session['skey']}")
        return phone

    async def again(self, url: str) -> LoginPhone:
        phone = LoginPhone(await Connection.open(url))
        phone._authorize(self._bearer)
        return phone

    async def scan(self, browser: Browser) -> None:
        assert isinstance(browser, LoginBrowser)
        await self._post(b"/phone/scan", b'{"scene":"%b"}' % browser.scene.encode())

    async def confirm(self, browser: Browser) -> None:
        assert isinstance(browser, LoginBrowser)
        await self._post(b"/phone/confirm", b'{"login_id":"%b"}' % browser.login_id.encode())

    def close(self) -> None:
        self._connection.close()

    def _authorize(self, bearer: str) -> None:
        self._bearer = bearer
        self._connection.authorize(bearer)

    async def _post(self, path: bytes, body: bytes) -> Any:
        answer = await self._connection.post(path, body)
        if answer.status != 200:
            raise Broken(f"{path.decode()}: {answer.status} {answer.body['error']}")
        return answer.body


class SpeaksProtocol:
    """Half a candidate: its browsers and phones, with no server beside its own."""

    def beside(self) -> Command | None:
        return None

    async def browser(self, url: str) -> Browser:
        return await LoginBrowser.connect(url)

    async def phone(self, url: str) -> Phone:
        return await LoginPhone.connect(url)
