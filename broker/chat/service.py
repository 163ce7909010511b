"""The acts of chat: join, leave, say, history, delete, typing and seen."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from broker.chat.connections import RETRY_AFTER, Connection, Connections
from broker.chat.conversations import Conversations, Target
from broker.chat.errors import (
    ChatDenied,
    TooManyRooms,
    UnknownMessage,
)
from broker.chat.fan_out import FanOut, JoinedPage
from broker.chat.limits import ChatLimits
from broker.chat.local_rooms import LocalRoom, LocalRooms, member_of
from broker.chat.metrics import MESSAGES, RECOVERIES
from broker.chat.model import (
    Appended,
    Member,
    MemberPage,
    Message,
    NewMessage,
    Person,
    Restriction,
    RestrictionKind,
    Retention,
    RoomKey,
    RoomPage,
    room_notice,
)
from broker.chat.notices import Notifier, Signal, SignalKind
from broker.chat.ports import ChatStores
from broker.chat.presence import CROWD, PresenceService
from broker.chat.rights import Rights
from broker.chat.rules import (
    SAY,
    Position,
    check_restrictions,
    denied_by,
    fit_page,
    may_delete,
)
from broker.errors import BrokerError
from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import encode

ROOMS_PER_CONNECTION = 50
"""Rooms that a connection may have joined."""


class JoinedRoom(NamedTuple):
    """The answer of `join`. members: each with whether the person is online."""

    joined: JoinedPage
    members: tuple[tuple[Member, bool], ...]
    online: int
    may: frozenset[str]


class ChatService:
    """The acts of connections at this instance.

    Each act raises a BrokerError if it is refused or if the state is unavailable.
    """

    def __init__(
        self,
        *,
        stores: ChatStores,
        rights: Rights,
        conversations: Conversations,
        connections: Connections,
        rooms: LocalRooms,
        fan_out: FanOut,
        presence: PresenceService,
        notifier: Notifier,
        limits: ChatLimits,
        retention: Retention,
        clock: Clock,
    ) -> None:
        self._stores = stores
        self._rights = rights
        self._conversations = conversations
        self._connections = connections
        self._rooms = rooms
        self._fan_out = fan_out
        self._presence = presence
        self._notifier = notifier
        self._limits = limits
        self._retention = retention
        self._clock = clock

    async def join(
        self, connection: Connection, target: Target, position: Position | None
    ) -> JoinedRoom:
        """Add a connection to a room, and return what it has missed.

        The caller answers with the result before anything else is awaited, so that the
        answer is before the first push.
        """
        key = target.key
        may = await self._rights.admit(connection, target)
        if key.name not in connection.rooms and len(connection.rooms) >= ROOMS_PER_CONNECTION:
            raise TooManyRooms(RETRY_AFTER)
        room = self._rooms.open(key, connection.app)
        try:
            with room.being_joined():
                presence = await self._presence.enter(key, member_of(connection))
                try:
                    answer = await self._enter(connection, room, target, position, may)
                except BrokerError:
                    self._presence.retract(room, presence, connection.person.subject)
                    raise
        finally:
            self._rooms.discard_unused(room)
        connection.rooms[key.name] = may
        self._presence.announce_soon(room, presence)
        if position is not None:
            RECOVERIES.labels(connection.app, RECOVERY_OUTCOMES[answer.joined.recovered]).inc()
        return answer

    def leave(self, connection: Connection, key: RoomKey) -> None:
        """Remove a connection from a room; nothing happens if it is not in it."""
        connection.rooms.pop(key.name, None)
        room = self._rooms.find(key)
        if room is None or connection.sid not in room.joined:
            return
        room.remove(connection.sid)
        if not room.has(connection.person.subject):
            self._presence.leave(key, connection.person.subject)
        self._rooms.discard_unused(room)

    def disconnect(self, sid: str) -> None:
        """Remove a closed connection from everything."""
        connection = self._connections.remove(sid)
        if connection is None:
            return
        person = connection.person
        for name in list(connection.rooms):
            self.leave(connection, RoomKey(person.app, name))
        if not self._connections.of(person):
            self._rooms.close_lanes(person)
            self._presence.leave(person.room, person.subject)

    async def say(
        self, connection: Connection, target: Target, id: str, text: str | None, data: object
    ) -> Appended:
        """Store a message and notify the instances of the room."""
        self._limits.count_say(connection.person, len(encode((text, data))))
        if SAY not in await self._rights.of(connection, target):
            raise ChatDenied("you may only read in this room")
        now = round(self._clock(), 3)
        message = NewMessage(id=id, sender=connection.author, text=text, data=data, at=now)
        place = await self._stores.rooms.append(target.key, message, retention=self._retention)
        if isinstance(place, Restriction):
            raise denied_by(place, now=now)
        if place.at == now:  # not a repetition
            MESSAGES.labels(connection.app).inc()
        await self._announce(connection, target, place, is_message=True)
        return place

    async def history(
        self, connection: Connection, target: Target, before: int | None, limit: int
    ) -> RoomPage:
        await self._rights.of(connection, target)
        page = await self._stores.rooms.read(
            target.key,
            before=before,
            limit=limit,
            now=self._clock(),
            retention=self._retention,
        )
        return fit_page(page)

    async def delete(self, connection: Connection, target: Target, offset: int) -> Appended:
        """Delete a message, and store the deletion as an entry."""
        may, now = await self._rights.of(connection, target), round(self._clock(), 3)
        message = await self._message(target.key, offset)
        if not may_delete(message, connection.person.subject, may, now=now):
            raise ChatDenied("you may delete your own messages of the last two minutes only")
        place = await self._stores.rooms.delete(
            target.key, offset, by=connection.person.subject, at=now, retention=self._retention
        )
        if place is None:
            raise UnknownMessage
        await self._announce(connection, target, place, is_message=False)
        return place

    async def type(self, connection: Connection, target: Target, *, on: bool) -> None:
        """Show the other members that a person types. Repeats within 2 s are left out."""
        self._rights.check_joined(connection, target)
        if self._limits.may_type(connection.sid, target.key.name):
            await self._signal(connection, target, SignalKind.TYPING, int(on))

    async def see(self, connection: Connection, target: Target, offset: int) -> None:
        """Show the other members how far a person has read."""
        if target.peer:
            await self._conversations.see(connection, target.key.name, offset)
        if not target.peer or target.key.name in connection.rooms:
            self._rights.check_joined(connection, target)
            await self._signal(connection, target, SignalKind.SEEN, offset)

    async def _enter(
        self,
        connection: Connection,
        room: LocalRoom,
        target: Target,
        position: Position | None,
        may: frozenset[str],
    ) -> JoinedRoom:
        now, subject = self._clock(), connection.person.subject
        restrictions, page, peer = await asyncio.gather(
            self._stores.restrictions.find(room.key, subject, now=now),
            self._stores.members.page(room.key, now=now),
            self._peer(connection, target, now),
        )
        check_restrictions(restrictions, RestrictionKind.KICK, now=now)
        joined = await self._fan_out.join(connection, room, position)
        members = tuple((one, True) for one in page.members)
        if peer is not None:
            members = ((member_of(connection), True), peer)
        return JoinedRoom(joined, members, page.online, may)

    async def _peer(
        self, connection: Connection, target: Target, now: float
    ) -> tuple[Member, bool] | None:
        """Return the other person of a point-to-point room, and whether they are online."""
        if not target.peer:
            return None
        person = Person(connection.person.app, target.peer)
        page: MemberPage = await self._stores.members.page(person.room, now=now)
        unknown = Member(subject=target.peer, joined_at=now)
        return next(iter(page.members), unknown), page.online > 0

    async def _message(self, key: RoomKey, offset: int) -> Message:
        page = await self._stores.rooms.read(
            key,
            after=offset - 1,
            before=offset + 1,
            limit=1,
            now=self._clock(),
            retention=self._retention,
        )
        message = next(iter(page.entries), None)
        if not isinstance(message, Message):
            raise UnknownMessage
        return message

    async def _announce(
        self, connection: Connection, target: Target, place: Appended, *, is_message: bool
    ) -> None:
        await self._notifier.notify(place.pending, room_notice(target.key))
        if target.peer:
            await self._conversations.announce(connection, target, place, is_message=is_message)

    async def _signal(
        self, connection: Connection, target: Target, kind: SignalKind, number: int
    ) -> None:
        room = self._rooms.find(target.key)
        if room is None or room.online > CROWD:
            return
        signal = Signal(kind, target.key, number, connection.person.subject)
        instances = await self._stores.members.instances(target.key, now=self._clock())
        await self._notifier.notify(instances, signal.notice())


RECOVERY_OUTCOMES = {True: "recovered", False: "lost"}
"""Values of the label `outcome`."""
