"""State in this process: for one process, lost at its end."""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

from broker.errors import PoolFull, StateFull
from broker.login import Login, Notice, Phone
from broker.state import (
    BACK_AT_ONCE,
    INSTANCE_TTL,
    KEPT,
    SESSIONS_MAX,
    Clock,
    Code,
    Leased,
    Level,
    Profile,
    Session,
    Store,
    Swapped,
    person,
)

SPARE_ENDS = 64
"""Entries in a heap of ends, beyond twice the valid ones, before it is rebuilt."""

CAPACITY = 200_000
"""Entries of one kind.  A login takes about 1 KB here, so that a flood of begins
ends in `temporarily_unavailable` before it ends in a full machine."""

IMAGES_MAX = 250
"""Images of codes: up to 240 KB each, so 60 MB at most."""

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
            while len(self._entries) >= self._capacity:  # an end may be a former one
                self._sweep(self._ends[0][0])
        self._entries[key] = (end, value)
        heapq.heappush(self._ends, (end, key))
        self._compact()

    def get(self, key: str) -> T | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] <= self._clock():
            return None
        return entry[1]

    def remove(self, key: str) -> bool:
        """Whether there was such an entry."""
        there = self.get(key) is not None
        self._entries.pop(key, None)
        self._compact()
        return there

    def _compact(self) -> None:
        """Drop ends of entries that were removed or put again once they outnumber the others.

        The cost is amortised: a rebuild follows as many changes as there are entries.
        """
        if len(self._ends) > 2 * len(self._entries) + SPARE_ENDS:
            self._ends = [(end, key) for key, (end, _) in self._entries.items()]
            heapq.heapify(self._ends)

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
        self._people: Shelf[frozenset[str]] = Shelf(clock, capacity, gives_way=True)

    async def put(self, session: Session) -> None:
        name = person(session.phone)
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

    async def put_off(self, session: Session, expires_at: float) -> bool:
        if self._sessions.get(session.id) is None:
            return False
        self._sessions.put(session.id, replace(session, expires_at=expires_at), expires_at)
        return True

    async def end(self, phone: Phone, session_id: str | None = None) -> int:
        name = person(phone)
        ids = self._people.get(name) or frozenset()
        if session_id is not None:
            if not any(self._sessions.get(one) for one in ids - {session_id}):
                self._people.remove(name)
            return int(self._sessions.remove(session_id))
        self._people.remove(name)
        return sum(self._sessions.remove(one) for one in ids)


class Out(NamedTuple):
    """A number that is not free.

    ends: when its lease ends, or ended.  back: when its rest is over.
    """

    ends: float
    back: float
    generation: int


class Pool:
    """One app's numbers.  It reads no clock.

    free and backs are heaps, and may name numbers that are no longer there: what counts
    stands in the dictionaries.  drawings: of every number, the withdrawn too, the latest.
    """

    def __init__(self) -> None:
        self.drawings: dict[int, int] = {}
        self._codes: dict[int, Code] = {}
        self._uses: defaultdict[int, int] = defaultdict(int)
        self._generations: defaultdict[int, int] = defaultdict(int)
        self._out: dict[int, Out] = {}
        self._free: list[int] = []
        self._backs: list[tuple[float, int]] = []

    def lease(self, *, now: float, until: float, rest: float) -> Leased | None:
        self._bring_back(now)
        number = self._lowest()
        if number is None:
            return None
        generation = max(self._generations[number] + 1, round(now * 1_000))
        self._generations[number] = generation
        self._uses[number] += 1
        self._send_out(number, Out(until, until + rest, generation))
        return Leased(self._codes[number], generation, self._uses[number])

    def give_back(self, number: int, generation: int, *, now: float, rest: float) -> None:
        out = self._out.get(number)
        if out and out.generation == generation and out.ends > now:
            self._send_out(number, Out(now, now + rest, generation))

    def offer(self, code: Code, *, now: float, rest: float) -> None:
        number, is_new = code.number, code.number not in self._codes
        known = self.drawings.get(number, -1)
        if code.drawing < known or (code.drawing == known and is_new):
            return
        if code.drawing > known:
            self._uses[number] = 0
        self.drawings[number] = code.drawing
        self._codes[number] = code
        if is_new and rest:
            self._send_out(number, Out(now, now + rest, 0))
        elif is_new:
            heapq.heappush(self._free, number)

    def withdraw(self, number: int, drawing: int) -> None:
        if drawing >= self.drawings.get(number, -1):
            self.drawings[number] = drawing
            self._codes.pop(number, None)
            self._out.pop(number, None)

    def level(self, *, now: float) -> Level:
        away = [out for out in self._out.values() if out.back > now]
        leased = sum(out.ends > now for out in away)
        return Level(len(self._codes) - len(away), leased, len(away) - leased)

    def _send_out(self, number: int, out: Out) -> None:
        self._out[number] = out
        heapq.heappush(self._backs, (out.back, number))
        if len(self._backs) > 2 * len(self._out) + SPARE_ENDS:
            self._backs = [(out.back, number) for number, out in self._out.items()]
            heapq.heapify(self._backs)

    def _bring_back(self, now: float) -> None:
        left = BACK_AT_ONCE
        while left and self._backs and self._backs[0][0] <= now:
            back, number = heapq.heappop(self._backs)
            if number in self._out and self._out[number].back == back:
                del self._out[number]
                heapq.heappush(self._free, number)
                left -= 1

    def _lowest(self) -> int | None:
        while self._free:
            number = heapq.heappop(self._free)
            if number in self._codes and number not in self._out:
                return number
        return None


