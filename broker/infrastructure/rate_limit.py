"""Counts events per key in a time window, in this process, with bounded memory."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable, Hashable
from functools import lru_cache

CAPACITY = 50_000
"""Keys of one limit: about 15 MB."""

DROPS = 8
"""Ended windows that the start of a window drops at most, so that no request waits for more."""


class RateLimit:
    """Allows `limit` events per key within a window of `seconds`.

    A window starts with the first event of its key. The limit counts at most `capacity` keys,
    and drops the oldest window for a further one.

    clock: seconds. It must never go back, as `time.monotonic` never does.
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
        # In the order of their start, and so of their end: all windows have the same length.
        self._windows: dict[Hashable, tuple[int, float]] = {}

    def __len__(self) -> int:
        """Windows in memory, including ended windows that are not dropped yet."""
        return len(self._windows)

    def hit(self, key: Hashable) -> bool:
        """Count an event. Return whether it is within the limit."""
        now = self._clock()
        count, end = self._windows.get(key, (0, now))
        if end <= now:
            count, end = 0, self._start(key, now)
        self._windows[key] = (count + 1, end)
        return count < self._limit

    def has_hits(self, key: Hashable) -> bool:
        """Return whether the current window of `key` has an event."""
        count, end = self._windows.get(key, (0, 0.0))
        return count > 0 and end > self._clock()

    def is_used_up(self, key: Hashable) -> bool:
        """Return whether a further event of `key` would be over the limit. It is not counted."""
        count, end = self._windows.get(key, (0, 0.0))
        return count >= self._limit and end > self._clock()

    def take_back(self, key: Hashable) -> None:
        """Remove one event from the current window."""
        count, end = self._windows.get(key, (0, 0.0))
        if count:
            self._windows[key] = (count - 1, end)

    def retry_after(self, key: Hashable) -> int:
        """Return whole seconds until the window of `key` ends, at least 1."""
        _, end = self._windows.get(key, (0, 0.0))
        return max(1, math.ceil(end - self._clock()))

    def _start(self, key: Hashable, now: float) -> float:
        """Drop ended windows, and return the end of a window that starts now."""
        self._windows.pop(key, None)
        for _ in range(DROPS):
            oldest = next(iter(self._windows), None)
            if oldest is None or self._windows[oldest][1] > now:
                break
            del self._windows[oldest]
        if len(self._windows) >= self._capacity:
            del self._windows[next(iter(self._windows))]
        return now + self._seconds


def rate_limit_key(address: str) -> str:
    """Return what is counted as one client: an IPv4 address, or the /64 of an IPv6 address."""
    return network_key(address, 64)


@lru_cache(maxsize=4_096)
def network_key(address: str, prefix: int) -> str:
    """Return an IPv4 address or other text itself, and the network of an IPv6 address.

    prefix: bits of the IPv6 network.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped:  # of an IPv4 client at a socket for both
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), prefix), strict=False))
