"""Limits per client: events in a time window, and concurrent calls.

Both are local to this process, and use bounded memory.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Hashable
from functools import lru_cache

CAPACITY = 50_000
"""Keys that one limit counts: about 15 MB."""

DROPS = 8
"""Ended windows dropped at most when one starts: no request pays for a whole flood."""


class RateLimit:
    """Allows `limit` events per key within a window of `seconds`.

    A window starts with the first event of its key.  A flood of keys takes bounded memory:
    past `capacity` keys the oldest window is dropped.

    clock: seconds from any start; it must never go back, such as `time.monotonic`.
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
    """Limits concurrent calls in total and per key; further calls wait in turn.

    Keys take turns, so a key with many calls delays only itself.

    share: concurrent calls of one key.  total: of all keys; unlimited if None.
    wait: seconds that a call may wait for its turn.
    """

    def __init__(self, *, share: int, total: int | None = None, wait: float) -> None:
        self._share = share
        self._free = total or sys.maxsize
        self._wait = wait
        self._running: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """The key that is next comes first."""

    def __len__(self) -> int:
        """Keys that have calls now."""
        return len(self._running.keys() | self._waiting.keys())

    def turn(self, key: Hashable) -> Turn:
        """Return a context that holds a turn of `key`.

        Entering it waits for the turn, and raises TimeoutError after `wait` seconds.
        """
        return Turn(self, key)

    async def acquire(self, key: Hashable) -> None:
        if self._free and self._running.get(key, 0) < self._share:
            self._start(key)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            async with asyncio.timeout(self._wait):
                await turn
        except (TimeoutError, asyncio.CancelledError):
            self._leave(key, turn)
            raise

    def release(self, key: Hashable) -> None:
        running = self._running.pop(key) - 1
        if running:
            self._running[key] = running
        self._free += 1
        self._start_next()

    def _start(self, key: Hashable) -> None:
        self._running[key] = self._running.get(key, 0) + 1
        self._free -= 1

    def _start_next(self) -> None:
        for key, turns in self._waiting.items():  # keys with a full share are few
            turn = next((one for one in turns if not one.done()), None)  # or cancelled just now
            if turn is not None and self._running.get(key, 0) < self._share:
                self._drop(key, turn)
                if key in self._waiting:
                    self._waiting[key] = self._waiting.pop(key)  # behind the other keys
                self._start(key)
                turn.set_result(None)
                return

    def _drop(self, key: Hashable, turn: asyncio.Future[None]) -> None:
        self._waiting[key].remove(turn)
        if not self._waiting[key]:
            del self._waiting[key]

    def _leave(self, key: Hashable, turn: asyncio.Future[None]) -> None:
        """Cancel the wait, or release a turn that was granted meanwhile."""
        if turn.done() and not turn.cancelled():
            self.release(key)
            return
        self._drop(key, turn)


class Turn:
    """A turn of a key in a fair queue."""

    __slots__ = ("_key", "_queue")

    def __init__(self, queue: FairQueue, key: Hashable) -> None:
        self._queue = queue
        self._key = key

    async def __aenter__(self) -> None:
        await self._queue.acquire(self._key)

    async def __aexit__(self, *_: object) -> None:
        self._queue.release(self._key)


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
