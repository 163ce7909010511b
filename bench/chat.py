"""Members of chat rooms."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any, Self

from bench.keepalive import Connection
from bench.load import gather_limited
from bench.socketio import Client
from bench.websocket import ProtocolError

NAMESPACE = "/chat"

TEXT = "x" * 100


class ChatRoom:
    """The members of one room, and the deliveries of its messages.

    latencies: seconds from the sending of a message to its arrival at a member.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: list[ChatMember] = []
        self.latencies: list[float] = []
        self._sent: dict[str, float] = {}
        self._missing: dict[str, int] = {}
        self._delivered: dict[str, asyncio.Future[float]] = {}

    async def say(self, number: int) -> float:
        """Send a message from a member. Returns the seconds until it is at the last member.

        number: different for each message. Members take turns. Raises ProtocolError.
        """
        message_id = f"{self.name}-{number}"
        self._missing[message_id] = len(self.members)
        delivered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._delivered[message_id] = delivered
        start = self._sent[message_id] = time.perf_counter()
        member = self.members[number % len(self.members)]
        await member.call("say", {"room": self.name, "id": message_id, "text": TEXT})
        return await delivered - start

    def deliver(self, message_id: str, at: float) -> None:
        """Called for each delivery to a member."""
        self.latencies.append(at - self._sent[message_id])
        self._missing[message_id] -= 1
        if not self._missing[message_id]:
            self._delivered.pop(message_id).set_result(at)

    def close(self) -> None:
        for member in self.members:
            member.close()


class ChatMember:
    """A connection of a person, who has joined a room."""

    def __init__(self, room: ChatRoom) -> None:
        self._room = room
        self._client: Client

    @classmethod
    async def join(cls, url: str, session: str, room: ChatRoom) -> Self:
        """session: `id` and `skey` as JSON."""
        member = cls(room)
        member._client = await Client.join(
            url, namespace=NAMESPACE, auth=session, on_event=member._on_event
        )
        await member.call("join", {"room": room.name})
        return member

    async def call(self, event: str, payload: dict[str, object]) -> Any:
        answer = await self._client.call(event, json.dumps(payload))
        if "error" in answer:
            raise ProtocolError(f"{event}: {answer['error']}")
        return answer

    @property
    def is_open(self) -> bool:
        return self._client.is_open

    def close(self) -> None:
        self._client.close()

    def _on_event(self, event: str, payload: Any, at: float) -> None:
        if event == "chat-message":
            self._room.deliver(payload["id"], at)


async def fill(rooms: Sequence[ChatRoom], urls: Sequence[str], count: int) -> None:
    """Let `count` people join the rooms, evenly over rooms and servers."""
    connections = [await Connection.open(url) for url in urls]
    sessions = []
    for number in range(count):
        body = json.dumps({"app": "default", "js_code": f"pretend:p{number}"}).encode()
        answer = await connections[number % len(urls)].post(b"/phone/session", body)
        if answer.status != 200:
            raise ProtocolError(f"session: {answer.status} {answer.body}")
        sessions.append(json.dumps({name: answer.body[name] for name in ("id", "skey")}))

    async def join(number: int) -> None:
        room = rooms[number // len(urls) % len(rooms)]
        room.members.append(await ChatMember.join(urls[number % len(urls)], sessions[number], room))

    await gather_limited(join, range(count))
    for connection in connections:
        connection.close()
