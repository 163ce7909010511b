"""Fills that operators have requested, in addition to those of the scheduler."""

from __future__ import annotations

import structlog

from broker.apps.model import App
from broker.errors import Unavailable, failure_reason
from broker.infrastructure.background import BackgroundTasks
from broker.pool.dependencies import PoolDependencies
from broker.pool.errors import FillRunning
from broker.pool.filler import PoolFiller
from broker.pool.state_sync import offer_to_state

log = structlog.get_logger()

CLOSE_TIMEOUT = 2.0
"""Seconds for codes that are being drawn when the broker stops."""

ERROR_TTL = 600.0
"""Seconds for which a failure is reported. Another instance may refill the pool meanwhile."""


class RequestedFills:
    """Runs at most one fill for each app. Fillers of other instances may run at the same time."""

    def __init__(self, dependencies: PoolDependencies) -> None:
        self._dependencies = dependencies
        self._fillers: dict[str, PoolFiller] = {}
        self._errors: dict[str, tuple[float, str]] = {}  # the time and the reason
        self._tasks = BackgroundTasks()

    def error(self, app: App, refilled_at: float | None) -> str:
        """Return why the last fill of this instance failed; empty if it did not, or long ago.

        refilled_at: Unix time of the last refill, which ends the report of earlier failures.
        """
        failed_at, reason = self._errors.get(app.key, (0.0, ""))
        is_old = self._dependencies.clock() - failed_at > ERROR_TTL
        return "" if is_old or (refilled_at or 0.0) > failed_at else reason

    async def start(self, app: App, count: int) -> None:
        """Draw codes in the background until `count` are ready.

        Raises FillRunning, or Unavailable if the app has no provider now.
        """
        if app.key in self._fillers:
            raise FillRunning
        dependencies = self._dependencies
        filler = PoolFiller(
            provider=await dependencies.providers.get(app),
            codes=dependencies.codes,
            pictures=dependencies.pictures,
            app=app.key,
            count=count,
            per_minute=dependencies.limits.per_minute,
            offer=offer_to_state(dependencies.leases, app.key),
        )
        if app.key in self._fillers:  # another request, while the provider was opened
            raise FillRunning
        self._fillers[app.key] = filler
        self._errors.pop(app.key, None)
        self._tasks.spawn("requested fill", self._run(app, filler))

    async def close(self) -> None:
        for filler in self._fillers.values():
            filler.stop()
        await self._tasks.close(grace=CLOSE_TIMEOUT)

    async def _run(self, app: App, filler: PoolFiller) -> None:
        try:
            drawn = await filler.run()
        except Unavailable as error:
            self._errors[app.key] = self._dependencies.clock(), failure_reason(error)
            log.warning("requested fill failed", app=app.id, reason=failure_reason(error))
            self._dependencies.feed.publish("pool", "failed", app=app.id)
        else:
            log.info("requested fill finished", app=app.id, drawn=drawn)
            self._dependencies.feed.publish("pool", "refilled", app=app.id)
        finally:
            del self._fillers[app.key]
