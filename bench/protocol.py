"""Browsers and phones that use the protocol of docs/protocol.md, for all targets."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from bench.keepalive import Connection
from bench.socketio import Client, ProtocolError
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
            url, namespace="/login", auth='{"app":"default"}', on_event=browser._on_event
        )
        return browser

    async def begin(self) -> None:
        begun = await self._call("begin", "{}")
        self.login_id, self.scene = begun["login_id"], begun["scene"]
        self._secret = begun["secret"]

    async def wait_until_confirmed(self) -> float:
        return await self._confirmed

    async def redeem(self) -> None:
        proof = f'{{"login_id":"{self.login_id}","secret":"{self._secret}"}}'
        if not (await self._call("redeem", proof))["access_token"]:
            raise ProtocolError("no token")

    def close(self) -> None:
        self._client.close()

    def drop(self) -> None:
        self._client.drop()

    @property
    def is_waiting(self) -> bool:
        return self._client.is_open and not self._confirmed.done()

    @property
    def pings(self) -> Pings:
        return self._client.pings

    async def _call(self, event: str, payload: str) -> Any:
        answer = await self._client.call(event, payload)
        if "error" in answer:
            raise ProtocolError(f"{event}: {answer['error']}")
        return answer

    def _on_event(self, event: str, payload: Any, at: float) -> None:
        is_own = payload["login_id"] == self.login_id
        if event == "login-confirmed" and is_own and not self._confirmed.done():
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

    async def reconnect(self, url: str) -> LoginPhone:
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
            raise ProtocolError(f"{path.decode()}: {answer.status} {answer.body['error']}")
        return answer.body


class ProtocolTarget:
    """Base of targets that use this protocol and need no support server."""

    def support_server(self) -> Command | None:
        return None

    async def browser(self, url: str) -> Browser:
        return await LoginBrowser.connect(url)

    async def phone(self, url: str) -> Phone:
        return await LoginPhone.connect(url)
