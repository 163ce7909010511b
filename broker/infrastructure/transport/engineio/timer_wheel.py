"""One timer for all sockets: who is due when, to the tick.

A timer a socket would cost an object, a place in the loop's heap and a
cancellation for every heartbeat.  Here a socket is an entry in the set of its
tick; one call of the loop turns the wheel.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from broker.infrastructure.background import report

BATCH_SIZE = 256
"""Sockets that are rung in one go: what else the loop has to do comes in between."""

NO_SLOT, DUE_SLOT = -1, -2
"""What `slot` says of one that is not on the wheel, and of one whose ring is about to come."""


class TimerEntry(Protocol):
    slot: int
    """Where on the wheel."""


T = TypeVar("T", bound=TimerEntry)


class TimerWheel(Generic[T]):
    """tick: seconds.  horizon: the longest time, in seconds, that anybody is put off for.

    ring: called with each that is due, which is then off the wheel.
    """

    def __init__(self, *, tick: float, horizon: float, on_timeout: Callable[[T], None]) -> None:
        self.tick = tick
        self._ring = on_timeout
        self._slots: list[set[T]] = [set() for _ in range(math.ceil(horizon / tick) + 2)]
        self._due: set[T] = set()
        self._at = 0
        self._next = 0.0
        self._turning: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due) + sum(map(len, self._slots))

    def schedule(self, one: T, seconds: float) -> None:
        """Ring `one` in `seconds`, to the tick; in place of when it was due till now."""
        self.cancel(one)
        if self._turning is None:
            self._start()
        ahead = min(max(1, math.ceil(seconds / self.tick)), len(self._slots) - 1)
        one.slot = (self._at + ahead) % len(self._slots)
        self._slots[one.slot].add(one)

    def cancel(self, one: T) -> None:
        if one.slot != NO_SLOT:
            self._place(one.slot).discard(one)
            one.slot = NO_SLOT

    def transfer(self, one: T, other: T) -> None:
        """Ring `other` when `one` was due, which is off the wheel."""
        slot = one.slot
        self.cancel(one)
        if slot != NO_SLOT:
            self._place(slot).add(other)
            other.slot = slot

    def stop(self) -> None:
        if self._turning is not None:
            self._turning.cancel()
            self._turning = None

    def _place(self, slot: int) -> set[T]:
        return self._due if slot == DUE_SLOT else self._slots[slot]

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.time() + self.tick
        self._turning = loop.call_at(self._next, self._turn)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        self._next += self.tick  # not from now: a late turn must not put all others off
        self._turning = loop.call_at(self._next, self._turn)
        self._at = (self._at + 1) % len(self._slots)
        for one in self._slots[self._at]:
            one.slot = DUE_SLOT
        self._due |= self._slots[self._at]
        self._slots[self._at].clear()
        self._fire_due()

    def _fire_due(self) -> None:
        if len(self._due) > BATCH_SIZE:
            asyncio.get_running_loop().call_soon(self._fire_due)
        for _ in range(min(BATCH_SIZE, len(self._due))):
            one = self._due.pop()
            one.slot = NO_SLOT
            try:
                self._ring(one)
            except Exception as error:  # the others are due all the same
                report("engine wheel", error)
