"""Sign-in sessions in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broker.infrastructure.clock import Clock
from broker.oidc.model import SignIn
from broker.oidc.ports import ENDED_TTL, SIGN_INS_MAX
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap


class MemorySignIns:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        # A person whose session is dropped signs in again.
        self._clock = clock
        self._sessions: ExpiringMap[SignIn] = ExpiringMap(clock, capacity, evict_oldest=True)
        self._cookies: ExpiringMap[str] = ExpiringMap(clock, capacity, evict_oldest=True)
        self._subjects: ExpiringMap[frozenset[str]] = ExpiringMap(
            clock, capacity, evict_oldest=True
        )
        self._ended: ExpiringMap[bool] = ExpiringMap(clock, capacity, evict_oldest=True)

    async def save(self, sign_in: SignIn, expires_at: float) -> Sequence[SignIn]:
        if self._ended.get(sign_in.sid):
            return []
        former = self._sessions.get(sign_in.sid)
        others = [one for one in self._active(sign_in.subject) if one.sid != sign_in.sid]
        others.sort(key=lambda one: self._sessions.end_of(one.sid))
        surplus = others[: max(0, len(others) + 1 - SIGN_INS_MAX)]
        for one in surplus:
            self._end(one.sid)
            self._remove(one)
        if former is not None:
            self._remove_cookie(former)
            sign_in = _joined(former, sign_in)
        self._put(sign_in, expires_at)
        return surplus

    async def by_cookie(self, cookie_shard: str, cookie_hash: bytes) -> SignIn | None:
        sid = self._cookies.get(cookie_hash.hex())
        return None if sid is None else self._sessions.get(sid)

    async def of_subject(self, subject: str) -> Sequence[SignIn]:
        return sorted(self._active(subject), key=lambda one: one.began_at)

    async def touch(self, sign_in: SignIn, expires_at: float) -> bool:
        stored = self._sessions.get(sign_in.sid)
        if stored is None:
            return False
        touched = _joined(stored, replace(stored, used_at=sign_in.used_at, apps=sign_in.apps))
        touched = replace(touched, incarnations={**sign_in.incarnations, **stored.incarnations})
        until = min(expires_at, stored.latest_end)
        self._put(touched, max(until, self._sessions.end_of(sign_in.sid)))
        return True

    async def end(self, subject: str, sid: str) -> SignIn | None:
        sign_in = self._sessions.get(sid)
        if sign_in is not None and sign_in.subject != subject:
            return None
        self._end(sid)
        if sign_in is not None:
            self._remove(sign_in)
        return sign_in

    def is_active(self, sid: str) -> bool:
        return self._sessions.get(sid) is not None

    def was_ended(self, sid: str) -> bool:
        """Return whether `end` ended the session in the last `ENDED_TTL` seconds."""
        return self._ended.get(sid) is not None

    def extend(self, sid: str, used_at: float, idle: float) -> None:
        """Use an active session: it ends `idle` seconds from now, if that is a tenth later."""
        sign_in = self._sessions.get(sid)
        if sign_in is None:
            return
        expires_at = min(self._clock() + idle, sign_in.latest_end)
        if expires_at - self._sessions.end_of(sid) >= idle / 10:
            self._put(replace(sign_in, used_at=used_at), expires_at)

    def _put(self, sign_in: SignIn, expires_at: float) -> None:
        sid, subject = sign_in.sid, sign_in.subject
        self._sessions.put(sid, sign_in, expires_at)
        if sign_in.cookie_hash is not None:
            self._cookies.put(sign_in.cookie_hash.hex(), sid, expires_at)
        sids = frozenset(one.sid for one in self._active(subject)) | {sid}
        self._subjects.put(subject, sids, max(self._sessions.end_of(one) for one in sids))

    def _active(self, subject: str) -> list[SignIn]:
        sids = self._subjects.get(subject) or frozenset()
        return [one for one in map(self._sessions.get, sids) if one is not None]

    def _end(self, sid: str) -> None:
        self._ended.put(sid, True, self._clock() + ENDED_TTL)

    def _remove(self, sign_in: SignIn) -> None:
        self._sessions.remove(sign_in.sid)
        self._remove_cookie(sign_in)

    def _remove_cookie(self, sign_in: SignIn) -> None:
        if sign_in.cookie_hash is not None:
            self._cookies.remove(sign_in.cookie_hash.hex())


def _joined(former: SignIn, later: SignIn) -> SignIn:
    return replace(
        later,
        apps={**later.apps, **former.apps},
        incarnations={**later.incarnations, **former.incarnations},
    )
