"""A circuit breaker: sends no requests to a server that keeps failing.

closed ──TRIPS failures in a row──▶ open ──PAUSE──▶ one request at a time
   ▲                                 ▲                       │
   └──────CLOSES successes in a row──┼──────────success──────┤
                                     └──────────failure──────┘
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

FAILURE_THRESHOLD = 5
"""More than the repeats of a single request."""

CLOSES = 3
"""More than one, so that a server that answers only some requests stays in one outage."""

RESET_TIMEOUT = 5.0
"""Seconds without a request."""


class CircuitBreaker:
    """clock: seconds from any start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing: set[Hashable] = set()
        self._successes = CLOSES
        self._is_open = False
        self._tries_at = 0.0

    def allows_request(self) -> bool:
        """Whether to send a request now.  While open, one trial request per `RESET_TIMEOUT`."""
        if not self._is_open:
            return True
        now = self._clock()
        if now < self._tries_at:
            return False
        self._tries_at = now + RESET_TIMEOUT
        return True

    @property
    def is_steady(self) -> bool:
        """Whether the last `CLOSES` requests succeeded: an outage is over."""
        return self._successes >= CLOSES

    def record_success(self) -> bool:
        """Count a success.  Return whether it closes the breaker."""
        self._failing.clear()
        self._successes += 1
        if not self._is_open:
            return False
        self._tries_at = self._clock()
        self._is_open = not self.is_steady
        return not self._is_open

    def record_failure(self, caller: Hashable = None) -> bool:
        """Count a failure.  Return whether it opens the breaker.

        caller: who the request was for.  Failures in a row count once for each caller, so
        that one alone does not open the breaker for all.  Without one each failure counts.
        """
        self._successes = 0
        self._tries_at = self._clock() + RESET_TIMEOUT
        if self._is_open:
            return False
        self._failing.add(object() if caller is None else caller)
        self._is_open = len(self._failing) >= FAILURE_THRESHOLD
        return self._is_open
