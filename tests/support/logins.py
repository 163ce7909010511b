"""Complete logins at a running broker."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt

from tests.support.builders import RunningBroker
from tests.support.clients import (
    Payload,
    PhoneClient,
    PythonBrowser,
)


async def token_of(broker: RunningBroker, name: str = "alice", app: str = "default") -> str:
    return await token_from(broker.url, name, app)


async def token_from(url: str, name: str = "alice", app: str = "default") -> str:
    """Return the token of a login at the broker with this URL."""
    browser = PythonBrowser(["websocket"])
    await browser.connect(url, {"app": app})
    begun = await browser.emit("begin", {})
    async with PhoneClient(url, name, app=app) as phone:
        await phone.post("scan", {"scene": begun["scene"]})
        await phone.post("confirm", {"login_id": begun["login_id"]})
    token = await browser.emit("redeem", secret_of(begun))
    await browser.close()
    return str(token["access_token"])


def secret_of(begun: dict[str, Any]) -> dict[str, str]:
    return {"login_id": begun["login_id"], "secret": begun["secret"]}


class Login:
    """A browser with its login."""

    def __init__(self, browser: PythonBrowser, begun: Payload) -> None:
        self.browser = browser
        self.scene = begun["scene"]
        self.named = {"login_id": begun["login_id"]}
        self._owned = {**self.named, "secret": begun["secret"]}

    async def heard(self) -> tuple[str, Payload]:
        return await self.browser.push()

    async def subject(self) -> str:
        redeemed = await self.browser.emit("redeem", self._owned)
        claims = jwt.decode(redeemed["access_token"], options={"verify_signature": False})
        assert claims["sub"] == redeemed["subject"]
        return str(claims["sub"])

    async def redeem(self) -> Payload:
        answer: Payload = await self.browser.emit("redeem", self._owned)
        return answer


@asynccontextmanager
async def new_login(broker: RunningBroker) -> AsyncIterator[Login]:
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    try:
        yield Login(browser, await browser.emit("begin", {}))
    finally:
        await browser.close()


@asynccontextmanager
async def browser_at(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[PythonBrowser]:
    browser = PythonBrowser(["websocket"], tls)
    await browser.connect(url)
    try:
        yield browser
    finally:
        await browser.close()


async def logs_in(url: str, tls: ssl.SSLContext | None = None) -> bool:
    """Return whether a complete login works, including the push of the confirm."""
    async with browser_at(url, tls) as browser, PhoneClient(url, tls=tls) as phone:
        begun = await browser.emit("begin", {})
        if "error" in begun:
            return False
        await phone.post("scan", {"scene": begun["scene"]})
        await phone.post("confirm", {"login_id": begun["login_id"]})
        while (await browser.push())[0] != "login-confirmed":
            continue
        owned = {"login_id": begun["login_id"], "secret": begun["secret"]}
        return "access_token" in await browser.emit("redeem", owned)
