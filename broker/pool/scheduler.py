"""Maintains all pools in the background; every instance runs it.

Every few seconds, for each app whose codes come from a pool,

    every instance   retires the codes that it has leased often enough
    the leader       updates the state from the records
                     draws codes before the pool is empty
                     replaces old codes, and deletes the pictures of retired ones

At longer intervals, one instance deletes the pools of removed apps, see cleaner.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import Unavailable, failure_reason
from broker.infrastructure.background import BackgroundTask, report
from broker.pool.cleaner import REMOVED_APPS_INTERVAL, PoolCleaner
from broker.pool.dependencies import PoolDependencies
from broker.pool.maintainer import PoolMaintainer
from broker.pool.metrics import POOL_EMPTY
from broker.pool.model import CodeKey, PoolReport
from broker.pool.retirement import retire_codes

POLL_INTERVAL = 2.0


class PoolScheduler:
    """Runs a PoolMaintainer for each app with a pool, and one PoolCleaner.

    codes_to_retire, missed_leases: those of the CodePool; handled entries are removed.
    settings_apps: keys of the apps that are defined in the settings.
    poll_interval: seconds between two rounds over all apps.
    removed_apps_interval: seconds between two searches for removed apps.
    """

    def __init__(
        self,
        *,
        apps: Apps,
        dependencies: PoolDependencies,
        codes_to_retire: set[CodeKey],
        missed_leases: Counter[str],
        settings_apps: Collection[str] = (),
        poll_interval: float = POLL_INTERVAL,
        removed_apps_interval: float = REMOVED_APPS_INTERVAL,
    ) -> None:
        self._apps = apps
        self._dependencies = dependencies
        self._codes_to_retire = codes_to_retire
        self._missed_leases = missed_leases
        self._poll_interval = poll_interval
        self._cleaner = PoolCleaner(dependencies, settings_apps, removed_apps_interval)
        self._maintainers: dict[str, PoolMaintainer] = {}

    async def run(self) -> None:
        """Maintain the pools until cancelled, then release the leader leases."""
        cleaning = BackgroundTask("pool cleaner", self._cleaner.run)
        cleaning.start()
        try:
            while True:
                await self._maintain_all()
                await asyncio.sleep(self._poll_interval)
        finally:
            await cleaning.stop()
            maintainers, self._maintainers = self._maintainers, {}
            await asyncio.gather(*(maintainer.close() for maintainer in maintainers.values()))

    def reports(self) -> Mapping[str, PoolReport]:
        """Return a report about each pool, by the app's key."""
        return {key: maintainer.report() for key, maintainer in self._maintainers.items()}

    async def _maintain_all(self) -> None:
        apps = {app.key: app for app in self._apps.with_pool()}
        for key in self._maintainers.keys() - apps.keys():
            await self._maintainers.pop(key).close()
        for key in apps.keys() - self._maintainers.keys():
            self._maintainers[key] = PoolMaintainer(apps[key], self._dependencies)
        await asyncio.gather(*(self._maintain(app) for app in apps.values()))

    async def _maintain(self, app: App) -> None:
        """Maintain the pool of one app. A failure does not affect the other pools."""
        maintainer = self._maintainers[app.key]
        missed = self._missed_leases.pop(app.key, 0)
        POOL_EMPTY.labels(app.id).inc(missed)
        try:
            await self._retire_used(app.key)
            await maintainer.run_once(app, missed)
        except Unavailable as error:
            await maintainer.record_failure(failure_reason(error))
        except Exception as error:
            report("pool scheduler", error, app=app.id)
            await maintainer.record_failure("see the traceback")

    async def _retire_used(self, app: str) -> None:
        used = [code for code in self._codes_to_retire if code.app == app]
        if used:
            dependencies = self._dependencies
            await retire_codes(
                app, used, codes=dependencies.codes, withdraw=dependencies.leases.withdraw
            )
            self._codes_to_retire.difference_update(used)
