"""Chat sessions and conversations in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from broker.chat.model import (
    Change,
    ChangeKind,
    ChatSession,
    Conversation,
    Person,
    Retention,
    RoomKey,
)
from broker.chat.ports import CHAT_SESSIONS_MAX, CONVERSATIONS_MAX, ChatStores
from broker.infrastructure.clock import Clock
from broker.state.memory.chat import (
    ChangeMarks,
    MemoryMemberStore,
    MemoryRestrictionStore,
    MemoryRoomStore,
)
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap


class MemoryChatSessionStore:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        # A client without a chat session logs in again. One that is refused cannot.
        self._sessions: ExpiringMap[ChatSession] = ExpiringMap(clock, capacity, evict_oldest=True)
        self._hashes: ExpiringMap[frozenset[str]] = ExpiringMap(clock, capacity, evict_oldest=True)

    async def put(self, shard: str, secret_hash: bytes, session: ChatSession) -> None:
        person, key = f"{session.app}/{session.subject}", secret_hash.hex()
        known = [one for one in self._hashes.get(person) or () if self._sessions.get(one)]
        known.sort(key=self._sessions.end_of)
        surplus = max(0, len(known) + 1 - CHAT_SESSIONS_MAX)
        for former in known[:surplus]:
            self._sessions.remove(former)
        self._sessions.put(key, session, session.expires_at)
        hashes = frozenset((*known[surplus:], key))
        self._hashes.put(person, hashes, max(map(self._sessions.end_of, hashes)))

    async def find(self, shard: str, secret_hash: bytes) -> ChatSession | None:
        return self._sessions.get(secret_hash.hex())

    async def extend(self, shard: str, secret_hash: bytes, expires_at: float) -> bool:
        key = secret_hash.hex()
        session = self._sessions.get(key)
        if session is None:
            return False
        self._sessions.put(key, replace(session, expires_at=expires_at), expires_at)
        person = f"{session.app}/{session.subject}"
        hashes = self._hashes.get(person) or frozenset((key,))
        self._hashes.put(person, hashes, max(map(self._sessions.end_of, hashes)))
        return True

    async def end(self, shard: str, secret_hash: bytes) -> None:
        self._sessions.remove(secret_hash.hex())


class MemoryConversationStore:
    def __init__(
        self,
        clock: Clock,
        members: MemoryMemberStore,
        marks: ChangeMarks,
        capacity: int = CAPACITY,
    ) -> None:
        self._clock = clock
        self._members = members
        self._marks = marks
        self._people: ExpiringMap[dict[str, tuple[float, Conversation]]] = ExpiringMap(
            clock, capacity
        )

    async def touch(
        self, person: Person, conversation: Conversation, *, first: int, retention: Retention
    ) -> Collection[str]:
        stored = self._stored(person, self._clock())
        _, known = stored.pop(conversation.room, (0.0, conversation))
        newest = _join(known, conversation)
        stored[newest.room] = (newest.at + retention.seconds, newest)
        while len(stored) > CONVERSATIONS_MAX:
            del stored[min(stored, key=lambda room: stored[room][1].at)]
        self._put(person, stored)
        change = Change(
            ChangeKind.CONVERSATION,
            RoomKey(person.app, newest.room),
            first,
            person.subject,
        )
        return self._marks.add(self._members.present(person.room, self._clock()), change)

    async def of(self, person: Person, *, now: float) -> Sequence[Conversation]:
        found = [conversation for _, conversation in self._stored(person, now).values()]
        return sorted(found, key=lambda one: one.at, reverse=True)

    async def see(self, person: Person, room: str, offset: int) -> None:
        stored = self._stored(person, self._clock())
        if room in stored:
            end, known = stored[room]
            seen = max(known.seen, min(offset, known.offset))
            stored[room] = (end, known._replace(seen=seen))
            self._put(person, stored)

    def _stored(self, person: Person, now: float) -> dict[str, tuple[float, Conversation]]:
        found = self._people.get("/".join(person)) or {}
        return {room: entry for room, entry in found.items() if entry[0] > now}

    def _put(self, person: Person, stored: dict[str, tuple[float, Conversation]]) -> None:
        if stored:
            self._people.put("/".join(person), stored, max(end for end, _ in stored.values()))


def _join(known: Conversation, new: Conversation) -> Conversation:
    """Return `new` with what it does not change in the stored conversation."""
    name = known.name if new.name is None else new.name
    if known.epoch != new.epoch:
        return new._replace(name=name)
    return new._replace(
        name=name,
        offset=max(known.offset, new.offset),
        at=max(known.at, new.at),
        seen=max(known.seen, new.seen),
    )


def open_chat(clock: Clock) -> ChatStores:
    marks, members = ChangeMarks(clock), MemoryMemberStore()
    restrictions = MemoryRestrictionStore(clock, members, marks)
    return ChatStores(
        MemoryRoomStore(members, restrictions, marks),
        members,
        restrictions,
        MemoryChatSessionStore(clock),
        MemoryConversationStore(clock, members, marks),
    )
