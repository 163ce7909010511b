"""Keeps the pools filled: the job that each instance runs, beside its requests.

Every few seconds, for each app whose codes come from a pool,

    every instance      retires the codes that it has seen leased often enough
    the duty's holder   says to the state what the records say, where it knows less or more
                        draws codes, before the pool runs dry
                        draws old ones anew, and removes the pictures of retired ones

and now and then, by one instance, the pools of removed apps are cleared: removed.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTask, report
from broker.pool.filler import failure_reason
from broker.pool.maintainer import PoolDependencies, PoolMaintainer
from broker.pool.metrics import POOL_EMPTY
from broker.pool.model import CodeKey
from broker.pool.removed import CLEAR_INTERVAL, RemovedPools
from broker.pool.retirement import retire_codes

POLL_INTERVAL = 2.0
"""Seconds between two looks."""


class PoolScheduler:
    """worn: codes that were leased often enough; what has retired
    is taken out.  missed: by app key, how many logins found its pool empty since they were
    counted here.  kept: keys of the settings' apps.  look: seconds between two looks.
    clear_interval: seconds between two cleanups of removed apps.
    """

    def __init__(
        self,
        *,
        apps: Apps,
        parts: PoolDependencies,
        worn: set[CodeKey],
        missed: Counter[str],
        kept: Collection[str] = (),
        look: float = POLL_INTERVAL,
        clear_interval: float = CLEAR_INTERVAL,
    ) -> None:
        self._apps = apps
        self._parts = parts
        self._worn = worn
        self._missed = missed
        self._look = look
        self._removed = RemovedPools(parts, kept, clear_interval)
        self._upkeeps: dict[str, PoolMaintainer] = {}

    async def run(self) -> None:
        """Keep the pools until cancelled, and leave the duties to others then."""
        clearing = BackgroundTask("pool clearing", self._removed.run)
        clearing.start()
        try:
            while True:
                await self._look_round()
                await asyncio.sleep(self._look)
        finally:
            await clearing.stop()
            upkeeps, self._upkeeps = self._upkeeps, {}
            await asyncio.gather(*(one.close() for one in upkeeps.values()))

    async def _look_round(self) -> None:
        apps = {app.key: app for app in self._apps.with_pool()}
        for gone in self._upkeeps.keys() - apps.keys():
            await self._upkeeps.pop(gone).close()
        for key in apps.keys() - self._upkeeps.keys():
            self._upkeeps[key] = PoolMaintainer(apps[key], self._parts)
        await asyncio.gather(*(self._look_at(app) for app in apps.values()))

    async def _look_at(self, app: App) -> None:
        """Retire what is worn, then look; whatever fails, the next look comes."""
        upkeep = self._upkeeps[app.key]
        worn = [one for one in self._worn if one.app == app.key]
        missed = self._missed.pop(app.key, 0)
        POOL_EMPTY.labels(app.id).inc(missed)
        try:
            if worn:
                parts = self._parts
                await retire_codes(app.key, worn, codes=parts.codes, withdraw=parts.leases.withdraw)
                self._worn.difference_update(worn)
            await upkeep.run_once(app, missed)
        except Unavailable as trouble:
            await upkeep.record_failure(failure_reason(trouble))
        except Exception as error:  # other pools are to be kept all the same
            report("pool keeper", error, app=app.id)
            await upkeep.record_failure("see the traceback")
