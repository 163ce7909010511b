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

from broker.state import Level

RESERVE = 60.0
"""Seconds for which the free codes of a full pool last: for longer than it takes to see
that they go faster, and to draw at the usual rate."""

LOW = 20.0
"""Seconds: a pool whose free codes last no longer is low."""

SMOOTHED = 60.0
"""Seconds over which the speed is taken."""


class Mood(StrEnum):
    """How a pool is.  One that was low or empty is well when its codes last twice `LOW`."""

    WELL = "well"
    LOW = "low"
    EMPTY = "empty"


class Demand:
    """Of one app.  It reads no clock.  speed: leases a second."""

    def __init__(self) -> None:
        self.speed = 0.0
        self.mood = Mood.WELL
        self._away: int | None = None
        self._seen_at = 0.0
        self._idle = 0
        self._idle_until = 0.0

    def rests(self, count: int, *, until: float) -> None:
        """So many codes rest that were not leased: the state did not know them."""
        self._idle = count
        self._idle_until = until

    def see(self, level: Level, *, missed: int, now: float, stay: float) -> Mood:
        """Take in how full the pool is.

        missed: how many leases found it empty.  stay: seconds that a lease and its rest take.
        """
        if now >= self._idle_until:
            self._idle = 0
        away = max(0, level.leased + level.resting - self._idle)
        if self._away is None:
            self.speed = away / stay
        elif (passed := now - self._seen_at) > 0:
            leases = (away - self._away + missed) / passed + away / stay
            self.speed += (max(0.0, leases) - self.speed) * -math.expm1(-passed / SMOOTHED)
        self._away, self._seen_at = away, now
        self.mood = self._mood(level.free)
        return self.mood

    def wanted(self, *, least: int, most: int, stay: float) -> int:
        """How many codes the pool is to have."""
        return min(most, max(least, math.ceil(self.speed * (stay + RESERVE))))

    def _mood(self, free: int) -> Mood:
        if free == 0:
            return Mood.EMPTY
        if free > 2 * LOW * self.speed:
            return Mood.WELL
        if self.mood is Mood.WELL and free <= LOW * self.speed:
            return Mood.LOW
        return self.mood
