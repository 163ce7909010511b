"""Numbers new entries of the audit log. The instance with the leader lease does this for all."""

from __future__ import annotations

import asyncio

from broker.audit.ports import AuditExport
from broker.errors import Unavailable, failure_reason
from broker.infrastructure.coordination import LeaderLeases
from broker.infrastructure.observability.outage import OutageLog

JOB = "audit numbering"

LEASE_TTL = 20.0
"""Seconds of the leader lease: after a crash, another instance continues so much later."""

INTERVAL = 5.0
"""Seconds between two runs."""

BATCH = 500


class NumberingJob:
    """instance: the name of this process."""

    def __init__(self, *, export: AuditExport, leader_leases: LeaderLeases, instance: str) -> None:
        self._export = export
        self._leader_leases = leader_leases
        self._instance = instance
        self._outage = OutageLog("audit numbering failed", "audit numbering recovered")

    async def run(self) -> None:
        """Number entries until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.run_once()

    async def run_once(self) -> None:
        """Number all entries that have no number, if this instance has the leader lease.

        The begin and the end of an outage are logged.
        """
        try:
            while await self._acquire() and await self._export.number(BATCH) == BATCH:
                continue
        except Unavailable as error:
            self._outage.failed(failure_reason(error))
        else:
            self._outage.recovered()

    async def _acquire(self) -> bool:
        return await self._leader_leases.acquire(JOB, self._instance, seconds=LEASE_TTL)
