"""Decoding of stored values, which another version of the broker may have written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


def decode_or_none(decode: Callable[[bytes], T], stored: bytes | None) -> T | None:
    """Return the decoded value, None if there is none or if it cannot be decoded.

    An invalid value is logged. It counts as missing, so that other values can still be read.
    """
    if stored is None:
        return None
    try:
        return decode(stored)
    except (ValueError, RecursionError) as error:
        log.warning("stored value is invalid", kind=type(error).__name__)
        return None


def to_milliseconds(seconds: float) -> int:
    return round(seconds * 1_000)


def ttl_milliseconds(seconds: float) -> int:
    """Return the TTL of a key in milliseconds. Redis accepts no TTL below 1 ms."""
    return max(1, to_milliseconds(seconds))
