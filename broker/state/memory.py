"""State in this process: for one process, lost at its end."""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping
from typing import Generic, TypeVar

from broker.errors import StateFull
from broker.login import Login, Notice
from broker.state import KEPT, Clock, Session, Store, Swapped

CAPACITY = 200_000
"""Entries of one kind.  A login takes about 1 KB here, so that a flood of begins
ends in `temporarily_unavailable` before it ends in a full machine."""

T = TypeVar("T")


class Shelf(Generic[T]):
    """A dictionary whose entries end: `end` is Unix time in seconds.

    A full shelf refuses more; one that `gives_way` drops what ends first instead.
    """

    def __init__(self, clock: Clock, capacity: int = CAPACITY, *, gives_way: bool = False) -> None:
        self._clock = clock
        self._capacity = capacity
        self._gives_way = gives_way
        self._entries: dict[str, tuple[float, T]] = {}
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: str, value: T, end: float) -> None:
        """Keep `value` under `key` until `end`; raises StateFull when there is no room."""
        self._sweep(self._clock())
        if key not in self._entries and len(self._entries) >= self._capacity:
            if not self._gives_way:
                raise StateFull
            self._sweep(self._ends[0][0])
        self._entries[key] = (end, value)
        heapq.heappush(self._ends, (end, key))

    def get(self, key: str) -> T | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] <= self._clock():
            return None
        return entry[1]

    def _sweep(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, key = heapq.heappop(self._ends)
            # An entry that was put again has a later end of its own in the heap.
            if key in self._entries and self._entries[key][0] <= now:
                del self._entries[key]


class MemoryLogins:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._logins: Shelf[Login] = Shelf(clock, capacity)
        self._scenes: Shelf[str] = Shelf(clock, capacity)

    async def add(self, login: Login) -> None:
        end = login.expires_at + KEPT
        self._logins.put(login.id, login, end)
        self._scenes.put(login.scene, login.id, end)

    async def get(self, login_id: str) -> Login | None:
        return self._logins.get(login_id)

    async def by_scene(self, scene: str) -> Login | None:
        login_id = self._scenes.get(scene)
        return None if login_id is None else self._logins.get(login_id)

    async def swap(self, before: Login, after: Login, notice: Notice | None = None) -> Swapped:
        stored = self._logins.get(before.id)
        if stored is None or stored.version != before.version:
            return Swapped.LOST
        # Never sooner than before: a confirm may end the login earlier than its code.
        self._logins.put(after.id, after, max(before.expires_at, after.expires_at) + KEPT)
        return Swapped.STORED

    async def changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        found = {name: self._logins.get(name) for name in known}
        return {
            name: login
            for name, login in found.items()
            if login is None or login.version != known[name]
        }

    async def secure(self, login: Login) -> None:
        """Memory has no second server that could be lost."""


class MemorySessions:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        # A phone whose session is gone logs in again, unseen; one that gets none is stuck.
        self._sessions: Shelf[Session] = Shelf(clock, capacity, gives_way=True)

    async def put(self, session: Session) -> None:
        self._sessions.put(session.id, session, session.expires_at)

    async def get(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)


def open_store(url: str, clock: Clock | None, *, replicas: int, tells: bool) -> Store:
    clock = clock or time.time
    return Store(
        MemoryLogins(clock),
        MemorySessions(clock),
        clock=clock,
        open=_nothing,
        trouble=lambda: None,
        close=_nothing,
    )


async def _nothing() -> None:
    """Memory comes and goes with its process."""
