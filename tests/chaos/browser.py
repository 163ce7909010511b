"""A browser that waits, as the official client and the widget do it, but light: hundreds at once.

It loses its socket and comes back to whatever instance there is, after 0.1 to
1 s; it resumes, begins again when its code is over, tries again what was
`temporarily_unavailable`, and takes a link for dead on which no answer comes.
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

ACK_WITHIN = 8.0
"""Seconds until an answer counts as lost: the widget's."""

PACKET_WITHIN = 45.0
"""Seconds without a packet after which a socket is dead: Engine.IO's ping interval and timeout."""

Payload = dict[str, Any]


class Gone(Exception):
    """The socket is at its end."""


LOST = (Gone, aiohttp.ClientError, OSError, TimeoutError)


class Code(NamedTuple):
    """What `begin` gave: the phone gets to know the first two."""

    login_id: str
    scene: str
    secret: str


class Socket:
    """A Socket.IO connection to /login; whoever waits for something reads the packets."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._pushes: deque[tuple[str, Payload]] = deque()
        self._calls = 0

    async def join(self) -> None:
        async with asyncio.timeout(ACK_WITHIN):
            await self._websocket.send_str('40/login,{"app":"default"}')
            while not (await self._packet()).startswith("40/login,"):
                pass

    async def call(self, event: str, payload: Payload) -> Payload:
        """Send an event, and return its answer."""
        self._calls += 1
        start = f"43/login,{self._calls}["
        async with asyncio.timeout(ACK_WITHIN):
            text = json.dumps([event, payload])
            await self._websocket.send_str(f"42/login,{self._calls}{text}")
            while True:
                packet = await self._packet()
                if packet.startswith(start):
                    return dict(json.loads(packet[len(start) - 1 :])[0])
                self._keep(packet)

    async def push(self) -> tuple[str, Payload]:
        while not self._pushes:
            self._keep(await self._packet())
        return self._pushes.popleft()

    async def ask_on(self, event: str) -> None:
        """Ask for ever and read nothing; raises once that is not taken any more."""
        self._websocket._response.connection.transport.pause_reading()  # type: ignore[union-attr]
        while True:
            await self._websocket.send_str(f'42/login,1["{event}",{{}}]')
            await asyncio.sleep(0)  # while there is room, sending does not wait

    def cut(self) -> None:
        """Break the connection off, without a word."""
        if self._websocket._response.connection is not None:
            self._websocket._response.connection.transport.abort()  # type: ignore[union-attr]

    def _keep(self, packet: str) -> None:
        if packet.startswith("42/login,["):
            event, payload = json.loads(packet.removeprefix("42/login,"))
            self._pushes.append((event, payload))

    async def _packet(self) -> str:
        """The next packet that is no ping."""
        while True:
            message = await self._websocket.receive(PACKET_WITHIN)
            if message.type is not aiohttp.WSMsgType.TEXT or message.data[:1] == "1":
                raise Gone
            if message.data.startswith("41/login"):
                raise Gone
            if message.data != "2":
                return str(message.data)
            await self._websocket.send_str("3")


@asynccontextmanager
async def joined(http: aiohttp.ClientSession, instance: Instance) -> AsyncIterator[Socket]:
    url = f"{instance.url}/socket.io/?EIO=4&transport=websocket"
    async with asyncio.timeout(ACK_WITHIN):
        websocket = await http.ws_connect(url)
    try:
        socket = Socket(websocket)
        await socket.join()
        yield socket
    finally:
        await websocket.close()


class Browser:
    """codes: every code that stood on its screen, for the phone to take.

    at: the instance that it is connected to, or was.
    redeems: it has asked for its token, and has no answer yet.
    """

    def __init__(self, http: aiohttp.ClientSession, world: World, ledger: Ledger) -> None:
        self.codes: asyncio.Queue[Code] = asyncio.Queue()
        self.code: Code | None = None
        self.at: Instance | None = None
        self.redeems = False
        self._http = http
        self._world = world
        self._ledger = ledger
        self._socket: Socket | None = None
        self._done = False

    def move(self) -> None:
        """Lose the socket, and so come back elsewhere."""
        if self._socket is not None:
            self._socket.cut()

    async def wait(self) -> None:
        """Until the token is there, or can never come."""
        while True:
            self.at = self._world.any(but=self.at)
            try:
                if self.at is not None:
                    async with joined(self._http, self.at) as self._socket:
                        return await self._stay(self._socket)
            except LOST:
                pass
            await asyncio.sleep(random.uniform(0.1, 1.0))

    async def _stay(self, socket: Socket) -> None:
        await (self._begin(socket) if self.code is None else self._resume(socket, self.code))
        while not self._done:
            event, payload = await socket.push()
            if self.code is not None and payload["login_id"] == self.code.login_id:
                await self._follow(socket, self.code, event.removeprefix("login-"))

    async def _begin(self, socket: Socket) -> None:
        answer = await self._ask(socket, "begin", {})
        self.code = Code(answer["login_id"], answer["scene"], answer["secret"])
        self._ledger.begun(self.code.login_id)
        self.codes.put_nowait(self.code)

    async def _resume(self, socket: Socket, code: Code) -> None:
        answer = await self._ask(socket, "resume", _proof(code))
        await self._follow(socket, code, answer.get("state", "expired"))

    async def _follow(self, socket: Socket, code: Code, state: str) -> None:
        if state in ("confirmed", "redeemed"):
            self._ledger.told(code.login_id)
            await self._redeem(socket, code)
        elif state in ("expired", "denied", "cancelled"):
            self._ledger.over(code.login_id)
            await self._begin(socket)

    async def _redeem(self, socket: Socket, code: Code) -> None:
        """Fetch the token.

        Where the confirm has gone with a master, wait on.  Any other refusal is
        final: the ledger says whether a token was owed.
        """
        self.redeems = True
        try:
            answer = await self._ask(socket, "redeem", _proof(code))
        finally:
            self.redeems = False
        word = answer.get("error")
        self._done = word != "authorization_pending"
        if word is None:
            self._ledger.token(code.login_id, answer["access_token"])
        else:
            self._ledger.refused("redeem", word)

    async def redeem_again(self, code: Code) -> None:
        """Ask for the token once more, wherever: it must be refused, or be the same one."""
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
            self._ledger.token(code.login_id, answer["access_token"])

    async def _ask(self, socket: Socket, event: str, payload: Payload) -> Payload:
        """The answer, asking again for as long as the broker says that it cannot just now."""
        while True:
            answer = await socket.call(event, payload)
            if answer.get("error") != "temporarily_unavailable":
                return answer
            await asyncio.sleep(answer["retry_after"] * random.uniform(1.0, 1.25))


def _proof(code: Code) -> Payload:
    return {"login_id": code.login_id, "secret": code.secret}
