"""Leader leases in memory."""

from __future__ import annotations

from broker.infrastructure.clock import Clock
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap


class MemoryLeaderLeases:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._holders: ExpiringMap[str] = ExpiringMap(clock, capacity)

    async def acquire(self, duty: str, holder: str, *, seconds: float) -> bool:
        if self._holders.get(duty) not in (None, holder):
            return False
        self._holders.put(duty, holder, self._clock() + seconds)
        return True

    async def release(self, duty: str, holder: str) -> None:
        if self._holders.get(duty) == holder:
            self._holders.put(duty, holder, self._clock())
