"""A circuit breaker: it stops requests to a server that keeps failing.

closed ──FAILURE_THRESHOLD consecutive failures──▶ open ──RESET_TIMEOUT──▶ one request at a time
   ▲                                                ▲                           │
   └───────SUCCESS_THRESHOLD consecutive successes──┼──────────success──────────┤
                                                    └──────────failure──────────┘
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

FAILURE_THRESHOLD = 5
"""Consecutive failures that open the breaker, more than the retries of one request."""

SUCCESS_THRESHOLD = 3
"""Consecutive successes that close the breaker. More than one, so that the failures of a server
that answers only some requests are one outage."""

RESET_TIMEOUT = 5.0
"""Seconds without a request after the breaker opens."""


class CircuitBreaker:
    """Decides whether to send a request. The caller reports the outcome.

    clock: monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing: set[Hashable] = set()
        self._successes = SUCCESS_THRESHOLD
        self._is_open = False
        self._next_request_at = 0.0

    def allows_request(self) -> bool:
        """Return whether to send a request now.

        An open breaker allows one request per `RESET_TIMEOUT`.
        """
        if not self._is_open:
            return True
        now = self._clock()
        if now < self._next_request_at:
            return False
        self._next_request_at = now + RESET_TIMEOUT
        return True

    @property
    def is_waiting(self) -> bool:
        """Whether the breaker allows no request now."""
        return self._is_open and self._clock() < self._next_request_at

    @property
    def is_steady(self) -> bool:
        """Whether the last `SUCCESS_THRESHOLD` requests succeeded, which ends an outage."""
        return self._successes >= SUCCESS_THRESHOLD

    def record_success(self) -> bool:
        """Count a success. Return whether it closes the breaker."""
        self._failing.clear()
        self._successes += 1
        if not self._is_open:
            return False
        self._next_request_at = self._clock()
        self._is_open = not self.is_steady
        return not self._is_open

    def record_failure(self, caller: Hashable = None) -> bool:
        """Count a failure. Return whether it opens the breaker.

        caller: consecutive failures count once for each caller, so that one caller alone does
        not open the breaker for all. Without a caller, each failure counts.
        """
        self._successes = 0
        self._next_request_at = self._clock() + RESET_TIMEOUT
        if self._is_open:
            return False
        self._failing.add(object() if caller is None else caller)
        self._is_open = len(self._failing) >= FAILURE_THRESHOLD
        return self._is_open
