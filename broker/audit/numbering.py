"""Numbers new entries of the audit log. The instance with the leader lease does this for all."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from broker.audit.ports import AuditExport
from broker.errors import Unavailable
from broker.infrastructure.coordination import LeaderLeases

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

    async def run(self) -> None:
        """Number entries until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            with suppress(Unavailable):  # state and records log their outages
                if await self._leader_leases.acquire(JOB, self._instance, seconds=LEASE_TTL):
                    await self.run_once()

    async def run_once(self) -> None:
        """Number all entries that have no number. Raises Unavailable."""
        while await self._export.number(BATCH) == BATCH:
            continue
