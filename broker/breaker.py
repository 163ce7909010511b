"""Leaves a server of others alone for a while once it has failed several times in a row.

closed ──TRIPS failures in a row──▶ open ──PAUSE──▶ one request ──good──▶ closed
                                      ▲───────────────────bad─────┘
"""

from __future__ import annotations

import time
from collections.abc import Callable

TRIPS = 5
"""More than the repeats of a single request."""

PAUSE = 5.0
"""Seconds that nothing is asked."""


class Breaker:
    """clock: seconds, from any beginning."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._tries_at = 0.0

    def lets_pass(self) -> bool:
        """Whether to ask now.  The one request that tries after a pause keeps others waiting."""
        if self._failures < TRIPS:
            return True
        now = self._clock()
        if now < self._tries_at:
            return False
        self._tries_at = now + PAUSE
        return True

    def good(self) -> None:
        self._failures = 0

    def bad(self) -> bool:
        """Whether this failure is the one that opens it."""
        self._failures += 1
        self._tries_at = self._clock() + PAUSE
        return self._failures == TRIPS
