"""How many codes a pool wants, by how fast they are leased.

A leased number is away for as long as its login lives, and while it rests.  By Little's
law so many are away, on average, as are leased in that time; a reserve is there for what
comes while more are drawn:

    wanted = leases a second × (life + rest + RESERVE)

The speed is that of the last minute, as the numbers that are away tell it: as many come
back as were leased one stay ago, so  leases = more away than before + away ÷ stay.
"""

from __future__ import annotations

import math
from enum import StrEnum

from broker.pool.model import PoolLevel

RESERVE = 60.0
"""Seconds for which the free codes of a full pool last: for longer than it takes to see
that they go faster, and to draw at the usual rate."""

LOW_THRESHOLD = 20.0
"""Seconds: a pool whose free codes last no longer is low."""

SMOOTHING_WINDOW = 60.0
"""Seconds over which the speed is taken."""


class PoolHealth(StrEnum):
    """How a pool is.  One that was low or empty is well when its codes last twice
    `LOW_THRESHOLD`.
    """

    WELL = "well"
    LOW = "low"
    EMPTY = "empty"


class DemandEstimator:
    """Of one app.  It reads no clock.  speed: leases a second."""

    def __init__(self) -> None:
        self.lease_rate = 0.0
        self.health = PoolHealth.WELL
        self._away: int | None = None
        self._seen_at = 0.0
        self._idle = 0
        self._idle_until = 0.0

    def exclude_resting(self, count: int, *, until: float) -> None:
        """So many codes rest that were not leased: the state did not know them."""
        self._idle = count
        self._idle_until = until

    def observe(self, level: PoolLevel, *, missed: int, now: float, stay: float) -> PoolHealth:
        """Take in how full the pool is.

        missed: how many leases found it empty.  stay: seconds that a lease and its rest take.
        """
        if now >= self._idle_until:
            self._idle = 0
        away = max(0, level.leased + level.resting - self._idle)
        if self._away is None:
            self.lease_rate = away / stay
        elif (passed := now - self._seen_at) > 0:
            leases = (away - self._away + missed) / passed + away / stay
            self.lease_rate += (max(0.0, leases) - self.lease_rate) * -math.expm1(
                -passed / SMOOTHING_WINDOW
            )
        self._away, self._seen_at = away, now
        self.health = self._mood(level.free)
        return self.health

    def target_size(self, *, least: int, most: int, stay: float) -> int:
        """How many codes the pool is to have."""
        return min(most, max(least, math.ceil(self.lease_rate * (stay + RESERVE))))

    def _mood(self, free: int) -> PoolHealth:
        if free == 0:
            return PoolHealth.EMPTY
        if free > 2 * LOW_THRESHOLD * self.lease_rate:
            return PoolHealth.WELL
        if self.health is PoolHealth.WELL and free <= LOW_THRESHOLD * self.lease_rate:
            return PoolHealth.LOW
        return self.health
