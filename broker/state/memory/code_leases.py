"""Leases of pool codes in memory."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple

from broker.infrastructure.clock import Clock
from broker.pool.model import LeasedCode, OfferedCode, PoolLevel
from broker.pool.ports import RESTORE_BATCH
from broker.state.errors import PoolCapacityExceeded
from broker.state.memory.expiring_map import CAPACITY, SPARE_ENDS


class LeasedNumber(NamedTuple):
    """A number that is leased or in its cooldown. Times are Unix times in seconds.

    lease_end: when the lease ends or ended.
    free_at: when the cooldown ends.
    """

    lease_end: float
    free_at: float
    generation: int


class MemoryPool:
    """The numbers of one app. The caller passes the time.

    `_free` and `_free_times` are heaps. They may contain outdated entries; the dictionaries
    are authoritative.

    drawings: the latest drawing of each number, including withdrawn numbers.
    """

    def __init__(self) -> None:
        self.drawings: dict[int, int] = {}
        self._codes: dict[int, OfferedCode] = {}
        self._uses: defaultdict[int, int] = defaultdict(int)
        self._generations: defaultdict[int, int] = defaultdict(int)
        self._leased: dict[int, LeasedNumber] = {}
        self._free: list[int] = []
        self._free_times: list[tuple[float, int]] = []

    def lease(self, *, now: float, until: float, cooldown: float) -> LeasedCode | None:
        self._restore_ended(now)
        number = self._pop_lowest_free()
        if number is None:
            return None
        generation = max(self._generations[number] + 1, round(now * 1_000))
        self._generations[number] = generation
        self._uses[number] += 1
        self._set_leased(number, LeasedNumber(until, until + cooldown, generation))
        return LeasedCode(self._codes[number], generation, self._uses[number])

    def return_code(self, number: int, generation: int, *, now: float, cooldown: float) -> None:
        leased = self._leased.get(number)
        if leased and leased.generation == generation and leased.lease_end > now:
            self._set_leased(number, LeasedNumber(now, now + cooldown, generation))

    def offer(self, code: OfferedCode, *, now: float, cooldown: float) -> None:
        number, is_new = code.number, code.number not in self._codes
        known = self.drawings.get(number, -1)
        if code.drawing < known or (code.drawing == known and is_new):
            return
        if code.drawing > known:
            self._uses[number] = 0
        self.drawings[number] = code.drawing
        self._codes[number] = code
        if is_new and cooldown:
            self._set_leased(number, LeasedNumber(now, now + cooldown, 0))
        elif is_new:
            heapq.heappush(self._free, number)

    def withdraw(self, number: int, drawing: int) -> None:
        if drawing >= self.drawings.get(number, -1):
            self.drawings[number] = drawing
            self._codes.pop(number, None)
            self._leased.pop(number, None)

    def level(self, *, now: float) -> PoolLevel:
        unavailable = [entry for entry in self._leased.values() if entry.free_at > now]
        leased = sum(entry.lease_end > now for entry in unavailable)
        resting = len(unavailable) - leased
        return PoolLevel(len(self._codes) - len(unavailable), leased, resting)

    def _set_leased(self, number: int, entry: LeasedNumber) -> None:
        self._leased[number] = entry
        heapq.heappush(self._free_times, (entry.free_at, number))
        if len(self._free_times) > 2 * len(self._leased) + SPARE_ENDS:
            self._free_times = [(entry.free_at, key) for key, entry in self._leased.items()]
            heapq.heapify(self._free_times)

    def _restore_ended(self, now: float) -> None:
        remaining = RESTORE_BATCH
        while remaining and self._free_times and self._free_times[0][0] <= now:
            free_at, number = heapq.heappop(self._free_times)
            if number in self._leased and self._leased[number].free_at == free_at:
                del self._leased[number]
                heapq.heappush(self._free, number)
                remaining -= 1

    def _pop_lowest_free(self) -> int | None:
        while self._free:
            number = heapq.heappop(self._free)
            if number in self._codes and number not in self._leased:
                return number
        return None


class MemoryCodeLeases:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._pools: defaultdict[str, MemoryPool] = defaultdict(MemoryPool)

    async def lease(self, app: str, *, until: float, cooldown: float) -> LeasedCode | None:
        return self._pools[app].lease(now=self._clock(), until=until, cooldown=cooldown)

    async def return_code(self, app: str, number: int, generation: int, *, cooldown: float) -> None:
        self._pools[app].return_code(number, generation, now=self._clock(), cooldown=cooldown)

    async def offer(
        self, app: str, codes: Collection[OfferedCode], *, cooldown: float = 0.0
    ) -> None:
        known = self._pools[app].drawings
        new = sum(code.number not in known for code in codes)
        if new + sum(len(pool.drawings) for pool in self._pools.values()) > self._capacity:
            raise PoolCapacityExceeded
        for code in codes:
            self._pools[app].offer(code, now=self._clock(), cooldown=cooldown)

    async def withdraw(self, app: str, drawings: Mapping[int, int]) -> None:
        for number, drawing in drawings.items():
            self._pools[app].withdraw(number, drawing)

    async def level(self, app: str) -> PoolLevel:
        return self._pools[app].level(now=self._clock())

    async def forget(self, app: str) -> None:
        self._pools.pop(app, None)
