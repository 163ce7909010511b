"""The time of a server, estimated from its replies."""

from __future__ import annotations

import time
from collections.abc import Sequence


class ServerClock:
    """A clock that is set by a server, so that all instances have the same time.

    It has this machine's time until it is set.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self._offset

    def set(self, reply: Sequence[bytes], asked_at: float) -> None:
        """Set the clock from a reply to TIME: seconds and microseconds.

        asked_at: monotonic time at which TIME was sent. The server is assumed to have read its
        clock halfway between that and now.
        """
        seconds, microseconds = (int(part) for part in reply)
        midway = (asked_at + time.monotonic()) / 2
        self._offset = seconds + microseconds / 1e6 - midway
