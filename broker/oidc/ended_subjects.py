"""Ends the sign-in sessions of users who were blocked or removed, by any process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from broker.errors import Unavailable
from broker.users.ports import EndedSubjectLog

RETRY_DELAY = 2.0
"""Seconds before the next look after a failed one."""


class EndedSubjectWatch:
    """Calls `end` for each subject of a blocked or removed user.

    Every instance does this, so `end` must accept repeats. A restart repeats the subjects of the
    last day who still may not log in. If `end` raises Unavailable, the next look repeats it.
    """

    def __init__(self, log: EndedSubjectLog, end: Callable[[str], Awaitable[object]]) -> None:
        self._log = log
        self._end = end
        self._number = 0

    async def run(self) -> None:
        """Look whenever users were blocked or removed, until cancelled."""
        while True:
            try:
                await self.look()
            except Unavailable:  # records and state log their own outages
                await asyncio.sleep(RETRY_DELAY)
            else:
                await self._log.wait(self._number)

    async def look(self) -> None:
        """End the subjects since the last look. Raises Unavailable."""
        ended = await self._log.after(self._number)
        for subject in ended.subjects:
            await self._end(subject)
        self._number = ended.number