class MemoryLeases:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._pools: defaultdict[str, Pool] = defaultdict(Pool)

    async def lease(self, app: str, *, until: float, rest: float) -> Leased | None:
        return self._pools[app].lease(now=self._clock(), until=until, rest=rest)

    async def give_back(self, app: str, number: int, generation: int, *, rest: float) -> None:
        self._pools[app].give_back(number, generation, now=self._clock(), rest=rest)

    async def offer(self, app: str, codes: Collection[Code], *, rest: float = 0.0) -> None:
        known = self._pools[app].drawings
        new = sum(code.number not in known for code in codes)
        if new + sum(len(pool.drawings) for pool in self._pools.values()) > self._capacity:
            raise PoolFull
        for code in codes:
            self._pools[app].offer(code, now=self._clock(), rest=rest)

    async def withdraw(self, app: str, drawings: Mapping[int, int]) -> None:
        for number, drawing in drawings.items():
            self._pools[app].withdraw(number, drawing)

    async def level(self, app: str) -> Level:
        return self._pools[app].level(now=self._clock())

    async def forget(self, app: str) -> None:
        self._pools.pop(app, None)


class MemoryDuties:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._holders: Shelf[str] = Shelf(clock, capacity)

    async def hold(self, duty: str, holder: str, *, seconds: float) -> bool:
        if self._holders.get(duty) not in (None, holder):
            return False
        self._holders.put(duty, holder, self._clock() + seconds)
        return True

    async def release(self, duty: str, holder: str) -> None:
        if self._holders.get(duty) == holder:
            self._holders.put(duty, holder, self._clock())


class MemoryImages:
    def __init__(self, clock: Clock, capacity: int = IMAGES_MAX) -> None:
        self._images: Shelf[str] = Shelf(clock, capacity, gives_way=True)

    async def put(self, login: Login, url: str) -> None:
        self._images.put(login.id, url, login.expires_at)

    async def get(self, login: Login) -> str | None:
        return self._images.get(login.id)


class MemoryInstances:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._profiles: dict[str, tuple[float, Profile]] = {}

    async def publish(self, instance: str, profile: Profile) -> Mapping[str, Profile]:
        now = self._clock()
        self._profiles[instance] = (now + INSTANCE_TTL, profile)
        self._profiles = {name: one for name, one in self._profiles.items() if one[0] >= now}
        return {name: one[1] for name, one in self._profiles.items() if name != instance}

    async def leave(self, instance: str) -> None:
        self._profiles.pop(instance, None)


def open_store(url: str, clock: Clock | None, *, replicas: int, tells: bool) -> Store:
    clock = clock or time.time
    return Store(
        MemoryLogins(clock),
        MemorySessions(clock),
        MemoryLeases(clock),
        MemoryDuties(clock),
        MemoryImages(clock),
        clock=clock,
        open=_nothing,
        trouble=lambda: None,
        close=_nothing,
        refusal=lambda: None,
        evicts=_never,
        instances=MemoryInstances(clock),
    )


async def _never() -> bool:
    return False


async def _nothing() -> None:
    """Memory comes and goes with its process."""
