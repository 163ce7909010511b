"""Leader leases in memory."""

from __future__ import annotations

from broker.infrastructure.clock import Clock
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap


class MemoryLeaderLeases:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._holders: ExpiringMap[str] = ExpiringMap(clock, capacity)

    async def acquire(self, job: str, holder: str, *, seconds: float) -> bool:
        if self._holders.get(job) not in (None, holder):
            return False
        self._holders.put(job, holder, self._clock() + seconds)
        return True

    async def release(self, job: str, holder: str) -> None:
        if self._holders.get(job) == holder:
            self._holders.put(job, holder, self._clock())
