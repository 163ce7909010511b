"""Sends the entries of rooms to the connections of this instance.

notice or mark ──▶ wake ──▶ one read for all notices of a turn ──▶ one frame for each entry

The sender of a message takes the same path, so all members see the entries in one order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from broker.chat.connections import Connection, Connections
from broker.chat.errors import NotAMember
from broker.chat.local_rooms import ALL, LocalRoom, LocalRooms
from broker.chat.metrics import DELIVERED
from broker.chat.model import Entry, Person, Retention, RoomKey, RoomPage
from broker.chat.payloads import Payload, push_of
from broker.chat.ports import RoomStore
from broker.chat.rules import HISTORY_MAX, Position, fit_page, is_recovered
from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.clock import Clock
from broker.infrastructure.transport.socketio.server import SocketIOServer

NAMESPACE = "/chat"

RETRY_DELAY = 0.5
"""Seconds before a failed read is repeated."""


class Pushes:
    """Sends events to sockets of `/chat`."""

    def __init__(self, server: SocketIOServer) -> None:
        self._server = server

    async def send(self, event: str, payload: Payload, sids: Iterable[str]) -> None:
        recipients = list(sids)
        if recipients:
            await self._server.emit_to_all(event, payload, sids=recipients, namespace=NAMESPACE)

    async def close_room(self, room: str, reason: str, sids: Iterable[str]) -> None:
        await self.send("chat-closed", {"room": room, "reason": reason}, sids)

    async def disconnect(self, sid: str) -> None:
        await self._server.disconnect(sid, NAMESPACE)


class JoinedPage(NamedTuple):
    """recovered: whether the page is what follows the client's position."""

    page: RoomPage
    recovered: bool


class FanOut:
    """Reads new entries and sends them."""

    def __init__(
        self,
        *,
        store: RoomStore,
        rooms: LocalRooms,
        connections: Connections,
        pushes: Pushes,
        retention: Retention,
        clock: Clock,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._connections = connections
        self._pushes = pushes
        self._retention = retention
        self._clock = clock
        self._tasks = BackgroundTasks()

    async def close(self) -> None:
        await self._tasks.close(grace=0)

    def wake(self, room: LocalRoom) -> None:
        """Read the room soon. Calls before that read cause no further one."""
        room.is_stale = True
        if not room.is_reading and room.lanes:
            room.is_reading = True
            self._tasks.spawn("chat room", self._pump(room))

    async def join(
        self, connection: Connection, room: LocalRoom, position: Position | None
    ) -> JoinedPage:
        """Return the entries for the connection, which receives all later ones from then on.

        position: the entries that the client has; None for none. The caller is in
        `room.being_joined()` and sends the result before the connection's next event.
        Raises Unavailable, or NotAMember if the connection was closed meanwhile.
        """
        while True:
            known = room.epoch
            page, recovered = await self._read_from(room.key, position)
            if page.epoch == room.epoch or page.epoch == known == "":
                break
            if room.epoch == known:
                if known:
                    await self._lose(room)
                room.epoch = page.epoch
                break
        missed = [one for one in room.recent if one.position > page.head]
        head = missed[-1].position if missed else page.head
        page = page._replace(epoch=room.epoch, entries=(*page.entries, *missed), head=head)
        if not connection.is_open:
            raise NotAMember
        room.add(connection, head)
        if room.is_stale:
            self.wake(room)
        return JoinedPage(page, recovered)

    async def _read_from(self, key: RoomKey, position: Position | None) -> tuple[RoomPage, bool]:
        """Return what follows the position, and True; or the newest entries, and False."""
        if position is not None:
            page = fit_page(await self._read_page(key, position.offset, None))
            if is_recovered(position, page):
                return page, True
        return fit_page(await self._read_page(key, 0, None)), False

    async def _pump(self, room: LocalRoom) -> None:
        try:
            while room.is_stale and room.lanes:
                room.is_stale = False
                try:
                    await self._read_and_send(room)
                except Unavailable:
                    room.is_stale = True
                    await asyncio.sleep(RETRY_DELAY)
        finally:
            room.is_reading = False
            self._rooms.discard_unused(room)

    async def _read_and_send(self, room: LocalRoom) -> None:
        known, after = room.epoch, min(room.lanes.values())
        page = await self._read_after(room.key, after)
        if room.epoch != known and room.epoch != page.epoch:
            room.is_stale = True  # a join has found other entries during the read
        elif known not in ("", page.epoch) or page.floor > after:
            await self._lose(room)
            room.epoch = page.epoch
            room.lanes = dict.fromkeys(room.lanes, page.floor)
            room.is_stale = True
        elif room.lanes:
            room.epoch = page.epoch
            await self._send(room, page)

    async def _read_after(self, key: RoomKey, after: int) -> RoomPage:
        """Return all entries after an offset."""
        page = await self._read_page(key, after, None)
        while page.more:
            earlier = await self._read_page(key, after, page.entries[0].position)
            if not earlier.entries:
                break
            page = page._replace(entries=earlier.entries + page.entries, more=earlier.more)
        return page

    async def _read_page(self, key: RoomKey, after: int, before: int | None) -> RoomPage:
        return await self._store.read(
            key,
            after=after,
            before=before,
            limit=HISTORY_MAX,
            now=self._clock(),
            retention=self._retention,
        )

    async def _send(self, room: LocalRoom, page: RoomPage) -> None:
        for entry in page.entries:
            sids = self._recipients(room, entry)
            event, payload = push_of(room.key.name, entry)
            await self._pushes.send(event, payload, sids)
            DELIVERED.labels(room.app).inc(len(sids))
        room.advance(page.entries, page.head)

    def _recipients(self, room: LocalRoom, entry: Entry) -> list[str]:
        position, starts = entry.position, room.starts
        sids: list[str] = []
        for lane, sent in room.lanes.items():
            if sent < position:
                sids += self._sids_of(room, lane)
        if starts:
            return [sid for sid in sids if starts.get(sid, -1) < position]
        return sids

    def _sids_of(self, room: LocalRoom, lane: str) -> Iterable[str]:
        if lane == ALL:
            return room.joined
        return [one.sid for one in self._connections.of(Person(room.key.app, lane))]

    async def _lose(self, room: LocalRoom) -> None:
        """Close the room for its connections, as entries are lost. They have to join again."""
        await self._pushes.close_room(room.key.name, "lost", room.clear())
