"""Deletes the pools of removed apps: their codes, their pictures, their entries in the state."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog

from broker.apps.rules import LIFETIME_MAX
from broker.errors import Unavailable, failure_reason
from broker.pool.dependencies import CLOCK_SKEW_OVERLAP, PoolDependencies
from broker.pool.retirement import delete_retired_pictures

log = structlog.get_logger()

REMOVED_APPS_INTERVAL = 600.0
"""Seconds between two searches for removed apps."""

LEADER_LEASE = "pool-removed"


class PoolCleaner:
    """Deletes the pools of removed apps periodically, on one instance at a time.

    settings_apps: keys of the apps that are defined in the settings.
    interval: seconds between two runs.
    """

    def __init__(
        self, dependencies: PoolDependencies, settings_apps: Collection[str], interval: float
    ) -> None:
        self._dependencies = dependencies
        self._settings_apps = settings_apps
        self._interval = interval

    async def run(self) -> None:
        """Clean periodically until cancelled; after a failure, try again at the next interval."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._clean_all()
            except Unavailable as error:
                log.warning("removed pool cleanup failed", reason=failure_reason(error))

    async def _clean_all(self) -> None:
        dependencies = self._dependencies
        seconds = 2 * self._interval
        if await dependencies.leader_leases.acquire(
            LEADER_LEASE, dependencies.instance, seconds=seconds
        ):
            for app in await dependencies.codes.removed_apps(self._settings_apps):
                await self._clean(app)

    async def _clean(self, app: str) -> None:
        """Retire the codes at once, and delete them when no login shows their pictures.

        The rows are deleted last: they mark pools that are not deleted yet.
        """
        dependencies = self._dependencies
        await dependencies.codes.retire_all(app)
        lifetime = max(LIFETIME_MAX, dependencies.limits.login_lifetime)
        before = dependencies.clock() - (
            lifetime + dependencies.limits.retention + CLOCK_SKEW_OVERLAP
        )
        await delete_retired_pictures(
            app, codes=dependencies.codes, pictures=dependencies.pictures, before=before
        )
        if not await dependencies.codes.has_pictures(app):
            await dependencies.leases.forget(app)
            await dependencies.codes.forget(app)
