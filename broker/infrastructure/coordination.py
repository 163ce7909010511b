"""What instances share: notices, the bus and leader leases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol


class Bus(Protocol):
    async def open(self) -> None:
        """Connect; where that fails, go on trying in the background."""

    async def publish(self, instance: str, notice: Notice) -> None:
        """Send `notice` to `instance` alone.  Nobody listening there is no failure.

        Raises Unavailable when it could not be sent.
        """

    def listen(self, instance: str) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Hear every notice sent to `instance` while inside the ``async with`` block, in order.

        Entering, and waiting for a notice, raises Unavailable once nothing can be
        heard any more: what was sent meanwhile is lost.
        """

    async def close(self) -> None:
        """Let go of every connection; listeners end."""


class Notice(NamedTuple):
    """ "Login X is now Y", said to the instance where its browser waits.

    event: the name that the browser hears, such as `login-confirmed`.
    """

    event: str
    id: str


class LeaderLeases(Protocol):
    """What one instance does for all, such as filling a pool.

    Spares work and guards nothing: an instance that stood still may go on for a moment
    while another has taken over.
    """

    async def acquire(self, duty: str, holder: str, *, seconds: float) -> bool:
        """Take the duty, or go on holding it, for so long from now; False while another does."""

    async def release(self, duty: str, holder: str) -> None:
        """Leave the duty to others, where it is this holder's."""
