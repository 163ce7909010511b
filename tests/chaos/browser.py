"""A light browser client that behaves as the widget does; a test can run hundreds.

It reconnects to any instance after 0.1 to 1 s, and resumes its login. It begins again if its
login has ended, and repeats requests that failed with `temporarily_unavailable`. A connection
without an answer counts as lost.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from tests.chaos.ledger import Ledger
from tests.chaos.world import Instance, World

ACK_TIMEOUT = 8.0
"""Seconds until an answer counts as lost, as in the widget."""

PACKET_TIMEOUT = 45.0
"""Seconds without a packet after which a socket is dead: Engine.IO's ping interval and timeout."""

Payload = dict[str, Any]


class ConnectionClosed(Exception):
    """The server has closed the socket or the namespace."""


CONNECTION_ERRORS = (ConnectionClosed, aiohttp.ClientError, OSError, TimeoutError)


class Code(NamedTuple):
    """The answer to `begin`. The phone knows the first two fields."""

    login_id: str
    scene: str
    secret: str


class Socket:
    """A Socket.IO connection to /login. `call` and `push` read the packets."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._pushes: deque[tuple[str, Payload]] = deque()
        self._calls = 0

    async def join(self) -> None:
        async with asyncio.timeout(ACK_TIMEOUT):
            await self._websocket.send_str('40/login,{"app":"default"}')
            while not (await self._packet()).startswith("40/login,"):
                pass

    async def call(self, event: str, payload: Payload) -> Payload:
        """Send an event, and return its answer."""
        self._calls += 1
        start = f"43/login,{self._calls}["
        async with asyncio.timeout(ACK_TIMEOUT):
            text = json.dumps([event, payload])
            await self._websocket.send_str(f"42/login,{self._calls}{text}")
            while True:
                packet = await self._packet()
                if packet.startswith(start):
                    return dict(json.loads(packet[len(start) - 1 :])[0])
                self._store(packet)

    async def push(self) -> tuple[str, Payload]:
        while not self._pushes:
            self._store(await self._packet())
        return self._pushes.popleft()

    async def send_repeatedly(self, event: str) -> None:
        """Send events and read nothing, until the server closes the socket. Raises then."""
        self._websocket._response.connection.transport.pause_reading()  # type: ignore[union-attr]
        while True:
            await self._websocket.send_str(f'42/login,1["{event}",{{}}]')
            await asyncio.sleep(0)  # sending does not wait while the buffer has space

    def cut(self) -> None:
        """Reset the connection."""
        if self._websocket._response.connection is not None:
            self._websocket._response.connection.transport.abort()  # type: ignore[union-attr]

    def _store(self, packet: str) -> None:
        if packet.startswith("42/login,["):
            event, payload = json.loads(packet.removeprefix("42/login,"))
            self._pushes.append((event, payload))

    async def _packet(self) -> str:
        """Return the next packet that is not a ping."""
        while True:
            message = await self._websocket.receive(PACKET_TIMEOUT)
            if message.type is not aiohttp.WSMsgType.TEXT or message.data[:1] == "1":
                raise ConnectionClosed
            if message.data.startswith("41/login"):
                raise ConnectionClosed
            if message.data != "2":
                return str(message.data)
            await self._websocket.send_str("3")


@asynccontextmanager
async def joined(http: aiohttp.ClientSession, instance: Instance) -> AsyncIterator[Socket]:
    url = f"{instance.url}/socket.io/?EIO=4&transport=websocket"
    async with asyncio.timeout(ACK_TIMEOUT):
        websocket = await http.ws_connect(url)
    try:
        socket = Socket(websocket)
        await socket.join()
        yield socket
    finally:
        await websocket.close()


class Browser:
    """A browser that waits for its token.

    codes: the codes that it has shown, for the phone to scan.

    instance: the instance of the current or the last connection.
    is_redeeming: it has requested its token, and has no answer yet.
    """

    def __init__(self, http: aiohttp.ClientSession, world: World, ledger: Ledger) -> None:
        self.codes: asyncio.Queue[Code] = asyncio.Queue()
        self.code: Code | None = None
        self.at: Instance | None = None
        self.is_redeeming = False
        self._http = http
        self._world = world
        self._ledger = ledger
        self._socket: Socket | None = None
        self._done = False

    def move(self) -> None:
        """Reset the connection. The browser reconnects to another instance."""
        if self._socket is not None:
            self._socket.cut()

    async def wait(self) -> None:
        """Wait until the token has arrived, or cannot arrive."""
        while True:
            self.at = self._world.any(but=self.at)
            try:
                if self.at is not None:
                    async with joined(self._http, self.at) as self._socket:
                        return await self._serve_socket(self._socket)
            except CONNECTION_ERRORS:
                pass
            await asyncio.sleep(random.uniform(0.1, 1.0))

    async def _serve_socket(self, socket: Socket) -> None:
        await (self._begin(socket) if self.code is None else self._resume(socket, self.code))
        while not self._done:
            event, payload = await socket.push()
            if self.code is not None and payload["login_id"] == self.code.login_id:
                await self._follow(socket, self.code, event.removeprefix("login-"))

    async def _begin(self, socket: Socket) -> None:
        answer = await self._ask(socket, "begin", {})
        self.code = Code(answer["login_id"], answer["scene"], answer["secret"])
        self._ledger.add_login(self.code.login_id)
        self.codes.put_nowait(self.code)

    async def _resume(self, socket: Socket, code: Code) -> None:
        answer = await self._ask(socket, "resume", _proof(code))
        await self._follow(socket, code, answer.get("state", "expired"))

    async def _follow(self, socket: Socket, code: Code, state: str) -> None:
        if state in ("confirmed", "redeemed"):
            self._ledger.set_notified(code.login_id)
            await self._redeem(socket, code)
        elif state in ("expired", "denied", "cancelled"):
            self._ledger.set_ended(code.login_id)
            await self._begin(socket)

    async def _redeem(self, socket: Socket, code: Code) -> None:
        """Fetch the token.

        If the confirm was lost with a master, wait again. Any other refusal is final;
        the ledger knows whether a token was due.
        """
        self.is_redeeming = True
        try:
            answer = await self._ask(socket, "redeem", _proof(code))
        finally:
            self.is_redeeming = False
        word = answer.get("error")
        self._done = word != "authorization_pending"
        if word is None:
            self._ledger.add_token(code.login_id, answer["access_token"])
        else:
            self._ledger.add_refusal("redeem", word)

    async def redeem_again(self, code: Code) -> None:
        """Request the token again at any instance: it is refused, or the same token."""
        instance = self._world.any()
        assert instance is not None
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "client_id": "default",
            "device_code": f"{code.login_id}.{code.secret}",
        }
        async with self._http.post(f"{instance.url}/oauth/token", data=form) as response:
            answer = await response.json()
        if "access_token" in answer:
            self._ledger.add_token(code.login_id, answer["access_token"])

    async def _ask(self, socket: Socket, event: str, payload: Payload) -> Payload:
        """Return the answer. Repeat the request while it is `temporarily_unavailable`."""
        while True:
            answer = await socket.call(event, payload)
            if answer.get("error") != "temporarily_unavailable":
                return answer
            await asyncio.sleep(answer["retry_after"] * random.uniform(1.0, 1.25))


def _proof(code: Code) -> Payload:
    return {"login_id": code.login_id, "secret": code.secret}
