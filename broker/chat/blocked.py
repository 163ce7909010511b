"""The users who were blocked or removed, and so may not chat."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress

from broker.infrastructure.clock import Clock
from broker.users.ports import EndedSubjectLog

REREAD_INTERVAL = 60.0
"""Seconds after which the log is read again without a new entry: a user may be unblocked."""

REREAD_DELAY = 1.0
"""Seconds before the next look, if a timer has fired before the clock of the state."""


class BlockedSubjects:
    """The subjects of the log, as last read.

    The log has the last day, which is as long as an unused chat session lasts at most.
    """

    def __init__(self, log: EndedSubjectLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._number = 0
        self._read_at = 0.0
        self._subjects: Collection[str] = frozenset()

    def __contains__(self, subject: object) -> bool:
        return subject in self._subjects

    async def look(self) -> bool:
        """Read the log, and return whether it may have changed. Raises Unavailable."""
        now = self._clock()
        is_new = (await self._log.after(self._number)).number != self._number
        if not is_new and 0 <= now - self._read_at < REREAD_INTERVAL:
            return False
        found = await self._log.after(0)
        self._number, self._subjects = found.number, frozenset(found.subjects)
        self._read_at = now
        return True

    async def wait(self) -> None:
        """Wait until the log may have changed, or must be read again."""
        remaining = self._read_at + REREAD_INTERVAL - self._clock()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(remaining, REREAD_DELAY), REREAD_INTERVAL)):
                await self._log.wait(self._number)
