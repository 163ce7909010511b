"""Sessions in memory."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from broker.identity.model import Phone
from broker.infrastructure.clock import Clock
from broker.sessions.model import Session, person_key
from broker.sessions.ports import SESSIONS_MAX
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap


class MemorySessionStore:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        # A phone without a session logs in again by itself. A phone that is refused cannot.
        self._sessions: ExpiringMap[Session] = ExpiringMap(clock, capacity, evict_oldest=True)
        self._ids: ExpiringMap[frozenset[str]] = ExpiringMap(clock, capacity, evict_oldest=True)

    async def put(self, session: Session) -> None:
        person = person_key(session.phone)
        stored = [self._sessions.get(session_id) for session_id in self._ids.get(person) or ()]
        valid = sorted(filter(None, stored), key=lambda known: known.expires_at)
        surplus = max(0, len(valid) + 1 - SESSIONS_MAX)
        for former in valid[:surplus]:
            self._sessions.remove(former.id)
        remaining = [*valid[surplus:], session]
        ids = frozenset(known.id for known in remaining)
        self._ids.put(person, ids, max(known.latest_end for known in remaining))
        self._sessions.put(session.id, session, session.expires_at)

    async def get(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    async def of_person(self, phone: Phone) -> Sequence[Session]:
        ids = self._ids.get(person_key(phone)) or ()
        return [session for one in ids if (session := self._sessions.get(one)) is not None]

    async def extend(self, session: Session, expires_at: float) -> bool:
        if self._sessions.get(session.id) is None:
            return False
        self._sessions.put(session.id, replace(session, expires_at=expires_at), expires_at)
        return True

    async def end(self, phone: Phone, session_id: str | None = None) -> int:
        person = person_key(phone)
        ids = self._ids.get(person) or frozenset()
        if session_id is not None:
            if not any(self._sessions.get(other) for other in ids - {session_id}):
                self._ids.remove(person)
            return int(self._sessions.remove(session_id))
        self._ids.remove(person)
        return sum(map(self._sessions.remove, ids))
