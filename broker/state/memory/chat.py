"""Rooms, members and restrictions of chat in memory."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from broker.chat.model import (
    Appended,
    Change,
    ChangeKind,
    Deletion,
    Entry,
    Member,
    MemberPage,
    Message,
    NewMessage,
    Presence,
    Restriction,
    RestrictionKind,
    Retention,
    RoomKey,
    RoomPage,
)
from broker.chat.ports import MARK_TTL, MEMBER_TTL, MEMBERS_MAX, MESSAGE_ID_TTL
from broker.infrastructure.clock import Clock
from broker.state.errors import StateCapacityExceeded
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap

TRIM_BATCH = 4_096
"""Rooms of one `trim`."""


class ChangeMarks:
    """The changes that instances have not taken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._marks: ExpiringMap[dict[Change, int]] = ExpiringMap(clock)

    def add(self, instances: Collection[str], change: Change) -> tuple[str, ...]:
        """Mark a change for some instances, and return them: the caller notifies them."""
        identity = change._replace(offset=0)
        for instance in instances:
            marks = self._marks.get(instance) or {}
            known = marks.get(identity, change.offset)
            choose = min if change.kind is ChangeKind.CONVERSATION else max
            marks[identity] = choose(known, change.offset)
            self._marks.put(instance, marks, self._clock() + MARK_TTL)
        return tuple(instances)

    def take(self, instance: str) -> list[Change]:
        marks = self._marks.get(instance) or {}
        self._marks.remove(instance)
        return [change._replace(offset=offset) for change, offset in marks.items()]


class _Membership(NamedTuple):
    member: Member
    end: float


class MemoryMemberStore:
    def __init__(self) -> None:
        self._rooms: dict[RoomKey, dict[tuple[str, str], _Membership]] = {}

    async def refresh(
        self, instance: str, rooms: Mapping[RoomKey, Collection[Member]], *, now: float
    ) -> Mapping[RoomKey, Presence]:
        return {
            room: self._refresh(instance, room, members, now) for room, members in rooms.items()
        }

    async def leave(
        self, instance: str, room: RoomKey, subjects: Collection[str], *, now: float
    ) -> Presence:
        was_listed = instance in self.present(room, now)
        left = self._sweep(room, now)
        stored = self._rooms.get(room, {})
        removed = [one for one in subjects if stored.pop((instance, one), None)]
        left += [one for one in removed if one not in _subjects(stored)]
        return self._presence(room, left=left, was_listed=was_listed)

    async def page(self, room: RoomKey, *, now: float) -> MemberPage:
        stored = sorted(self._rooms.get(room, {}).values(), key=lambda one: one.end)
        members = {one.member.subject: one.member for one in stored if one.end > now}
        newest = sorted(members.values(), key=lambda one: one.joined_at, reverse=True)
        return MemberPage(tuple(newest[:MEMBERS_MAX]), len(members))

    async def instances(self, room: RoomKey, *, now: float) -> Collection[str]:
        return self.present(room, now)

    def present(self, room: RoomKey, now: float) -> tuple[str, ...]:
        stored = self._rooms.get(room, {})
        return tuple(dict.fromkeys(key[0] for key, one in stored.items() if one.end > now))

    def _refresh(
        self, instance: str, room: RoomKey, members: Collection[Member], now: float
    ) -> Presence:
        was_listed = instance in self.present(room, now)
        left = self._sweep(room, now)
        stored = self._rooms.setdefault(room, {})
        before = {one.member.subject: one.member.joined_at for one in stored.values()}
        for member in members:
            key = (instance, member.subject)
            first = before.get(member.subject, member.joined_at)
            stored[key] = _Membership(replace(member, joined_at=first), now + MEMBER_TTL)
        joined = [one.subject for one in members if one.subject not in before]
        still_left = [one for one in left if one not in joined]
        returned = [one for one in joined if one not in left]
        return self._presence(room, joined=returned, left=still_left, was_listed=was_listed)

    def _presence(
        self,
        room: RoomKey,
        *,
        joined: Iterable[str] = (),
        left: Iterable[str] = (),
        was_listed: bool,
    ) -> Presence:
        stored = self._rooms.get(room, {})
        if not stored:
            self._rooms.pop(room, None)
        instances = tuple(dict.fromkeys(key[0] for key in stored))
        return Presence(len(_subjects(stored)), instances, tuple(joined), tuple(left), was_listed)

    def _sweep(self, room: RoomKey, now: float) -> list[str]:
        """Remove members whose time has ended, and return those that are offline now."""
        stored = self._rooms.get(room, {})
        ended = [key for key, one in stored.items() if one.end <= now]
        for key in ended:
            del stored[key]
        remaining = _subjects(stored)
        return list(dict.fromkeys(one for _, one in ended if one not in remaining))


def _subjects(stored: Mapping[tuple[str, str], _Membership]) -> set[str]:
    return {subject for _, subject in stored}


