"""The time of a server, estimated from its replies."""

from __future__ import annotations

from collections.abc import Sequence

from broker.infrastructure.clock import SteadyClock


class ServerClock(SteadyClock):
    """A clock that is set by a server, so that all instances have the same time.

    It has this machine's time until it is set.
    """

    def set(self, reply: Sequence[bytes], asked_at: float) -> None:
        """Set the clock from a reply to TIME: seconds and microseconds.

        asked_at: monotonic time at which TIME was sent. The server is assumed to have read its
        clock halfway between that and now.
        """
        seconds, microseconds = (int(part) for part in reply)
        midway = (asked_at + self._timer()) / 2
        self._offset = seconds + microseconds / 1e6 - midway
