"""Signals that end a process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

SHUTDOWN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A terminal that closes sends SIGHUP."""


def on_shutdown_signal(callback: Callable[[signal.Signals], None]) -> None:
    """Call `callback` for each of `SHUTDOWN_SIGNALS`.

    A SIGHUP that is ignored stays ignored, because nohup ignores it on purpose. An ignored SIGINT
    does not, because shells ignore it for each background process.
    """
    loop = asyncio.get_running_loop()
    for number in SHUTDOWN_SIGNALS:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, callback, number)
