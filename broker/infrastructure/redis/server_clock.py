"""The server's time, estimated from its replies."""

from __future__ import annotations

import time
from collections.abc import Sequence


class ServerClock:
    """A clock that a server sets.  Until it has, it is this machine's own.

    Instances whose own clocks differ by minutes agree on when a login ends.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self._offset

    def set(self, reply: Sequence[bytes], asked_at: float) -> None:
        """Go by a reply to TIME (seconds, microseconds) to what was asked at monotonic time."""
        seconds, microseconds = (int(part) for part in reply)
        midway = (asked_at + time.monotonic()) / 2
        self._offset = seconds + microseconds / 1e6 - midway
