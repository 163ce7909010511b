"""Settings of a process that serves: event loop, file limit, garbage collection."""

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
    """Run `main` on uvloop, or on asyncio's event loop where uvloop is not available."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


def raise_file_limit() -> int:
    """Raise the limit of open files to the hard limit, and return it.

    Each waiting browser is an open file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # macOS allows fewer than its hard limit
        log.warning("file limit not raised", files=soft, reason=str(error))
        return soft
    return hard


def freeze_gc() -> None:
    """Exclude all present objects from garbage collection. They live as long as the process.

    Otherwise each full collection would visit all of them.
    """
    gc.collect()
    gc.freeze()
