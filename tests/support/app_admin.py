"""A client of the admin port, and apps that tests add."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.support.builders import RunningBroker
from tests.support.clients import Answer, Payload, PythonBrowser
from tests.support.http_client import HTTPClient

TOKEN = "an-admin-token-of-32-characters-x"

SECRET = "canary-app-secret"

RED: Payload = {
    "id": "red",
    "name": "Red",
    "origins": ["https://red.example"],
    "register_url": "https://red.example/register",
    "login_lifetime": 60,
    "provider_secret": SECRET,
}


class Admin(HTTPClient):
    """A client of the admin port, with or without the admin token."""

    def __init__(self, url: str, token: str | None = TOKEN) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        super().__init__(aiohttp.ClientSession(url, headers=headers))

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        async with self.http.request(method, path, json=body) as response:
            answer = await response.json() if response.status != 204 else None
            return Answer(response.status, answer, response.headers)


ODD: list[object] = [
    *(None, True, 0, -1, 1.5, 10**30, [], {}, [[]], [None], {"a": 1}),
    *("", "\0", "\ud800", "x" * 10_000, "https://[", "https://\ud800", "//x", "'; DROP TABLE apps"),
    *(["\ud800"], ["https://["], ["https://a.example"] * 200, ["x" * 501]),
]


@asynccontextmanager
async def page(broker: RunningBroker, app: str, origin: str) -> AsyncIterator[PythonBrowser]:
    """A browser on a page of `origin`."""
    browser = PythonBrowser(["websocket"])
    browser._http.headers["Origin"] = origin
    try:
        await browser.connect(broker.url, {"app": app})
        yield browser
    finally:
        await browser.close()


async def phone_of(http: aiohttp.ClientSession, app: str, name: str) -> dict[str, str]:
    """Open a session for `app`, and return its request headers."""
    body = {"app": app, "js_code": f"pretend:{name}"}
    async with http.post("/phone/session", json=body) as response:
        session = await response.json()
    return {"Authorization": f"Bearer {session['id']}.{session['skey']}"}


async def post(
    http: aiohttp.ClientSession, path: str, headers: dict[str, str] | None = None, **form: Any
) -> Payload:
    body: dict[str, Any] = {"data": form} if path.startswith("/oauth") else {"json": form}
    async with http.post(path, headers=headers, **body) as response:
        answer: Payload = await response.json()
        return answer
