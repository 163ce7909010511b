"""Instances of chat without a server, over one state and one bus in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

from broker.apps.model import App
from broker.apps.registry import AppRegistry
from broker.bus.memory import MemoryBus
from broker.chat.connections import Connection, SessionKey
from broker.chat.model import Author, ChatSession, Person
from broker.chat.mount import ChatContext, ChatParts
from broker.chat.ports import ChatStores
from broker.chat.presence import REFRESH_SLICES
from broker.chat.schema_api import JoinRequest, RoomOffsetRequest, SayRequest
from broker.chat.settings import ChatSettings
from broker.infrastructure.coordination import Notice
from broker.infrastructure.notices import NoticeDispatcher
from broker.infrastructure.observability.instance_report import InstanceReport
from broker.infrastructure.outbound.settings import OutboundSettings
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.state.memory.chat_people import open_chat
from broker.users.ports import EndedSubjects
from tests.support.builders import Clock

OPEN_APP = App(id="shop", name="A shop", origins=frozenset(), rooms="open", moderators=("mod",))

TURNS = (0, 0, 1, 2, 30)
"""Turns of the loop that a call of a store may take, before and after its effect. In the longest
one, other calls and their notices complete."""

SETTLE_TURNS = 400
"""Turns of the loop after which all tasks wait."""


class SlowStore:
    """A store whose calls take some turns of the loop, as those of a server do."""

    def __init__(self, store: object, turns: random.Random) -> None:
        self._store = store
        self._turns = turns

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            await self._wait()
            result = await method(*arguments, **options)
            await self._wait()
            return result

        return call

    async def _wait(self) -> None:
        for _ in range(self._turns.choice(TURNS)):
            await asyncio.sleep(0)


class LossyBus(MemoryBus):
    """A bus that loses notices while `is_lossy`."""

    is_lossy = False

    async def publish(self, instance: str, notice: Notice) -> None:
        if not self.is_lossy:
            await super().publish(instance, notice)


class RecordingServer:
    """Records the pushes to each socket."""

    def __init__(self) -> None:
        self.received: dict[str, list[tuple[str, Any]]] = {}

    async def emit_to_all(
        self, event: str, data: Any, *, sids: Collection[str], namespace: str
    ) -> None:
        for sid in sids:
            self.received.setdefault(sid, []).append((event, data))

    async def disconnect(self, sid: str, namespace: str) -> None:
        self.received.setdefault(sid, []).append(("disconnect", None))


class EndedSessions:
    """A session service without any active session."""

    async def find(self, session_id: str) -> None:
        return None


class EndedSubjectList:
    """The log of ended subjects. unblocked: those of it who may log in again."""

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self.unblocked: set[str] = set()

    async def after(self, number: int) -> EndedSubjects:
        found = [one for one in self.subjects[number:] if one not in self.unblocked]
        return EndedSubjects(len(self.subjects), found)

    async def wait(self, number: int) -> None:
        await asyncio.Event().wait()


class ChatCluster:
    """The state, the bus and the instances. running: those that were not killed."""

    def __init__(self, seed: int = 0) -> None:
        self.clock = Clock()
        self.bus = LossyBus()
        self.server = RecordingServer()
        self._turns = random.Random(seed)
        self._names = count()
        self.stores = open_chat(self.clock)
        self.running: list[ChatInstance] = []
        self.ended = EndedSubjectList()

    def session_of(self, subject: str, phone_session: str = "") -> ChatSession:
        return ChatSession(
            app=OPEN_APP.id,
            incarnation=OPEN_APP.incarnation,
            subject=subject,
            name=None,
            phone_session=phone_session,
            openid=None,
            expires_at=self.clock() + 3_600,
        )

    def start(self, history: int = 1_000, retention: int = 604_800) -> ChatInstance:
        name = f"instance-{next(self._names)}"
        stores = ChatStores(*(cast(Any, SlowStore(one, self._turns)) for one in self.stores))
        settings = Settings(
            [
                ChatSettings(
                    chat_rooms="open",
                    chat_says_per_second=1_000,
                    chat_history=history,
                    chat_retention=retention,
                ),
                ServerSettings(instance=name),
                OutboundSettings(),
            ]
        )
        context = SimpleNamespace(
            settings=settings,
            clock=self.clock,
            bus=self.bus,
            apps=AppRegistry([OPEN_APP]),
            webhook_secrets=None,
            token_issuer=None,
            access_grants=None,
            report=InstanceReport(),
            session_service=EndedSessions(),
            failures=None,
            socket_server=self.server,
            leader_leases=None,
            chat_stores=stores,
            ended_subjects=self.ended,
        )
        instance = ChatInstance(self, name, ChatParts(cast(ChatContext, context)))
        self.running.append(instance)
        return instance


class ChatInstance:
    """One instance. Its background loops run only in `settle`."""

    def __init__(self, cluster: ChatCluster, name: str, parts: ChatParts) -> None:
        self._cluster = cluster
        self.name = name
        self.parts = parts
        handlers = [parts.changes.notice_handler()]
        dispatcher = NoticeDispatcher(bus=cluster.bus, instance=name, handlers=handlers)
        self._task = asyncio.create_task(dispatcher.run())

    def connect(self, sid: str, subject: str) -> Connection:
        connection = Connection(
            person=Person(OPEN_APP.key, subject),
            author=Author(subject),
            session=self._cluster.session_of(subject),
            session_key=SessionKey(shard="A", secret_hash=b""),
            resume="secret",
            joined_at=self._cluster.clock(),
        )
        self.parts.api.greet(sid, connection)
        return connection

    async def join(self, connection: Connection, **fields: Any) -> Any:
        return await self.parts.api.join(connection, JoinRequest(**fields))

    async def say(self, connection: Connection, **fields: Any) -> Any:
        return await self.parts.api.say(connection, SayRequest(**fields))

    async def delete(self, connection: Connection, **fields: Any) -> Any:
        return await self.parts.api.delete(connection, RoomOffsetRequest(**fields))

    async def settle(self) -> None:
        """Take all changes, and wait until all tasks wait."""
        for index in range(REFRESH_SLICES):
            await self.parts.presence.refresh_slice(index)
        await self.parts.changes.sweep()
        for _ in range(SETTLE_TURNS):
            await asyncio.sleep(0)

    async def kill(self) -> None:
        """End without a message to the others."""
        self._cluster.running.remove(self)
        self._task.cancel()
        await asyncio.wait([self._task])
        for part in (self.parts.api, self.parts.changes, self.parts.fan_out):
            await part.close()
        await self.parts.presence.close(grace=0)
