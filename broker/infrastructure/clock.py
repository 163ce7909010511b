"""Clocks and durations."""

from __future__ import annotations

import math
from collections.abc import Callable

CLOCK_ERROR = 0.1
"""Seconds by which the estimates of two instances of one Redis server's time may differ."""


def seconds_until(end: float, now: float) -> int:
    """Return the whole seconds from `now` to `end` for a response, rounded up and never negative.

    `end` may be from another instance. The clock error is not rounded up to another second.
    """
    return max(0, math.ceil(end - now - CLOCK_ERROR))


Clock = Callable[[], float]
"""Unix time in seconds."""
