"""A bounded map whose entries expire."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

from broker.infrastructure.clock import Clock
from broker.state.errors import StateCapacityExceeded

T = TypeVar("T")

SPARE_ENDS = 64
"""Outdated entries that a heap of end times may have, in addition to as many as are valid."""

CAPACITY = 200_000
"""Entries of one map. A login takes about 1 KB, so a flood of new logins is answered with
`temporarily_unavailable` before it fills the memory."""


class ExpiringMap(Generic[T]):
    """A dictionary whose entries expire at `end`, a Unix time in seconds.

    evict_oldest: whether a full map drops the entry that ends first. Otherwise it refuses
    new entries.
    """

    def __init__(
        self, clock: Clock, capacity: int = CAPACITY, *, evict_oldest: bool = False
    ) -> None:
        self._clock = clock
        self._capacity = capacity
        self._evict_oldest = evict_oldest
        self._entries: dict[str, tuple[float, T]] = {}
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: str, value: T, end: float) -> None:
        """Store `value` until `end`.

        Raises StateCapacityExceeded if the map is full and does not evict.
        """
        self._sweep(self._clock())
        if key not in self._entries and len(self._entries) >= self._capacity:
            if not self._evict_oldest:
                raise StateCapacityExceeded
            while len(self._entries) >= self._capacity:  # the first end may be outdated
                self._sweep(self._ends[0][0])
        self._entries[key] = (end, value)
        heapq.heappush(self._ends, (end, key))
        self._compact()

    def get(self, key: str) -> T | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] <= self._clock():
            return None
        return entry[1]

    def end_of(self, key: str) -> float:
        """Return the end of an entry; 0 if there is none."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else entry[0]

    def remove(self, key: str) -> bool:
        """Remove the entry and return whether there was one."""
        was_present = self.get(key) is not None
        self._entries.pop(key, None)
        self._compact()
        return was_present

    def _compact(self) -> None:
        """Rebuild the heap once most of its end times are outdated.

        The cost is amortised: there are as many changes as entries between two rebuilds.
        """
        if len(self._ends) > 2 * len(self._entries) + SPARE_ENDS:
            self._ends = [(end, key) for key, (end, _) in self._entries.items()]
            heapq.heapify(self._ends)

    def _sweep(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, key = heapq.heappop(self._ends)
            # An entry that was stored again has a later end in the heap as well.
            if key in self._entries and self._entries[key][0] <= now:
                del self._entries[key]
