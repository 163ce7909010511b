"""Decides which instances have ended, from the profiles that the monitor reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from broker.monitoring.ports import INSTANCE_TTL

GONE_AFTER = 30.0
"""Seconds after its last profile at which an instance counts as ended."""

UNSEEN_MAX = GONE_AFTER - INSTANCE_TTL
"""A profile is seen until it expires."""

GAP_MAX = 10.0
"""Seconds between two observations above which the earlier ones do not count: this process was
paused, or the state was unavailable and has lost every profile."""


class InstanceWatch:
    """The instances that share the state, as this one has seen them. An `InstanceRegistry`.

    instance: this process's name.
    clock: monotonic time in seconds.
    """

    def __init__(self, instance: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._instance = instance
        self._clock = clock
        self._seen_at: dict[str, float] = {}
        self._began_at = self._last_at = clock()

    def observe(self, others: Collection[str]) -> None:
        """Record that these other instances run now."""
        now = self._clock()
        if now - self._last_at > GAP_MAX:
            self._began_at = now
        self._last_at = now
        self._seen_at.update(dict.fromkeys(others, now))
        self._seen_at = {
            name: seen_at for name, seen_at in self._seen_at.items() if now - seen_at < UNSEEN_MAX
        }

    def ended(self, instances: Collection[str]) -> Collection[str]:
        now = self._clock()
        if now - self._last_at > GAP_MAX or now - self._began_at < UNSEEN_MAX:
            return ()
        return {*instances} - {*self._seen_at, self._instance}
