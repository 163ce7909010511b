"""Tells the state and the members who is in a room.

An instance writes its members every 10 s, in parts, so that a full instance does not write them
all at once. Members whose instance has ended go offline 30 s later, and the instance whose
write finds that reports it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from broker.chat.connections import Connections
from broker.chat.fan_out import FanOut, Pushes
from broker.chat.local_rooms import LocalRoom, LocalRooms, member_of
from broker.chat.model import Member, Person, Presence, RoomKey
from broker.chat.notices import Notifier, Signal, SignalKind
from broker.chat.ports import ConversationStore, MemberStore
from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.clock import Clock

REFRESH_INTERVAL = 10.0
"""Seconds between two writes of a member."""

REFRESH_SLICES = 8
"""Parts of an interval."""

CROWD = 100
"""People online above which a room sends their number in place of their names."""


class PresenceService:
    """Writes and announces members. instance: the name of this process on the bus."""

    def __init__(
        self,
        *,
        store: MemberStore,
        rooms: LocalRooms,
        connections: Connections,
        fan_out: FanOut,
        pushes: Pushes,
        notifier: Notifier,
        clock: Clock,
        instance: str,
        conversations: ConversationStore,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._connections = connections
        self._fan_out = fan_out
        self._pushes = pushes
        self._notifier = notifier
        self._clock = clock
        self._instance = instance
        self._conversations = conversations
        self._departures: dict[RoomKey, set[str]] = {}
        self._tasks = BackgroundTasks()
        self._is_flushing = False

    async def close(self, *, grace: float) -> None:
        await self._tasks.close(grace=grace)

    async def enter(self, key: RoomKey, member: Member) -> Presence:
        """Write a member. Nothing is announced. Raises Unavailable."""
        return (await self._refresh({key: [member]}))[key]

    async def announce(self, room: LocalRoom, presence: Presence) -> None:
        """Note a change of members, and send it to the members at all instances."""
        room.online = presence.online
        if max(presence.online, len(presence.joined), len(presence.left)) > CROWD:
            return  # `chat-online` follows with the next write
        for kind, subjects in (
            (SignalKind.JOINED, presence.joined),
            (SignalKind.LEFT, presence.left),
        ):
            for subject in subjects:
                signal = Signal(kind, room.key, presence.online, subject)
                await self._notifier.notify(presence.instances, signal.notice())

    def announce_soon(self, room: LocalRoom, presence: Presence) -> None:
        self._tasks.spawn("chat presence", self.announce(room, presence))

    def retract(self, room: LocalRoom, presence: Presence, subject: str) -> None:
        """Remove a member soon that `enter` has written, and that was not announced."""
        self._tasks.spawn("chat presence", self._retract(room, presence, subject))

    def leave(self, key: RoomKey, subject: str) -> None:
        """Remove a member soon, with all that leave at about the same time."""
        self._departures.setdefault(key, set()).add(subject)
        if not self._is_flushing:
            self._is_flushing = True
            self._tasks.spawn("chat departures", self._flush())

    async def refresh_forever(self) -> None:
        """Write all members again and again, until cancelled."""
        index = 0
        while True:
            await asyncio.sleep(REFRESH_INTERVAL / REFRESH_SLICES)
            index = (index + 1) % REFRESH_SLICES
            await self.refresh_slice(index)

    async def refresh_slice(self, index: int) -> None:
        """Write a part of the members, and read what they have missed."""
        rooms = {
            room.key: room
            for room in self._rooms.all()
            if room.joined and hash(room.key) % REFRESH_SLICES == index
        }
        people = {
            person.room: person
            for person in self._connections.people()
            if hash(person) % REFRESH_SLICES == index
        }
        members = {key: list(room.members()) for key, room in rooms.items()}
        members |= {key: [self._member(person)] for key, person in people.items()}
        try:
            found = await self._refresh(members) if members else {}
            for key, person in people.items():
                if not found[key].was_listed:
                    await self._catch_up(person)
        except Unavailable:
            return  # the next write repeats it
        for key, room in rooms.items():
            await self._apply(room, found[key])

    async def _catch_up(self, person: Person) -> None:
        """Read the point-to-point rooms that send to a person. Raises Unavailable."""
        for one in await self._conversations.of(person, now=self._clock()):
            room = self._rooms.find(RoomKey(person.app, one.room))
            if room is not None:
                self._fan_out.wake(room)

    def _member(self, person: Person) -> Member:
        """Return a person as the member of `person.room`."""
        return member_of(next(iter(self._connections.of(person))))

    async def _apply(self, room: LocalRoom, presence: Presence) -> None:
        if not presence.was_listed:
            self._fan_out.wake(room)  # no instance has sent notices to this one
        await self.announce(room, presence)
        if presence.online > CROWD or room.online_sent > CROWD:
            await self._send_online(room)

    async def _send_online(self, room: LocalRoom) -> None:
        if room.online != room.online_sent:
            room.online_sent = room.online
            payload: dict[str, object] = {"room": room.key.name, "online": room.online}
            await self._pushes.send("chat-online", payload, room.joined)

    async def _refresh(
        self, rooms: Mapping[RoomKey, Collection[Member]]
    ) -> Mapping[RoomKey, Presence]:
        return await self._store.refresh(self._instance, rooms, now=self._clock())

    async def _flush(self) -> None:
        try:
            while self._departures:
                key = next(iter(self._departures))
                await self._depart(key, self._departures.pop(key))
        finally:
            self._is_flushing = False

    async def _depart(self, key: RoomKey, subjects: Collection[str]) -> None:
        room = self._rooms.find(key)
        gone = [one for one in subjects if not self._is_here(key, room, one)]
        if not gone:
            return
        try:
            presence = await self._store.leave(self._instance, key, gone, now=self._clock())
        except Unavailable:
            return  # their time ends
        if not key.is_person:
            await self.announce(room or LocalRoom(key, ""), presence)

    async def _retract(self, room: LocalRoom, presence: Presence, subject: str) -> None:
        if not room.has(subject):
            await self._store.leave(self._instance, room.key, [subject], now=self._clock())
            online = presence.online - len(presence.joined)
            await self.announce(room, presence._replace(joined=(), online=online))

    def _is_here(self, key: RoomKey, room: LocalRoom | None, subject: str) -> bool:
        """Return whether the person has joined again, or has another connection."""
        if room is not None:
            return room.joining > 0 or room.has(subject)
        person = Person(key.app, subject)
        return key == person.room and bool(self._connections.of(person))
