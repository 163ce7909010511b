"""Deletes files that have expired, stored files without a record, and unfinished files."""

from __future__ import annotations

import asyncio

import structlog

from broker.errors import Unavailable
from broker.files.errors import FilesUnavailable
from broker.files.ports import FileCleanup, FileRecords, FileStore
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import LeaderLeases

log = structlog.get_logger()

JOB = "file cleanup"

INTERVAL = 3_600.0
"""Seconds between two runs."""

UNKNOWN_AGE = 3_600.0
"""Seconds after which a stored file must be finished and have a record."""

BATCH = 500


class FileCleaner:
    """Runs on one instance at a time.

    instance: the name of this process.
    interval: seconds between two runs.
    """

    def __init__(
        self,
        *,
        store: FileStore,
        records: FileRecords,
        cleanup: FileCleanup,
        leader_leases: LeaderLeases,
        clock: Clock,
        instance: str,
        interval: float = INTERVAL,
    ) -> None:
        self._store = store
        self._records = records
        self._cleanup = cleanup
        self._leader_leases = leader_leases
        self._clock = clock
        self._instance = instance
        self._interval = interval

    async def run(self) -> None:
        """Clean periodically until cancelled; after a failure, try again at the next interval."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                if await self._leader_leases.acquire(
                    JOB, self._instance, seconds=2 * self._interval
                ):
                    await self.run_once()
            except FilesUnavailable as error:
                log.warning("file cleanup failed", reason=error.reason)
            except Unavailable:
                log.warning("file cleanup failed", reason="state or records unavailable")

    async def run_once(self) -> None:
        """Delete everything that has ended. Raises Unavailable."""
        await self._delete_expired()
        await self._delete_unknown()

    async def _delete_expired(self) -> None:
        """Delete the content first: the record finds it again after a failure."""
        while batch := await self._cleanup.expired(now=self._clock(), limit=BATCH):
            for file in batch:
                if file.key:
                    await self._store.delete(file.key)
                await self._records.remove(file.id)

    async def _delete_unknown(self) -> None:
        before = self._clock() - UNKNOWN_AGE
        async for keys in self._store.keys_before(before):
            for key in await self._cleanup.unknown_keys(keys):
                await self._store.delete(key)
        await self._store.delete_unfinished(before)
