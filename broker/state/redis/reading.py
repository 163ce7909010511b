"""What is stored, read: it may be from another version of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


def sound(read: Callable[[bytes], T], stored: bytes | None) -> T | None:
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
