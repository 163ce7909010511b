"""A bounded map whose entries expire."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

from broker.infrastructure.clock import Clock
from broker.state.errors import StateCapacityExceeded

T = TypeVar("T")

SPARE_ENDS = 64
"""Entries in a heap of ends, beyond twice the valid ones, before it is rebuilt."""

CAPACITY = 200_000
"""Entries of one kind.  A login takes about 1 KB here, so that a flood of begins
ends in `temporarily_unavailable` before it ends in a full machine."""


class ExpiringMap(Generic[T]):
    """A dictionary whose entries end: `end` is Unix time in seconds.

    A full shelf refuses more; one that `gives_way` drops what ends first instead.
    """

    def __init__(
        self, clock: Clock, capacity: int = CAPACITY, *, evict_oldest: bool = False
    ) -> None:
        self._clock = clock
        self._capacity = capacity
        self._gives_way = evict_oldest
        self._entries: dict[str, tuple[float, T]] = {}
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: str, value: T, end: float) -> None:
        """Keep `value` under `key` until `end`; raises StateCapacityExceeded when there is no
        room.
        """
        self._sweep(self._clock())
        if key not in self._entries and len(self._entries) >= self._capacity:
            if not self._gives_way:
                raise StateCapacityExceeded
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
