"""Chat clients of a running broker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
from aiohttp import web

from tests.support.clients import WAIT, BrowserClient, Payload, PhoneClient, PythonBrowser, Refused
from tests.support.http_site import serving
from tests.support.webhook import SECRET, Site

NAMESPACE = "/chat"


class ChatClient:
    """One connection. ready: the payload of `chat-ready`.

    origin: of its page, if it is one.
    browser: the client; python-socketio's by default.
    """

    def __init__(self, origin: str | None = None, browser: BrowserClient | None = None) -> None:
        self._browser = browser or python_client(origin)
        self._waiting: deque[tuple[str, Any]] = deque()
        self._numbers = 0
        self.ready: Payload = {}

    async def connect(self, url: str, auth: object) -> Self:
        """Raises Refused, with the body of the refusal."""
        await self._browser.connect(url, auth, NAMESPACE)
        self.ready = await self.push("chat-ready")
        return self

    async def ask(self, event: str, payload: object = None) -> Any:
        return await self._browser.emit(event, {} if payload is None else payload)

    async def join(self, room: str = "lounge", **fields: object) -> Any:
        return await self.ask("join", {"room": room, **fields})

    async def say(self, text: str, room: str = "lounge", **fields: object) -> Any:
        self._numbers += 1
        return await self.ask(
            "say", {"room": room, "id": f"m{self._numbers}", "text": text} | fields
        )

    async def push(self, event: str, where: Callable[[Any], bool] = lambda payload: True) -> Any:
        """Return the next push of an event. Those that were passed over can be read later."""
        passed: deque[tuple[str, Any]] = deque()
        try:
            async with asyncio.timeout(WAIT):
                while True:
                    found = self._waiting.popleft() if self._waiting else await self._browser.push()
                    if found[0] == event and where(found[1]):
                        return found[1]
                    passed.append(found)
        finally:
            self._waiting.extendleft(reversed(passed))

    async def next(self) -> tuple[str, Any]:
        """Return the next push of any event, however long it takes."""
        assert isinstance(self._browser, PythonBrowser)
        return self._waiting.popleft() if self._waiting else await self._browser._pushes.get()

    def stay_closed(self) -> asyncio.Event:
        """Do not connect again after a loss. Return an event that is set by the loss."""
        assert isinstance(self._browser, PythonBrowser)
        self._browser._client.reconnection = False
        return self._browser.disconnected

    def stop_reading(self) -> None:
        """Read nothing from now on, as a client whose network is too slow."""
        assert isinstance(self._browser, PythonBrowser)
        websocket: Any = self._browser._client.eio.ws
        websocket._response.connection.transport.pause_reading()

    def arrived(self, event: str) -> list[Any]:
        """Return all pushes of an event that have arrived and were not read, and leave them."""
        assert isinstance(self._browser, PythonBrowser)
        while not self._browser._pushes.empty():
            self._waiting.append(self._browser._pushes.get_nowait())
        return [payload for name, payload in self._waiting if name == event]

    async def texts(self, count: int) -> list[str]:
        return [(await self.push("chat-message"))["text"] for _ in range(count)]

    async def close(self) -> None:
        await self._browser.close()


async def refusal(url: str, auth: object) -> str:
    """Return the error of a refused CONNECT."""
    with pytest.raises(Refused) as refused:
        await ChatClient().connect(url, auth)
    return str(refused.value.data["error"])


def python_client(origin: str | None) -> PythonBrowser:
    browser = PythonBrowser(["websocket"])
    if origin is not None:
        browser._http.headers["Origin"] = origin
    return browser


@asynccontextmanager
async def chatting(
    url: str, name: str = "alice", app: str = "default", **auth: object
) -> AsyncIterator[ChatClient]:
    """A connection of a person, by a new session of the person's phone."""
    client = ChatClient()
    async with PhoneClient(url, name, app=app) as phone:
        proof = {"id": phone.session["id"], "skey": phone.session["skey"]}
        await client.connect(url, proof | auth)
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def admitting(status: int = 200, body: object = None) -> AsyncIterator[tuple[Site, Payload]]:
    """A site that answers each request for admission, and the settings of its broker."""
    site = Site()

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({} if body is None else body, status=status)

    site.answer = answer
    application = web.Application()
    application.router.add_post("/admit", site.hook)
    async with serving(application) as port:
        settings = {
            "chat_rooms": f"http://127.0.0.1:{port}/admit",
            "webhook_secret": SECRET,
            "webhooks_private": True,
        }
        yield site, settings
