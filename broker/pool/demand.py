"""Estimates how many codes a pool needs from the rate at which they are leased.

A code is in use for the lifetime of its login and the cooldown. By Little's law, the average
number of codes in use is the lease rate times this cycle. A reserve covers the logins that
begin while more codes are drawn:

    target = leases per second × (login lifetime + cooldown + RESERVE)

The rate is that of the last minute. It follows from the number of codes in use. As many codes
become free as were leased one cycle ago, so  leases = increase of codes in use + in use ÷ cycle.
"""

from __future__ import annotations

import math
from enum import StrEnum

from broker.pool.model import PoolLevel

RESERVE = 60.0
"""Seconds for which the free codes of a full pool last. This is longer than it takes to
notice a higher rate and to draw codes at the usual speed."""

LOW_THRESHOLD = 20.0
"""Seconds: a pool is low if its free codes last no longer."""

SMOOTHING_WINDOW = 60.0
"""Seconds over which the lease rate is averaged."""


class PoolHealth(StrEnum):
    """The health of a pool.

    A low or empty pool is healthy again once its codes last twice `LOW_THRESHOLD`.
    """

    HEALTHY = "healthy"
    LOW = "low"
    EMPTY = "empty"


class DemandEstimator:
    """Estimates the demand of one app. It reads no clock.

    lease_rate: leases per second.
    """

    def __init__(self) -> None:
        self.lease_rate = 0.0
        self.health = PoolHealth.HEALTHY
        self._in_use: int | None = None
        self._observed_at = 0.0
        self._excluded = 0
        self._excluded_until = 0.0

    def exclude_resting(self, count: int, *, until: float) -> None:
        """Ignore `count` codes in cooldown: they were added after a loss, not leased."""
        self._excluded = count
        self._excluded_until = until

    def observe(self, level: PoolLevel, *, missed: int, now: float, cycle: float) -> PoolHealth:
        """Update the lease rate and return the health of the pool.

        missed: leases that found no free code since the last call.
        cycle: seconds of a login lifetime and a cooldown.
        """
        if now >= self._excluded_until:
            self._excluded = 0
        in_use = max(0, level.leased + level.resting - self._excluded)
        if self._in_use is None:
            self.lease_rate = in_use / cycle
        elif (elapsed := now - self._observed_at) > 0:
            rate = (in_use - self._in_use + missed) / elapsed + in_use / cycle
            weight = -math.expm1(-elapsed / SMOOTHING_WINDOW)
            self.lease_rate += (max(0.0, rate) - self.lease_rate) * weight
        self._in_use, self._observed_at = in_use, now
        self.health = self._next_health(level.free)
        return self.health

    def target_size(self, *, min_size: int, max_size: int, cycle: float) -> int:
        """Return the number of codes that the pool should have."""
        return min(max_size, max(min_size, math.ceil(self.lease_rate * (cycle + RESERVE))))

    def _next_health(self, free: int) -> PoolHealth:
        if free == 0:
            return PoolHealth.EMPTY
        if free > 2 * LOW_THRESHOLD * self.lease_rate:
            return PoolHealth.HEALTHY
        if self.health is PoolHealth.HEALTHY and free <= LOW_THRESHOLD * self.lease_rate:
            return PoolHealth.LOW
        return self.health
