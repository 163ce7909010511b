"""Point-to-point rooms: who takes part, and the list of a person's conversations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from broker.chat.connections import Connection
from broker.chat.errors import NotAMember
from broker.chat.model import (
    CHANGES_NOTICE,
    Appended,
    Conversation,
    Person,
    Retention,
    RoomKey,
    pair_room,
)
from broker.chat.notices import Notifier
from broker.chat.ports import ConversationStore
from broker.errors import InvalidRequest
from broker.infrastructure.clock import Clock

PAIRS_MAX = 200
"""Resolved point-to-point rooms that a connection remembers."""


class Target(NamedTuple):
    """The room of a request. peer: the other person of a point-to-point room; else empty."""

    key: RoomKey
    peer: str = ""


class Conversations:
    """Resolves and lists point-to-point rooms, and announces their messages."""

    def __init__(
        self,
        *,
        store: ConversationStore,
        notifier: Notifier,
        retention: Retention,
        clock: Clock,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._retention = retention
        self._clock = clock

    async def of(self, connection: Connection) -> Sequence[Conversation]:
        """Return the conversations of a person, the newest first. Raises Unavailable."""
        return await self._store.of(connection.person, now=self._clock())

    async def target(self, connection: Connection, room: str | None, to: str | None) -> Target:
        """Return the room that a request names, by its name or by the other person.

        Raises NotAMember for a point-to-point room of other people, and InvalidRequest.
        """
        if (room is None) == (to is None):
            raise InvalidRequest("send either room or to")
        if to is not None:
            return self._pair(connection, to)
        assert room is not None
        key = RoomKey(connection.person.app, room)
        if not key.is_pair:
            return Target(key)
        if room not in connection.pairs:
            for one in await self.of(connection):
                self._pair(connection, one.subject)
        if room not in connection.pairs:
            raise NotAMember
        return Target(key, connection.pairs[room])

    async def announce(
        self, connection: Connection, target: Target, place: Appended, *, is_message: bool
    ) -> None:
        """Store an entry as the newest of both people, and notify their instances."""
        author, app = connection.author, connection.person.app
        conversation = Conversation(
            room=target.key.name,
            subject=target.peer,
            name=None,
            epoch=place.epoch,
            offset=place.offset,
            at=place.at,
            seen=place.offset if is_message else 0,
        )
        of_peer = conversation._replace(subject=author.subject, name=author.name, seen=0)
        await asyncio.gather(
            self._touch(connection.person, conversation),
            self._touch(Person(app, target.peer), of_peer),
        )

    async def see(self, connection: Connection, room: str, offset: int) -> None:
        await self._store.see(connection.person, room, offset)

    async def _touch(self, person: Person, conversation: Conversation) -> None:
        pending = await self._store.touch(
            person, conversation, first=conversation.offset, retention=self._retention
        )
        await self._notifier.notify(pending, CHANGES_NOTICE)

    def _pair(self, connection: Connection, to: str) -> Target:
        subject = connection.person.subject
        if to == subject:
            raise InvalidRequest("to: is yourself; name another person")
        name = pair_room(subject, to)
        if name not in connection.pairs and len(connection.pairs) >= PAIRS_MAX:
            del connection.pairs[next(iter(connection.pairs))]
        connection.pairs[name] = to
        return Target(RoomKey(connection.person.app, name), to)
