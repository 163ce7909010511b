"""Authorization codes and families of refresh tokens in memory."""

from __future__ import annotations

from collections.abc import Sequence

from broker.infrastructure.clock import Clock
from broker.oidc.model import AuthorizationCode, Family
from broker.oidc.ports import (
    DROPPED_TTL,
    ENDED_TTL,
    FAMILIES_MAX,
    TOMBSTONE_TTL,
    FamilyState,
    FoundCode,
    Unusable,
)
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap
from broker.state.memory.sign_ins import MemorySignIns


class MemoryGrants:
    """sign_ins: tells whether a sign-in session is active."""

    def __init__(self, clock: Clock, sign_ins: MemorySignIns, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._sign_ins = sign_ins
        self._codes: ExpiringMap[AuthorizationCode] = ExpiringMap(clock, capacity)
        self._used: ExpiringMap[str] = ExpiringMap(clock, capacity, evict_oldest=True)
        self._families: ExpiringMap[Family] = ExpiringMap(clock, capacity, evict_oldest=True)
        self._graces: ExpiringMap[bool] = ExpiringMap(clock, capacity, evict_oldest=True)
        self._dropped: ExpiringMap[bool] = ExpiringMap(clock, capacity, evict_oldest=True)
        self._subjects: ExpiringMap[frozenset[str]] = ExpiringMap(
            clock, capacity, evict_oldest=True
        )

    async def save_code(self, shard: str, code_hash: bytes, code: AuthorizationCode) -> None:
        key = code_hash.hex()
        if self._used.get(key) is None and self._codes.get(key) is None:
            self._codes.put(key, code, code.expires_at)

    async def find_code(self, shard: str, code_hash: bytes) -> FoundCode:
        key = code_hash.hex()
        used = self._used.get(key)
        if used is not None:
            return FoundCode(None, Unusable.USED, used)
        code = self._codes.get(key)
        if code is None:
            return FoundCode(None, Unusable.UNKNOWN)
        if not self._sign_ins.is_active(code.grant.sid):
            return FoundCode(None, Unusable.ENDED, code.grant.family)
        return FoundCode(code)

    async def use_code(self, shard: str, code_hash: bytes) -> None:
        key = code_hash.hex()
        code = self._codes.get(key)
        if code is not None:
            self._codes.remove(key)
            self._used.put(key, code.grant.family, code.expires_at + TOMBSTONE_TTL)

    async def save(self, family: Family, code_hash: bytes | None = None) -> bool:
        family_id, sid = family.grant.family, family.grant.sid
        if code_hash is not None and self._codes.get(code_hash.hex()) is None:
            return False
        if self._families.get(family_id) is not None:
            return True
        if self._dropped.get(family_id) or self._sign_ins.was_ended(sid):
            return False
        others = self._active(family.grant.subject)
        others.sort(key=lambda one: one.expires_at)
        for one in others[: max(0, len(others) + 1 - FAMILIES_MAX)]:
            self._finish(one.grant.family, ENDED_TTL)
        if code_hash is not None:
            await self.use_code(family_id[:1], code_hash)
        self._put(family)
        return True

    async def get(self, family_id: str) -> FamilyState | None:
        family = self._families.get(family_id)
        return None if family is None else self._state_of(family)

    async def swap(
        self, before: Family, after: Family, *, idle: float, grace: float
    ) -> FamilyState | None:
        stored = self._families.get(before.grant.family)
        if stored is None:
            return None
        if stored.n == before.n:
            stored = after
            self._put(after)
            self._graces.put(after.grant.family, True, self._clock() + grace)
            self._sign_ins.extend(after.grant.sid, after.used_at, idle)
        return self._state_of(stored)

    async def drop(self, family_id: str) -> Family | None:
        family = self._families.get(family_id)
        self._finish(family_id, ENDED_TTL if family is not None and family.n else DROPPED_TTL)
        return family

    async def was_dropped(self, family_id: str) -> bool:
        return self._dropped.get(family_id) is not None

    async def of_subject(self, subject: str) -> Sequence[FamilyState]:
        families = sorted(self._active(subject), key=lambda one: one.began_at)
        return [self._state_of(one) for one in families]

    def _finish(self, family_id: str, ttl: float) -> None:
        self._families.remove(family_id)
        self._dropped.put(family_id, True, self._clock() + ttl)

    def _state_of(self, family: Family) -> FamilyState:
        grant = family.grant
        in_grace = self._graces.get(grant.family) is not None
        return FamilyState(family, self._sign_ins.is_active(grant.sid), in_grace)

    def _put(self, family: Family) -> None:
        family_id, subject = family.grant.family, family.grant.subject
        self._families.put(family_id, family, family.expires_at)
        ids = frozenset(one.grant.family for one in self._active(subject)) | {family_id}
        self._subjects.put(subject, ids, max(map(self._families.end_of, ids)))

    def _active(self, subject: str) -> list[Family]:
        ids = self._subjects.get(subject) or frozenset()
        return [one for one in map(self._families.get, ids) if one is not None]
