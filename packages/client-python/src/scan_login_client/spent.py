"""The tokens that have been used. Each one works once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from scan_login_client.errors import SpentToken
from scan_login_client.tokens import Claims

MARGIN = 180.0
"""Seconds that a token is remembered after its expiry, which is more than any leeway."""

Store = Callable[[str, int], bool]
"""Stores a `jti` for a number of seconds. Returns whether it is new."""


class SpentTokens:
    """Accepts each token once.

    store: keeps the `jti` in your own database or cache, atomically. By default they are in the
        memory of this process, which is enough for a site with one process.
    clock: Unix time in seconds.
    """

    def __init__(
        self, store: Store | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._store = store or _Memory(clock).add

    def spend(self, claims: Claims) -> None:
        """Mark a verified token as used. Raises SpentToken if it has been used before."""
        seconds = math.ceil(claims.exp + MARGIN - self._clock())
        if not self._store(claims.jti, seconds):
            raise SpentToken("the token has been used before")


class _Memory:
    """A store in memory. Threads may share it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ends: dict[str, float] = {}

    def add(self, jti: str, seconds: int) -> bool:
        now = self._clock()
        with self._lock:
            self._remove_expired(now)
            is_new = jti not in self._ends
            self._ends.setdefault(jti, now + seconds)
            return is_new

    def _remove_expired(self, now: float) -> None:
        """Remove from the front: tokens of one broker expire in about the order of their use."""
        while self._ends:
            oldest = next(iter(self._ends))
            if self._ends[oldest] > now:
                return
            del self._ends[oldest]
