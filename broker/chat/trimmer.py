"""Deletes entries that are too old, also of rooms without members."""

from __future__ import annotations

import asyncio

from broker.chat.model import Retention
from broker.chat.ports import RoomStore
from broker.errors import Unavailable
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import LeaderLeases

JOB = "chat retention"

TRIM_INTERVAL = 60.0
"""Seconds between two deletions."""

LEASE_SECONDS = 90.0
"""Length of the lease, which each deletion renews."""


class Trimmer:
    """Runs at one instance at a time. instance: the name of this process."""

    def __init__(
        self,
        *,
        store: RoomStore,
        leases: LeaderLeases,
        retention: Retention,
        clock: Clock,
        instance: str,
    ) -> None:
        self._store = store
        self._leases = leases
        self._retention = retention
        self._clock = clock
        self._instance = instance

    async def run(self) -> None:
        """Delete old entries again and again, until cancelled."""
        while True:
            await asyncio.sleep(TRIM_INTERVAL)
            try:
                if await self._leases.acquire(JOB, self._instance, seconds=LEASE_SECONDS):
                    await self.trim()
            except Unavailable:
                continue  # the next round repeats it

    async def trim(self) -> None:
        """Delete all entries that are too old. Raises Unavailable."""
        while await self._store.trim(now=self._clock(), retention=self._retention):
            pass
