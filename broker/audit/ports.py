"""Storage protocols of the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.audit.model import AuditEntry, AuditQuery, ChainCheck, ExportedEntry


class AuditTrail(Protocol):
    """Records entries."""

    def add(self, entry: AuditEntry) -> None:
        """Queue an entry for writing. It does not wait and raises no error.

        Of entries with one id, one is stored. Entries that cannot be written are counted.
        """


class AuditExport(Protocol):
    """Numbers entries, and reads those that have a number. Methods raise Unavailable.

    Numbers follow the order of numbering, 1, 2, 3 and so on. An entry that is committed late gets a
    later number, so a reader that continues after the last number misses nothing.
    """

    async def number(self, limit: int) -> int:
        """Number at most `limit` entries, and return how many. Simultaneous calls take turns."""

    async def page(self, after: int, limit: int) -> Sequence[ExportedEntry]:
        """Return the entries after the number `after`, in order."""

    async def search(self, query: AuditQuery, limit: int) -> Sequence[ExportedEntry]:
        """Return the entries that match, the latest number first."""

    async def pushed(self) -> int:
        """Return the number of the last entry that was pushed; 0 before."""

    async def mark_pushed(self, seq: int) -> None:
        """Store that all entries up to `seq` were pushed. A smaller number changes nothing."""

    async def verify(self) -> ChainCheck:
        """Compare the stored entries with the hash chain."""
