"""Deferred calls in memory."""

from __future__ import annotations

from collections.abc import Sequence

from broker.infrastructure.clock import Clock
from broker.oidc.ports import RETRY_TIMEOUT, DeferredCall
from broker.state.errors import StateCapacityExceeded
from broker.state.memory.expiring_map import CAPACITY


class MemoryDeferred:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._calls: dict[str, tuple[float, DeferredCall]] = {}

    async def put(self, call: DeferredCall, due_at: float) -> None:
        if call.id not in self._calls and len(self._calls) >= self._capacity:
            raise StateCapacityExceeded
        self._calls[call.id] = (due_at, call)

    async def take_due(self, limit: int) -> Sequence[DeferredCall]:
        now = self._clock()
        due = sorted(entry for entry in self._calls.values() if entry[0] <= now)[:limit]
        for _, call in due:
            self._calls[call.id] = (now + RETRY_TIMEOUT, call)
        return [call for _, call in due]

    async def done(self, call_id: str) -> None:
        self._calls.pop(call_id, None)
