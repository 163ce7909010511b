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
    """A number that is not free.

    ends: when its lease ends, or ended.  back: when its rest is over.
    """

    ends: float
    back: float
    generation: int


class MemoryPool:
    """One app's numbers.  It reads no clock.

    free and backs are heaps, and may name numbers that are no longer there: what counts
    stands in the dictionaries.  drawings: of every number, the withdrawn too, the latest.
    """

    def __init__(self) -> None:
        self.drawings: dict[int, int] = {}
        self._codes: dict[int, OfferedCode] = {}
        self._uses: defaultdict[int, int] = defaultdict(int)
        self._generations: defaultdict[int, int] = defaultdict(int)
        self._out: dict[int, LeasedNumber] = {}
        self._free: list[int] = []
        self._backs: list[tuple[float, int]] = []

    def lease(self, *, now: float, until: float, cooldown: float) -> LeasedCode | None:
        self._bring_back(now)
        number = self._lowest()
        if number is None:
            return None
        generation = max(self._generations[number] + 1, round(now * 1_000))
        self._generations[number] = generation
        self._uses[number] += 1
        self._send_out(number, LeasedNumber(until, until + cooldown, generation))
        return LeasedCode(self._codes[number], generation, self._uses[number])

    def return_code(self, number: int, generation: int, *, now: float, cooldown: float) -> None:
        out = self._out.get(number)
        if out and out.generation == generation and out.ends > now:
            self._send_out(number, LeasedNumber(now, now + cooldown, generation))

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
            self._send_out(number, LeasedNumber(now, now + cooldown, 0))
        elif is_new:
            heapq.heappush(self._free, number)

    def withdraw(self, number: int, drawing: int) -> None:
        if drawing >= self.drawings.get(number, -1):
            self.drawings[number] = drawing
            self._codes.pop(number, None)
            self._out.pop(number, None)

    def level(self, *, now: float) -> PoolLevel:
        away = [out for out in self._out.values() if out.back > now]
        leased = sum(out.ends > now for out in away)
        return PoolLevel(len(self._codes) - len(away), leased, len(away) - leased)

    def _send_out(self, number: int, out: LeasedNumber) -> None:
        self._out[number] = out
        heapq.heappush(self._backs, (out.back, number))
        if len(self._backs) > 2 * len(self._out) + SPARE_ENDS:
            self._backs = [(out.back, number) for number, out in self._out.items()]
            heapq.heapify(self._backs)

    def _bring_back(self, now: float) -> None:
        left = RESTORE_BATCH
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
