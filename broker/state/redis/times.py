"""Times as Redis takes them, in whole milliseconds."""

from __future__ import annotations


def in_ms(seconds: float) -> int:
    return round(seconds * 1_000)


def life_ms(seconds: float) -> int:
    """How long a key lives: Redis takes nothing less than a millisecond for it."""
    return max(1, in_ms(seconds))
