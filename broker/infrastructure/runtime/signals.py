"""How a process is told to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

SHUTDOWN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The last one comes from a terminal that closes."""


def on_shutdown_signal(callback: Callable[[signal.Signals], None]) -> None:
    """Call `callback` with each of `SHUTDOWN_SIGNALS`; SIGHUP only if nohup does not ignore it.

    A shell has what it starts in the background ignore SIGINT, and that is to end it all the same.
    """
    loop = asyncio.get_running_loop()
    for number in SHUTDOWN_SIGNALS:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, callback, number)
