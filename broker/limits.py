"""Limits per client: events in a window of time, and calls at once.

Both are local to this process, and take bounded memory.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import sys
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from functools import lru_cache

CAPACITY = 50_000
"""Keys that one limit counts: about 15 MB."""

DROPS = 8
"""Ended windows that are dropped at most when one starts: no request pays for a whole flood."""


class RateLimit:
    """Allows `limit` events per key within a window of `seconds`.

    A window starts with the first event of its key.  A flood of keys takes bounded memory:
    past `capacity` keys the oldest window is dropped.

    clock: seconds from any start; it must never go back, as `time.monotonic` never does.
    """

    def __init__(
        self,
        limit: int,
        seconds: float,
        *,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._capacity = capacity
        self._clock = clock
        # By start, and so by end: all windows have the same length.
        self._windows: dict[Hashable, tuple[int, float]] = {}

    def __len__(self) -> int:
        """Windows in memory, including ended ones that are not dropped yet."""
        return len(self._windows)

    def hit(self, key: Hashable) -> bool:
        """Count an event.  Return whether it is within the limit."""
        now = self._clock()
        count, end = self._windows.get(key, (0, now))
        if end <= now:
            count, end = 0, self._start(key, now)
        self._windows[key] = (count + 1, end)
        return count < self._limit

    def has_hits(self, key: Hashable) -> bool:
        """Return whether the present window of `key` has an event."""
        count, end = self._windows.get(key, (0, 0.0))
        return count > 0 and end > self._clock()

    def take_back(self, key: Hashable) -> None:
        """Uncount one event of the present window."""
        count, end = self._windows.get(key, (0, 0.0))
        if count:
            self._windows[key] = (count - 1, end)

    def retry_after(self, key: Hashable) -> int:
        """Return whole seconds until the window of `key` ends, at least 1."""
        _, end = self._windows.get(key, (0, 0.0))
        return max(1, math.ceil(end - self._clock()))

    def _start(self, key: Hashable, now: float) -> float:
        """Make room for a window that starts now, and return its end."""
        self._windows.pop(key, None)
        for _ in range(DROPS):
            oldest = next(iter(self._windows), None)
            if oldest is None or self._windows[oldest][1] > now:
                break
            del self._windows[oldest]
        if len(self._windows) >= self._capacity:
            del self._windows[next(iter(self._windows))]
        return now + self._seconds


class FairQueue:
    """Lets some calls run at once, and of these only a share for one key; others wait in turn.

    A key that makes many calls waits for itself: at most `share` of its calls are in the
    queue of all keys.

    share: calls at once for one key.  total: for all keys; without a limit if None.
    wait: seconds that a call may wait for its turn.
    """

    def __init__(self, *, share: int, total: int | None = None, wait: float) -> None:
        self._share = share
        self._total = asyncio.Semaphore(total or sys.maxsize)
        self._wait = wait
        self._keys: dict[Hashable, tuple[asyncio.Semaphore, int]] = {}

    def __len__(self) -> int:
        """Keys that have calls now."""
        return len(self._keys)

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for a turn of `key`, which lasts as long as the context.

        Raises TimeoutError when there is none within `wait`.
        """
        async with (
            self._own(key) as own,
            asyncio.timeout(self._wait) as limit,
            own,
            self._total,
        ):
            limit.reschedule(None)
            yield

    @asynccontextmanager
    async def _own(self, key: Hashable) -> AsyncIterator[asyncio.Semaphore]:
        """The key's own semaphore, which is forgotten with its last call."""
        own, calls = self._keys.get(key) or (asyncio.Semaphore(self._share), 0)
        self._keys[key] = (own, calls + 1)
        try:
            yield own
        finally:
            _, calls = self._keys.pop(key)
            if calls > 1:
                self._keys[key] = (own, calls - 1)


@lru_cache(maxsize=4_096)
def rate_limit_key(address: str) -> str:
    """Return what is counted as one client: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped:  # of an IPv4 client at a socket for both
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
