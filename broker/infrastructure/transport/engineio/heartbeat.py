"""Timing of pings."""

from __future__ import annotations

JOIN_TIMEOUT = 5.0
"""Seconds in which a socket must have joined a namespace, and a probe must be over."""

TICKS_PER_PING = 25
"""Of the wheel, between two pings."""
