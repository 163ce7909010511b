"""Recent outages of the server, whose time is added to the lifetime of confirmed logins."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

GAPS_MAX = 8
"""Outages in memory; no login lives through more."""


class Gap(NamedTuple):
    """Unix times in seconds, by the server's clock."""

    begin: float
    end: float


class Downtime:
    """The times without an answered probe.

    clock: the server's Unix time in seconds.  shortest: minimum length of a gap in seconds.
    timer: seconds, from any beginning.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        shortest: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._shortest = shortest
        self._timer = timer
        self._worked_at: float | None = None
        self._gaps: deque[Gap] = deque(maxlen=GAPS_MAX)

    def works(self) -> None:
        """Record that the server accepts writes now."""
        self._gaps.extend(self._present_gap())
        self._worked_at = self._timer()

    def extended(self, begin: float, end: float) -> float:
        """Return `end` plus the server's downtime between `begin` and `end`."""
        for gap in (*self._gaps, *self._present_gap()):
            if gap.begin < end and gap.end > begin:
                end += gap.end - max(gap.begin, begin)
        return end

    def _present_gap(self) -> Iterator[Gap]:
        """The gap that has not ended, if there is one."""
        if self._worked_at is None:
            return
        length = self._timer() - self._worked_at
        if length >= self._shortest:
            now = self._clock()
            yield Gap(now - length, now)
