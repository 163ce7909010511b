"""Recent outages of a server. Their duration is added to the lifetime of confirmed logins."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

GAPS_MAX = 8
"""Outages in memory, more than can occur in the lifetime of one login."""


class Gap(NamedTuple):
    """One outage, in Unix times of the server's clock."""

    begin: float
    end: float


class Downtime:
    """Records the times without a successful write probe.

    clock: the server's Unix time in seconds.
    shortest: minimum length of an outage in seconds.
    timer: monotonic time in seconds.
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
        self._last_write: float | None = None
        self._gaps: deque[Gap] = deque(maxlen=GAPS_MAX)

    def record_write(self) -> None:
        """Record that the server accepts writes now."""
        self._gaps.extend(self._present_gap())
        self._last_write = self._timer()

    def extended(self, begin: float, end: float) -> float:
        """Return `end` plus the server's downtime between `begin` and `end`."""
        for gap in (*self._gaps, *self._present_gap()):
            if gap.begin < end and gap.end > begin:
                end += gap.end - max(gap.begin, begin)
        return end

    def _present_gap(self) -> Iterator[Gap]:
        """Yield the outage that has not ended, if there is one."""
        if self._last_write is None:
            return
        length = self._timer() - self._last_write
        if length >= self._shortest:
            now = self._clock()
            yield Gap(now - length, now)
