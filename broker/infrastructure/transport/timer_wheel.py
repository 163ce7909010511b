"""One timer for many objects, such as sessions, with the precision of a tick.

A timer for each object would cost an object, an entry in the event loop's heap, and a
cancellation for each heartbeat. Here an object is in the set of its slot. Each tick, one call
of the event loop takes the entries of the next slot.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar

from broker.infrastructure.background import report

BATCH_SIZE = 256
"""Entries handled in one iteration of the event loop."""

NO_SLOT, DUE_SLOT = -1, -2
"""Values of `slot`: the entry is not on the wheel, and the entry is due in this tick."""


class TimerEntry(Protocol):
    """An object that can be on the wheel. slot: managed by the wheel, `NO_SLOT` at first."""

    slot: int


T = TypeVar("T", bound=TimerEntry)


class TimerWheel(Generic[T]):
    """A timer wheel.

    tick: seconds between two slots.  horizon: the longest delay in seconds.
    on_timeout: called with each entry that is due. The entry is off the wheel then.
    """

    def __init__(self, *, tick: float, horizon: float, on_timeout: Callable[[T], None]) -> None:
        self.tick = tick
        self._on_timeout = on_timeout
        self._slots: list[set[T]] = [set() for _ in range(math.ceil(horizon / tick) + 2)]
        self._due: set[T] = set()
        self._position = 0
        self._next_tick = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due) + sum(map(len, self._slots))

    def __iter__(self) -> Iterator[T]:
        return chain(self._due, *self._slots)

    def schedule(self, entry: T, delay: float) -> None:
        """Set the entry's only timeout to `delay` seconds from now."""
        self.cancel(entry)
        if self._timer is None:
            self._start()
        ticks = min(max(1, math.ceil(delay / self.tick)), len(self._slots) - 1)
        entry.slot = (self._position + ticks) % len(self._slots)
        self._slots[entry.slot].add(entry)

    def cancel(self, entry: T) -> None:
        if entry.slot != NO_SLOT:
            self._entries_of(entry.slot).discard(entry)
            entry.slot = NO_SLOT

    def transfer(self, entry: T, other: T) -> None:
        """Give the timeout of `entry` to `other`."""
        slot = entry.slot
        self.cancel(entry)
        if slot != NO_SLOT:
            self._entries_of(slot).add(other)
            other.slot = slot

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _entries_of(self, slot: int) -> set[T]:
        return self._due if slot == DUE_SLOT else self._slots[slot]

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_tick = loop.time() + self.tick
        self._timer = loop.call_at(self._next_tick, self._advance)

    def _advance(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_tick += self.tick  # a late tick does not delay the next one
        self._timer = loop.call_at(self._next_tick, self._advance)
        self._position = (self._position + 1) % len(self._slots)
        for entry in self._slots[self._position]:
            entry.slot = DUE_SLOT
        self._due |= self._slots[self._position]
        self._slots[self._position].clear()
        self._fire_due()

    def _fire_due(self) -> None:
        if len(self._due) > BATCH_SIZE:
            asyncio.get_running_loop().call_soon(self._fire_due)
        for _ in range(min(BATCH_SIZE, len(self._due))):
            entry = self._due.pop()
            entry.slot = NO_SLOT
            try:
                self._on_timeout(entry)
            except Exception as error:  # does not affect the other entries
                report("timer wheel", error)
