"""A client and a backend that send each other numbered messages, whatever happens to brokers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp

from tests.chaos.world import Instance, World
from tests.support.app_admin import TOKEN
from tests.support.tunnel_client import Backend, Fields, TunnelClient, TunnelServer
from tests.support.waiting import eventually
from tests.support.webhook import SECRET

UNREAD_MAX = 50
"""Messages that the backend pushes before the client has received them. A stream holds 100."""

ACK_INTERVAL = 20
"""Messages between two acknowledgements."""

RESUMABLE = frozenset({None, 1000, 1006, 1012, 1013})
"""Close codes after which a client resumes. aiohttp reports a lost connection as None or 1000."""

ATTEMPT_TIMEOUT = 10.0
"""Seconds of a push or a resume, which an unavailable broker may leave without an answer."""

RETRY_DELAY = 0.2

TALK_TIMEOUT = 240.0


def variables_of(backend: Backend) -> dict[str, str]:
    """Return the environment of brokers whose app `default` has this backend."""
    return {
        "SCAN_LOGIN_TUNNEL_URL": backend.url,
        "SCAN_LOGIN_WEBHOOK_SECRET": SECRET,
        "SCAN_LOGIN_WEBHOOKS_PRIVATE": "true",
        "SCAN_LOGIN_ADMIN_TOKEN": TOKEN,
        "SCAN_LOGIN_TUNNEL_MESSAGES_PER_SECOND": "100000",
    }


class Talk:
    """Numbered messages in both directions over one tunnel.

    at: the instance of the client's socket.
    received: the messages that the client has got.  answered: those that the backend has.
    resumes: how often the client has resumed.
    """

    def __init__(
        self, world: World, http: aiohttp.ClientSession, client: TunnelClient, at: Instance
    ) -> None:
        self.at = at
        self.client = client
        self.received: list[object] = []
        self.answered = 0
        self.resumes = 0
        self._world = world
        self._http = http
        self._was_read = asyncio.Event()
        self._may_send = asyncio.Event()

    async def run(self, count: int) -> None:
        """Send `count` messages in each direction, and read them."""
        async with asyncio.timeout(TALK_TIMEOUT), asyncio.TaskGroup() as group:
            group.create_task(self._push_all(count))
            group.create_task(self._send_all(count))
            while len(self.received) < count or self.answered < count:
                await self._read()

    async def resume(self) -> None:
        """Resume, at another instance if there is one."""
        while not await self._try_resume():
            await asyncio.sleep(RETRY_DELAY)
        self.resumes += 1
        self._may_send.set()

    async def _push_all(self, count: int) -> None:
        for number in range(1, count + 1):
            while number - len(self.received) > UNREAD_MAX:
                self._was_read.clear()
                await self._was_read.wait()
            while not await self._try_push(number):
                await asyncio.sleep(RETRY_DELAY)

    async def _try_push(self, number: int) -> bool:
        instance = self._world.any()
        if instance is None:
            return False
        with suppress(aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                server = TunnelServer(self._http, instance.url)
                answer = await server.push(self.client.tunnel_id, number, id=str(number), keep=600)
            assert answer.status in (200, 503), answer
            return answer.status == 200
        return False

    async def _send_all(self, count: int) -> None:
        """Send each message until it has a reply, and then the next one."""
        for number in range(1, count + 1):
            while self.answered < number:
                self._may_send.clear()
                with suppress(ConnectionError):
                    await self.client.send("message", id=str(number), data=number)
                await self._may_send.wait()

    async def _read(self) -> None:
        frame = await read_frame(self.client)
        if frame is None:
            await self.resume()
        elif frame["type"] == "message":
            self.received.append(frame["data"])
            self._was_read.set()
            if len(self.received) % ACK_INTERVAL == 0:
                with suppress(ConnectionError):
                    await self.client.send("ack", offset=frame["offset"])
        elif frame["type"] == "reply":
            self.answered += "error" not in frame and frame["id"] == str(self.answered + 1)
            self._may_send.set()

    async def _try_resume(self) -> bool:
        instance = self._world.any(but=self.at)
        if instance is None:
            return False
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                client = await TunnelClient.connect(self._http, f"{instance.url}/tunnel")
                await client.send("resume", **self.client.resume_fields(len(self.received)))
                frame = await read_frame(client)
            if frame is not None:
                assert frame["recovered"], frame
                client.opened, self.client, self.at = frame, client, instance
                return True
        return False


async def read_frame(client: TunnelClient) -> Fields | None:
    """Return the next frame; None if the client has to resume."""
    message = await client.websocket.receive()
    if message.type is aiohttp.WSMsgType.TEXT:
        frame: Fields = json.loads(message.data)
        if frame["type"] != "close":
            return frame
        assert frame["code"] in RESUMABLE, frame
    return None


@asynccontextmanager
async def talking(talk: Talk, count: int) -> AsyncIterator[None]:
    """Run the block in the middle of a talk, and wait for the end of the talk."""
    run = asyncio.create_task(talk.run(count))
    try:
        await eventually(lambda: run.done() or len(talk.received) > count // 5)
        yield
        await run
    finally:
        run.cancel()


async def open_talk(
    world: World, http: aiohttp.ClientSession, created_at: Instance | None = None
) -> Talk:
    """Open a tunnel at the first instance.  created_at: the instance that makes the ticket."""
    at = world.instances[0]
    created = await TunnelServer(http, (created_at or at).url).create()
    ticket = created["url"].rpartition("/")[2]
    return Talk(world, http, await TunnelClient.open(http, f"{at.url}/tunnel/{ticket}"), at)


def assert_complete(talk: Talk, backend: Backend, count: int) -> None:
    """Check that both sides have each message once, in order."""
    expected = list(range(1, count + 1))
    assert talk.received == expected
    messages = {one.id: one for one in backend.callbacks if one.type == "tunnel.message"}
    assert [one.data["data"] for one in messages.values()] == expected
    seqs = [one.data["seq"] for one in messages.values()]
    assert seqs == sorted(seqs)
