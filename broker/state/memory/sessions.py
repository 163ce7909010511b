"""Sessions in memory."""

from __future__ import annotations

from dataclasses import replace

from broker.identity.model import Phone
from broker.infrastructure.clock import Clock
from broker.sessions.model import Session, person_key
from broker.sessions.ports import SESSIONS_MAX
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap


class MemorySessionStore:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        # A phone whose session is gone logs in again, unseen; one that gets none is stuck.
        self._sessions: ExpiringMap[Session] = ExpiringMap(clock, capacity, evict_oldest=True)
        self._people: ExpiringMap[frozenset[str]] = ExpiringMap(clock, capacity, evict_oldest=True)

    async def put(self, session: Session) -> None:
        name = person_key(session.phone)
        known = [one for id in self._people.get(name) or () if (one := self._sessions.get(id))]
        known.sort(key=lambda one: one.expires_at)
        crowd = max(0, len(known) + 1 - SESSIONS_MAX)
        for one in known[:crowd]:
            self._sessions.remove(one.id)
        kept = [*known[crowd:], session]
        ids = frozenset(one.id for one in kept)
        self._people.put(name, ids, max(one.latest_end for one in kept))
        self._sessions.put(session.id, session, session.expires_at)

    async def get(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    async def extend(self, session: Session, expires_at: float) -> bool:
        if self._sessions.get(session.id) is None:
            return False
        self._sessions.put(session.id, replace(session, expires_at=expires_at), expires_at)
        return True

    async def end(self, phone: Phone, session_id: str | None = None) -> int:
        name = person_key(phone)
        ids = self._people.get(name) or frozenset()
        if session_id is not None:
            if not any(self._sessions.get(one) for one in ids - {session_id}):
                self._people.remove(name)
            return int(self._sessions.remove(session_id))
        self._people.remove(name)
        return sum(self._sessions.remove(one) for one in ids)
