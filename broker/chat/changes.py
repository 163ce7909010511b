"""Applies the changes of rooms and people that other connections have made.

A notice names a room with new entries, or says that there are changes. Every 4 s the marks are
taken as well, so a lost notice delays a change by at most 5 s.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping

from broker.chat.connections import Connection, Connections
from broker.chat.fan_out import FanOut, Pushes
from broker.chat.local_rooms import LocalRoom, LocalRooms
from broker.chat.model import (
    ROOM_CHANGES,
    ROOM_NEWS,
    Change,
    ChangeKind,
    Person,
    RestrictionKind,
    RoomKey,
    parse_room_id,
)
from broker.chat.notices import Signal, SignalKind, parse_signal
from broker.chat.payloads import Payload
from broker.chat.ports import RestrictionStore, RoomStore
from broker.chat.presence import CROWD
from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Notice
from broker.infrastructure.notices import NoticeHandler

SWEEP_INTERVAL = 4.0
"""Seconds after which the marks are taken without a notice."""

NOTICES = frozenset({ROOM_NEWS, ROOM_CHANGES, *SignalKind})


class ChangeReader:
    """Reads the changes for this instance and applies them to its connections.

    instance: the name of this process on the bus.
    remove: removes a connection from a room.
    """

    def __init__(
        self,
        *,
        store: RoomStore,
        restrictions: RestrictionStore,
        rooms: LocalRooms,
        connections: Connections,
        fan_out: FanOut,
        pushes: Pushes,
        clock: Clock,
        instance: str,
        remove: Callable[[Connection, RoomKey], None],
    ) -> None:
        self._store = store
        self._restrictions = restrictions
        self._rooms = rooms
        self._connections = connections
        self._fan_out = fan_out
        self._pushes = pushes
        self._clock = clock
        self._instance = instance
        self._remove = remove
        self._failed: list[Change] = []
        self._tasks = BackgroundTasks()
        self._is_wanted = self._is_sweeping = False

    def notice_handler(self) -> NoticeHandler:
        return NoticeHandler(NOTICES, self.on_notice, self._sweep_soon)

    async def close(self) -> None:
        await self._tasks.close(grace=0)

    async def on_notice(self, notice: Notice) -> None:
        if notice.event == ROOM_NEWS:
            room = self._rooms.find(parse_room_id(notice.id))
            if room is not None:
                self._fan_out.wake(room)
        elif notice.event == ROOM_CHANGES:
            await self._sweep_soon()
        else:
            signal = parse_signal(notice)
            if signal is not None:
                await self._show(signal)

    async def sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            await self._sweep_soon()

    async def sweep(self) -> None:
        """Take the changes and apply them. Those that fail are applied by the next call."""
        due, self._failed = self._failed, []
        try:
            due += await self._store.changes(self._instance)
        except Unavailable:
            self._failed += due
            return
        for change in due:
            try:
                await APPLY[change.kind](self, change)
            except Unavailable:
                self._failed.append(change)

    async def _sweep_soon(self) -> None:
        """Start a sweep. Calls during a sweep cause one further sweep."""
        self._is_wanted = True
        if not self._is_sweeping:
            self._is_sweeping = True
            self._tasks.spawn("chat changes", self._sweep_while_wanted())

    async def _sweep_while_wanted(self) -> None:
        try:
            while self._is_wanted:
                self._is_wanted = False
                await self.sweep()
        finally:
            self._is_sweeping = False

    async def _read_entries(self, change: Change) -> None:
        room = self._rooms.find(change.room)
        if room is None:
            return
        is_other_epoch = room.epoch != change.epoch
        if is_other_epoch or any(sent != change.offset for sent in room.lanes.values()):
            self._fan_out.wake(room)

    async def _read_conversation(self, change: Change) -> None:
        person = Person(change.room.app, change.subject)
        connection = next(iter(self._connections.of(person)), None)
        if connection is not None:
            room = self._rooms.open_lane(person, change.room, connection.app, change.offset)
            self._fan_out.wake(room)

    async def _read_restrictions(self, change: Change) -> None:
        room = self._rooms.find(change.room)
        if room is None:
            return
        if room.joining:
            self._failed.append(change)  # one that joins now may be the one that is restricted
        now = self._clock()
        found = await self._restrictions.find(change.room, change.subject, now=now)
        until = {one.kind: one.until for one in found}
        concerned = [one for one in room.joined.values() if one.person.subject == change.subject]
        if RestrictionKind.KICK in until:
            await self._kick(room, concerned)
        else:
            seconds = math.ceil(max(0.0, until.get(RestrictionKind.MUTE, now) - now))
            payload: Payload = {"room": room.key.name, "seconds": seconds}
            await self._pushes.send("chat-muted", payload, [one.sid for one in concerned])

    async def _kick(self, room: LocalRoom, concerned: list[Connection]) -> None:
        for connection in concerned:
            self._remove(connection, room.key)
        await self._pushes.close_room(room.key.name, "kicked", [one.sid for one in concerned])

    async def _show(self, signal: Signal) -> None:
        room = self._rooms.find(signal.room)
        if room is None:
            return
        if signal.kind in (SignalKind.JOINED, SignalKind.LEFT):
            room.online = signal.number
        if room.online <= CROWD:
            event, fields = PUSHES[signal.kind](signal)
            payload: Payload = {"room": room.key.name, "subject": signal.subject, **fields}
            await self._pushes.send(event, payload, room.sids_except(signal.subject))


APPLY: Mapping[ChangeKind, Callable[[ChangeReader, Change], Awaitable[None]]] = {
    ChangeKind.ENTRIES: ChangeReader._read_entries,
    ChangeKind.CONVERSATION: ChangeReader._read_conversation,
    ChangeKind.RESTRICTION: ChangeReader._read_restrictions,
}

PUSHES: Mapping[SignalKind, Callable[[Signal], tuple[str, Payload]]] = {
    SignalKind.TYPING: lambda signal: ("chat-typing", {"on": signal.number == 1}),
    SignalKind.SEEN: lambda signal: ("chat-seen", {"offset": signal.number}),
    SignalKind.JOINED: lambda signal: ("chat-joined", {}),
    SignalKind.LEFT: lambda signal: ("chat-left", {}),
}
"""The event and the further fields of the push of a signal."""
