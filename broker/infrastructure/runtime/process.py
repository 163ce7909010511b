"""What a process is tuned to before it serves: its loop, its files, its memory."""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

try:
    from uvloop import new_event_loop
except ImportError:  # not on this platform
    from asyncio import new_event_loop  # type: ignore[assignment]


def run(main: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run` on the fastest loop that there is here."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


def raise_file_limit() -> int:
    """How many open files there may be, from now on all that the system lets us have.

    Every browser that waits is one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # macOS allows fewer than it says
        log.warning("the limit of open files stays", files=soft, reason=str(error))
        return soft
    return hard


def freeze_gc() -> None:
    """Take what was made at start out of the collector's sight: it lives as long as we do.

    A full collection would walk all of it, again and again, while browsers wait.
    """
    gc.collect()
    gc.freeze()
