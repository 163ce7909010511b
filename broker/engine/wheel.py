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

SLICE = 256
"""Sockets that are rung in one go: what else the loop has to do comes in between."""


class Timed(Protocol):
    slot: int
    """Where on the wheel; -1 is nowhere."""


T = TypeVar("T", bound=Timed)


class Wheel(Generic[T]):
    """tick: seconds.  horizon: the longest time, in seconds, that anybody is put off for.

    ring: called with each that is due, which is then off the wheel.
    """

    def __init__(self, *, tick: float, horizon: float, ring: Callable[[T], None]) -> None:
        self._tick = tick
        self._ring = ring
        self._slots: list[set[T]] = [set() for _ in range(math.ceil(horizon / tick) + 2)]
        self._at = 0
        self._next = 0.0
        self._turning: asyncio.TimerHandle | None = None

    def put(self, one: T, seconds: float) -> None:
        """Ring `one` in `seconds`, to the next tick; in place of when it was due till now."""
        self.drop(one)
        if self._turning is None:
            self._start()
        ahead = min(max(1, math.ceil(seconds / self._tick)), len(self._slots) - 1)
        one.slot = (self._at + ahead) % len(self._slots)
        self._slots[one.slot].add(one)

    def drop(self, one: T) -> None:
        if one.slot >= 0:
            self._slots[one.slot].discard(one)
            one.slot = -1

    def stop(self) -> None:
        if self._turning is not None:
            self._turning.cancel()
            self._turning = None

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.time() + self._tick
        self._turning = loop.call_at(self._next, self._turn)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        self._at = (self._at + 1) % len(self._slots)
        due, self._slots[self._at] = self._slots[self._at], set()
        for one in due:
            one.slot = -1
        self._next += self._tick  # not from now: a late turn must not put all others off
        self._turning = loop.call_at(self._next, self._turn)
        self._ring_some(list(due))

    def _ring_some(self, due: list[T]) -> None:
        for one in due[:SLICE]:
            if one.slot < 0:  # or it was put elsewhere, or closed, meanwhile
                self._ring(one)
        if len(due) > SLICE:
            asyncio.get_running_loop().call_soon(self._ring_some, due[SLICE:])
