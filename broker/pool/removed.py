"""Clears the pools of removed apps: their codes, pictures, and their entries in the state."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog

from broker.apps.rules import LIFETIME_MAX
from broker.errors import Unavailable
from broker.login.ports import LOGIN_RETENTION
from broker.pool.filler import failure_reason
from broker.pool.maintainer import CLOCK_SKEW_OVERLAP, PoolDependencies
from broker.pool.retirement import delete_retired_pictures

log = structlog.get_logger()

CLEAR_INTERVAL = 600.0

JOB = "pool-removed"


class RemovedPools:
    """kept: keys of apps that are not in the records.  interval: seconds between two runs."""

    def __init__(self, parts: PoolDependencies, kept: Collection[str], interval: float) -> None:
        self._parts = parts
        self._kept = kept
        self._interval = interval

    async def run(self) -> None:
        """Clear periodically until cancelled; after an outage, try again at the next interval."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._clear_all()
            except Unavailable as trouble:
                log.warning("removed pools not cleared", reason=failure_reason(trouble))

    async def _clear_all(self) -> None:
        parts = self._parts
        if await parts.duties.acquire(JOB, parts.instance, seconds=2 * self._interval):
            for key in await parts.codes.removed_apps(self._kept):
                await self._clear(key)

    async def _clear(self, key: str) -> None:
        """Retire the codes at once, and delete them when no login shows their pictures.

        The rows are deleted last: they mark pools that are not cleared yet.
        """
        parts = self._parts
        await parts.codes.retire_all(key)
        life = max(LIFETIME_MAX, parts.limits.login_lifetime)
        before = parts.clock() - (life + LOGIN_RETENTION + CLOCK_SKEW_OVERLAP)
        await delete_retired_pictures(
            key, codes=parts.codes, pictures=parts.pictures, before=before
        )
        if not await parts.codes.has_pictures(key):
            await parts.leases.forget(key)
            await parts.codes.forget(key)
