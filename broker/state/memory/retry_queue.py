"""Deferred calls in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import RETRY_TIMEOUT, DeferredCall
from broker.state.errors import StateCapacityExceeded
from broker.state.memory.expiring_map import CAPACITY


class MemoryRetryQueue:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._calls: dict[tuple[str, str], tuple[float, DeferredCall]] = {}

    async def put(self, call: DeferredCall, due_at: float) -> None:
        key = (call.kind, call.id)
        if key not in self._calls and len(self._calls) >= self._capacity:
            raise StateCapacityExceeded
        self._calls[key] = (due_at, call)

    async def take_due(self, kinds: Collection[str], limit: int) -> Sequence[DeferredCall]:
        now = self._clock()
        due = sorted(entry for entry in self._calls.values() if entry[0] <= now)
        taken = [
            call
            for kind in kinds
            for call in [call for _, call in due if call.kind == kind][:limit]
        ]
        for call in taken:
            self._calls[call.kind, call.id] = (now + RETRY_TIMEOUT, call)
        return taken

    async def done(self, call: DeferredCall) -> None:
        self._calls.pop((call.kind, call.id), None)
