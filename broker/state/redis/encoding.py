"""What is stored, read: it may be from another version of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


def decode_or_none(read: Callable[[bytes], T], stored: bytes | None) -> T | None:
    """What is stored, read; what cannot be read is as good as gone.

    It must not keep the others from being read.
    """
    if stored is None:
        return None
    try:
        return read(stored)
    except (ValueError, RecursionError) as error:
        log.warning("what is stored cannot be read", kind=type(error).__name__)
        return None


def to_milliseconds(seconds: float) -> int:
    return round(seconds * 1_000)


def ttl_milliseconds(seconds: float) -> int:
    """How long a key lives: Redis takes nothing less than a millisecond for it."""
    return max(1, to_milliseconds(seconds))
