"""How a process is told to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The last one comes from a terminal that closes."""


def heed(told: Callable[[signal.Signals], None]) -> None:
    """Have `told` called with each of `ENDS` that comes; SIGHUP not where nohup has it ignored.

    A shell has what it starts in the background ignore SIGINT, and that is to end it all the same.
    """
    loop = asyncio.get_running_loop()
    for number in ENDS:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, told, number)
