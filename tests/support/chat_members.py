"""Members of a chat room who stay through faults, as `docs/chat.md` tells clients to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import socketio

from tests.support.chat import ChatClient
from tests.support.clients import Payload, Refused

RETRY_DELAY = 0.1
"""Seconds before a connection or a message is repeated."""

CONNECT_TIMEOUT = 30.0

LOST = {"error": "unreachable"}
"""The answer if the connection closes before it arrives."""

FINAL = {"invalid_request", "invalid_token"}
"""Errors that no repetition changes."""

ROOM = "lounge"


async def wait_to_repeat() -> None:
    await asyncio.sleep(RETRY_DELAY)


class ChatMember:
    """A person with one connection, which is opened again after each loss.

    urls: returns the URLs of instances to connect to, in turn.
    entries: the texts that the person has, by offset.
    stored: the texts whose `say` has an ack, by offset.
    resets: how often the list was replaced.
    faults: pushes and answers that do not continue the list.
    """

    def __init__(self, name: str, urls: Callable[[], Sequence[str]]) -> None:
        self.name = name
        self.entries: dict[int, str] = {}
        self.stored: dict[int, str] = {}
        self.resets = 0
        self.connects = 0
        self.faults: list[str] = []
        self._urls = urls
        self._resume = ""
        self._stale_to = 0
        self._place: Payload = {}
        self._client: ChatClient | None = None
        self._closed = asyncio.Event()
        self._joined = asyncio.Event()

    @property
    def offset(self) -> int:
        return int(self._place.get("offset", 0))

    @property
    def is_joined(self) -> bool:
        return self._joined.is_set()

    async def run(self) -> None:
        """Stay in the room until cancelled."""
        while True:
            failures = OSError, TimeoutError, aiohttp.ClientError, KeyError, Refused
            with suppress(*failures, socketio.exceptions.SocketIOError):
                await self._stay()
            await wait_to_repeat()

    async def say(self, text: str) -> None:
        """Send a message until it has an ack. Its text is its id."""
        while True:
            await self._joined.wait()
            answer = await self._ask("say", {"room": ROOM, "id": text, "text": text})
            if "error" not in answer:
                self.stored[answer["offset"]] = text
                return
            assert answer["error"] not in FINAL, answer
            await wait_to_repeat()

    async def _stay(self) -> None:
        urls = self._urls()
        url = urls[self.connects % len(urls)]
        self.connects += 1
        client = ChatClient()
        self._closed = client.stay_closed()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await client.connect(url, await self._proof(url))
            self._resume = client.ready["resume"]
            self._client = client
            self._stale_to = 0
            await self._join()
            await self._read(client)
        except Refused as refused:
            if isinstance(refused.data, dict) and refused.data.get("error") == "invalid_grant":
                self._resume = ""
            raise
        finally:
            self._client = None
            self._joined.clear()
            self._closed.set()
            await client.close()

    async def _proof(self, url: str) -> Payload:
        if self._resume:
            return {"resume": self._resume}
        body = {"app": "default", "js_code": f"pretend:{self.name}"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/phone/session", json=body) as response,
        ):
            session = await response.json()
        return {"id": session["id"], "skey": session["skey"]}

    async def _join(self) -> None:
        self._joined.clear()
        has_epoch = bool(self._place.get("epoch"))
        place = self._place if has_epoch else {"epoch": "", "offset": 0}
        while "error" in (answer := await self._ask("join", {"room": ROOM, **place})):
            if answer is LOST:
                raise ConnectionError
            await wait_to_repeat()
        if not (answer["recovered"] and has_epoch):
            self.resets += has_epoch
            self.entries, self._place = {}, {}
        for entry in answer["messages"]:
            self._add(entry)
        if answer["messages"] and answer["offset"] != self.offset:
            self.faults.append(f"the answer ends at {answer['offset']}, not at {self.offset}")
        self._place = {"epoch": answer["epoch"], "offset": answer["offset"]}
        self._joined.set()

    async def _read(self, client: ChatClient) -> None:
        while True:
            event, payload = await client.next()
            if event == "disconnect":
                return
            if event == "chat-message" and payload["offset"] > self._stale_to:
                self._add(payload)
            # A push does not name the epoch, which begins with the first entry.
            if event == "chat-closed" or (not self._place["epoch"] and self.entries):
                await self._join()
                self._stale_to = self.offset  # their pushes may have come before the answer

    def _add(self, entry: Payload) -> None:
        if self.entries and entry["offset"] != self.offset + 1:
            self.faults.append(f"{entry['offset']} follows {self.offset}")
        self.entries[entry["offset"]] = entry["text"]
        self._place["offset"] = entry["offset"]

    async def _ask(self, event: str, payload: object) -> Any:
        if self._client is None:
            return LOST
        asking = asyncio.create_task(self._client.ask(event, payload))
        closing = asyncio.create_task(self._closed.wait())
        try:
            await asyncio.wait({asking, closing}, return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else LOST
        except (TimeoutError, socketio.exceptions.SocketIOError):
            return LOST
        finally:
            asking.cancel()
            closing.cancel()
            await asyncio.wait({asking, closing})


@asynccontextmanager
async def staying(members: Sequence[ChatMember]) -> AsyncIterator[None]:
    """Run the members. The block begins when all are in the room."""
    tasks = [asyncio.create_task(one.run()) for one in members]
    try:
        for one in members:
            await one._joined.wait()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def check_sequence(members: Sequence[ChatMember], *, keeps: bool = True) -> None:
    """Assert that all members have the same entries, each once, and every message with an ack.

    keeps: whether the state has kept its data, so that no list was replaced.
    """
    assert not (faults := [(one.name, one.faults) for one in members if one.faults]), faults
    known: dict[int, str] = {}
    for member in members:
        for offset, text in member.entries.items():
            assert known.setdefault(offset, text) == text, (member.name, offset)
    assert len(set(known.values())) == len(known), "a message is in the room twice"
    if keeps:
        assert [one.resets for one in members] == [0 for _ in members]
        stored = {offset: text for one in members for offset, text in one.stored.items()}
        assert stored.items() <= known.items()
