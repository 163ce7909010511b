"""The users who were blocked or removed, and so may not chat."""

from __future__ import annotations

from collections.abc import Collection

from broker.users.ports import EndedSubjectLog


class BlockedSubjects:
    """The subjects of the log, as last read.

    The log has the last day, which is as long as an unused chat session lasts at most.
    """

    def __init__(self, log: EndedSubjectLog) -> None:
        self._log = log
        self._number = 0
        self._subjects: Collection[str] = frozenset()

    def __contains__(self, subject: object) -> bool:
        return subject in self._subjects

    async def look(self) -> bool:
        """Read the log, and return whether it has changed. Raises Unavailable."""
        if (await self._log.after(self._number)).number == self._number:
            return False
        found = await self._log.after(0)
        self._number, self._subjects = found.number, frozenset(found.subjects)
        return True
