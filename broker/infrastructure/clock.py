"""Clocks and durations."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

CLOCK_ERROR = 0.1
"""Seconds by which the estimates of two instances of one Redis server's time may differ."""


def seconds_until(end: float, now: float) -> int:
    """Return the whole seconds from `now` to `end` for a response, rounded up and never negative.

    `end` may be from another instance. The clock error is not rounded up to another second.
    """
    return max(0, math.ceil(end - now - CLOCK_ERROR))


Clock = Callable[[], float]
"""Unix time in seconds."""


def _continuous_timer() -> Callable[[], float]:
    # Linux has CLOCK_BOOTTIME. CLOCK_MONOTONIC of macOS and `monotonic` of Windows count suspends.
    clock_id = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic if clock_id is None else partial(time.clock_gettime, clock_id)


CONTINUOUS_TIMER = _continuous_timer()
"""Monotonic time in seconds that also passes while the machine is suspended."""


class SteadyClock:
    """A clock that has this host's time at its creation, plus the time that has passed since.

    It does not follow the host's clock when that is set, so durations stay correct.

    timer: monotonic time in seconds.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._offset = time.time() - timer()

    def __call__(self) -> float:
        return self._timer() + self._offset