class MemoryRestrictionStore:
    def __init__(self, clock: Clock, members: MemoryMemberStore, marks: ChangeMarks) -> None:
        self._clock = clock
        self._members = members
        self._marks = marks
        self._ends: ExpiringMap[Restriction] = ExpiringMap(clock)

    async def put(
        self, room: RoomKey, subject: str, restriction: Restriction, *, now: float
    ) -> Collection[str]:
        key = _restriction_key(room, subject, restriction.kind)
        if restriction.until > now:
            self._ends.put(key, restriction, restriction.until)
        else:
            self._ends.remove(key)
        change = Change(ChangeKind.RESTRICTION, room, subject=subject)
        return self._marks.add(self._members.present(room, now), change)

    async def find(self, room: RoomKey, subject: str, *, now: float) -> Sequence[Restriction]:
        return self.active(room, subject, now)

    def active(self, room: RoomKey, subject: str, now: float) -> list[Restriction]:
        found = [self._ends.get(_restriction_key(room, subject, kind)) for kind in RestrictionKind]
        return [one for one in found if one is not None and one.until > now]


def _restriction_key(room: RoomKey, subject: str, kind: RestrictionKind) -> str:
    return "\0".join((*room, subject, kind))


class _Room:
    """The entries of one room."""

    def __init__(self) -> None:
        self.epoch = secrets.token_urlsafe(8)
        self.head = 0
        self.floor = 0
        self.used_at = 0.0
        self.entries: deque[Entry] = deque()
        self.places: dict[tuple[str, str], Appended] = {}

    def drop_old(self, now: float, retention: Retention) -> int:
        """Drop entries beyond `retention`, and return how many."""
        before = len(self.entries)
        while self.entries and (
            self.entries[0].position <= self.head - retention.entries
            or self.entries[0].at <= now - retention.seconds
        ):
            self.floor = self.entries.popleft().position
        return before - len(self.entries)

    def drop_ids(self, now: float) -> None:
        for key, place in list(self.places.items()):
            if place.at > now - MESSAGE_ID_TTL:
                break
            del self.places[key]


class MemoryRoomStore:
    """capacity: entries of all rooms."""

    def __init__(
        self,
        members: MemoryMemberStore,
        restrictions: MemoryRestrictionStore,
        marks: ChangeMarks,
        capacity: int = CAPACITY,
    ) -> None:
        self._members = members
        self._restrictions = restrictions
        self._marks = marks
        self._capacity = capacity
        self._rooms: dict[RoomKey, _Room] = {}
        self._count = 0

    async def append(
        self, room: RoomKey, message: NewMessage, *, retention: Retention
    ) -> Appended | Restriction:
        restrictions = self._restrictions.active(room, message.sender.subject, message.at)
        if restrictions:
            return max(restrictions, key=lambda one: one.until)
        stored = self._stored(room)
        stored.drop_ids(message.at)
        key = (message.sender.subject, message.id)
        if key not in stored.places:
            entry = Message(
                id=message.id,
                sender=message.sender,
                text=message.text,
                data=message.data,
                at=message.at,
                offset=stored.head + 1,
            )
            pending = self._add(room, stored, entry, retention)
            stored.places[key] = Appended(stored.epoch, entry.offset, entry.at)
            return stored.places[key]._replace(pending=pending)
        return stored.places[key]

    async def delete(
        self, room: RoomKey, offset: int, *, by: str, at: float, retention: Retention
    ) -> Appended | None:
        stored = self._rooms.get(room)
        if stored is None:
            return None
        self._count -= stored.drop_old(at, retention)
        found = _find_message(stored, offset)
        if found is None:
            return None
        stored.entries.remove(found)
        self._count -= 1
        entry = Deletion(entry=stored.head + 1, offset=offset, by=by, at=at)
        pending = self._add(room, stored, entry, retention)
        return Appended(stored.epoch, entry.entry, at, pending)

    async def read(
        self,
        room: RoomKey,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        now: float,
        retention: Retention,
    ) -> RoomPage:
        stored = self._rooms.get(room)
        if stored is None:
            return RoomPage("", 0, 0, (), False)
        self._count -= stored.drop_old(now, retention)
        end = stored.head + 1 if before is None else before
        found = [one for one in stored.entries if after < one.position < end]
        page = tuple(found[max(0, len(found) - limit) :])
        return RoomPage(stored.epoch, stored.head, stored.floor, page, len(found) > limit)

    async def changes(self, instance: str) -> Sequence[Change]:
        return self._marks.take(instance)

    async def trim(self, *, now: float, retention: Retention) -> int:
        dropped = 0
        for room, stored in list(self._rooms.items())[:TRIM_BATCH]:
            del self._rooms[room]
            stored.drop_ids(now)
            dropped += stored.drop_old(now, retention)
            if stored.entries or stored.used_at > now - 2 * retention.seconds:
                self._rooms[room] = stored  # at the end, so that the next call trims other rooms
        self._count -= dropped
        return dropped

    def _stored(self, room: RoomKey) -> _Room:
        if self._count >= self._capacity or len(self._rooms) >= self._capacity:
            raise StateCapacityExceeded
        return self._rooms.setdefault(room, _Room())

    def _add(
        self, room: RoomKey, stored: _Room, entry: Entry, retention: Retention
    ) -> tuple[str, ...]:
        stored.entries.append(entry)
        stored.head = entry.position
        stored.used_at = entry.at
        self._count += 1 - stored.drop_old(entry.at, retention)
        change = Change(ChangeKind.ENTRIES, room, stored.head, epoch=stored.epoch)
        return self._marks.add(self._members.present(room, entry.at), change)


def _find_message(stored: _Room, offset: int) -> Message | None:
    found = (one for one in stored.entries if isinstance(one, Message) and one.offset == offset)
    return next(found, None)
