"""Maintains the pool of one app: updates the state from the records, draws and replaces codes.

Each step may be repeated. The instance that does the work may therefore stop or lose its
connection at any point, and another instance continues.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial

import structlog

from broker.apps.model import App
from broker.errors import Unavailable, failure_reason
from broker.infrastructure.background import report
from broker.infrastructure.observability.outage import OutageLog
from broker.pool.demand import DemandEstimator, PoolHealth
from broker.pool.dependencies import CLOCK_SKEW_OVERLAP, PoolDependencies
from broker.pool.filler import PoolFiller
from broker.pool.metrics import POOL_CODES, POOL_DRAWN, POOL_LOW
from broker.pool.model import CodeRecord, PoolLevel, PoolReport
from broker.pool.retirement import delete_retired_pictures, retire_codes
from broker.pool.state_sync import StateSync

log = structlog.get_logger()

LEASE_TTL = 10.0
"""Seconds of the leader lease: after a crash, another instance continues so much later."""

CLEANUP_INTERVAL = 60.0
"""Seconds between two checks for old codes and for pictures of retired codes."""

RETIRE_BATCH = 10
"""Old codes that one check retires, so that codes of the same age are replaced over hours."""

CLOSE_TIMEOUT = 2.0
"""Seconds for codes that are being drawn when the broker stops."""

UNEXPECTED = "unexpected error; see the log"

HEALTH_LOG = {
    PoolHealth.HEALTHY: (logging.INFO, "pool recovered"),
    PoolHealth.LOW: (logging.WARNING, "pool low"),
    PoolHealth.EMPTY: (logging.WARNING, "pool empty"),
}


def error_note(app: str) -> str:
    """Return the name under which instances report the failure of a pool.  app: its key."""
    return f"pool:{app}"


class PoolMaintainer:
    """Maintains the pool of one app. An app with another key has another pool.

    The instance that holds the pool's leader lease synchronizes the state and runs one job at
    a time: a filler or a cleanup. Every instance measures the level of the pool.

    _filler: the last one. It offers its codes to the state itself.
    """

    def __init__(self, app: App, dependencies: PoolDependencies) -> None:
        self._app_id = app.id
        self._app = app.key
        self._dependencies = dependencies
        self._leader_lease = f"pool:{app.key}"
        self._demand = DemandEstimator()
        self._health = PoolHealth.HEALTHY
        self._sync = StateSync(app.id, app.key, dependencies, self._demand)
        self._filler: PoolFiller | None = None
        self._job: asyncio.Task[None] | None = None
        self._next_job_at = 0.0
        self._next_cleanup_at = 0.0
        self._target = 0
        self._refilled_at: float | None = None
        self._maintenance_error = ""
        self._job_error = ""
        self._job_outage = OutageLog("pool refill failed", "pool refill recovered", app=app.id)
        self._outage = OutageLog(
            "pool maintenance failed", "pool maintenance recovered", app=app.id
        )

    async def run_once(self, app: App, missed: int) -> None:
        """Do what is due; a job continues in the background. Raises Unavailable.

        missed: leases that found no free code since the last call.
        """
        dependencies = self._dependencies
        is_idle = self._job is None or self._job.done()
        ready = await self._sync_if_leader()
        level = await dependencies.leases.level(self._app)
        now = dependencies.timer()
        cycle = self._login_lifetime(app) + dependencies.limits.cooldown
        self._report_level(level, self._demand.observe(level, missed=missed, now=now, cycle=cycle))
        self._target = self._demand.target_size(
            min_size=dependencies.limits.min_size,
            max_size=dependencies.limits.max_size,
            cycle=cycle,
        )
        self._outage.recovered()
        self._note(maintenance="")
        if ready is not None and is_idle and now >= self._next_job_at:
            self._start_due_job(app, ready=ready, level=level, now=now)

    def report(self) -> PoolReport:
        return PoolReport(
            health=self._health.value,
            lease_rate=self._demand.lease_rate,
            target=self._target,
            refilled_at=self._refilled_at,
            error=self._error(),
        )

    async def record_failure(self, reason: str) -> None:
        """Log the first failure of an outage, and let another instance try."""
        self._outage.failed(reason)
        self._note(maintenance=reason)
        self._stop()
        await self._release()

    async def close(self) -> None:
        """Stop the job, and let another instance continue."""
        self._stop()
        if self._job is not None:
            await asyncio.wait([self._job], timeout=CLOSE_TIMEOUT)
            self._job.cancel()
            await asyncio.wait([self._job])
        for state in PoolLevel._fields:
            POOL_CODES.remove(self._app_id, state)
        POOL_LOW.remove(self._app_id)
        self._note(maintenance="", job="")
        await self._release()

    async def _sync_if_leader(self) -> int | None:
        """Return the number of ready codes, or None if another instance is the leader."""
        dependencies = self._dependencies
        if await dependencies.leader_leases.acquire(
            self._leader_lease, dependencies.instance, seconds=LEASE_TTL
        ):
            return await self._sync.run(self._finishing())
        self._stop()
        self._note(job="")  # the leader reports its own failures
        return None

    def _finishing(self) -> Collection[int]:
        return () if self._filler is None else self._filler.finishing

    def _login_lifetime(self, app: App) -> float:
        return app.login_lifetime or self._dependencies.limits.login_lifetime

    def _report_level(self, level: PoolLevel, health: PoolHealth) -> None:
        for state, count in level._asdict().items():
            POOL_CODES.labels(self._app_id, state).set(count)
        POOL_LOW.labels(self._app_id).set(health is not PoolHealth.HEALTHY)
        if health is not self._health:
            self._dependencies.feed.publish("pool", health.value, app=self._app_id)
            severity, event = HEALTH_LOG[health]
            log.log(severity, event, app=self._app_id, **level._asdict())
        self._health = health

    def _start_due_job(self, app: App, *, ready: int, level: PoolLevel, now: float) -> None:
        if ready < self._target:
            self._start_job(partial(self._fill, app, self._target))
        elif now >= self._next_cleanup_at:
            self._next_cleanup_at = now + CLEANUP_INTERVAL
            self._start_job(partial(self._clean_up, level, self._login_lifetime(app)))

    def _start_job(self, work: Callable[[], Awaitable[None]]) -> None:
        self._job = asyncio.create_task(self._run_job(work))

    async def _run_job(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`. After a failure, delay the next job."""
        timer, delays = self._dependencies.timer, self._dependencies.retry_delays
        try:
            await work()
        except Unavailable as error:
            self._job_outage.failed(failure_reason(error))
            self._note(job=failure_reason(error))
            failures = self._job_outage.failures if error.retryable else len(delays)
            self._next_job_at = timer() + delays[min(failures, len(delays)) - 1]
        except Exception as error:
            report("pool filling", error, app=self._app_id)
            self._note(job=UNEXPECTED)
            self._next_job_at = timer() + delays[-1]
        else:
            self._job_outage.recovered()
            self._note(job="")

    async def _fill(self, app: App, count: int) -> None:
        dependencies = self._dependencies
        self._filler = PoolFiller(
            provider=await dependencies.providers.get(app),
            codes=dependencies.codes,
            pictures=dependencies.pictures,
            app=self._app,
            count=count,
            per_minute=dependencies.limits.per_minute,
            offer=self._offer,
            retry_delays=dependencies.retry_delays[:1],
        )
        await self._filler.run()
        self._refilled_at = dependencies.clock()
        dependencies.feed.publish("pool", "refilled", app=self._app_id)

    async def _offer(self, drawn: Sequence[CodeRecord]) -> None:
        await self._sync.offer(drawn)
        POOL_DRAWN.labels(self._app_id).inc(len(drawn))

    async def _clean_up(self, level: PoolLevel, login_lifetime: float) -> None:
        await self._retire_old(level)
        await self._delete_pictures(login_lifetime)

    async def _retire_old(self, level: PoolLevel) -> None:
        """Retire some old codes, unless few codes are free."""
        dependencies = self._dependencies
        limit = min(RETIRE_BATCH, (level.free + 1) // 2)
        if not dependencies.limits.max_age or limit == 0 or self._health is not PoolHealth.HEALTHY:
            return
        before = dependencies.clock() - dependencies.limits.max_age
        if old := await dependencies.codes.drawn_before(self._app, before=before, limit=limit):
            await retire_codes(
                self._app, old, codes=dependencies.codes, withdraw=dependencies.leases.withdraw
            )

    async def _delete_pictures(self, login_lifetime: float) -> None:
        """Delete the pictures of retired codes that no screen shows any longer.

        A retired code can be leased until the state is synchronized. Its picture is needed
        for as long as such a login lives and is retained.
        """
        dependencies = self._dependencies
        age = login_lifetime + dependencies.limits.retention + CLOCK_SKEW_OVERLAP
        if self._sync.has_led_for(age):
            before = dependencies.clock() - age
            await delete_retired_pictures(
                self._app, codes=dependencies.codes, pictures=dependencies.pictures, before=before
            )

    def _error(self) -> str:
        return self._maintenance_error or self._job_error

    def _note(self, *, maintenance: str | None = None, job: str | None = None) -> None:
        """Report the failures of this instance to operators; "" for none, None for no change."""
        before = self._error()
        self._maintenance_error = self._maintenance_error if maintenance is None else maintenance
        self._job_error = self._job_error if job is None else job
        error = self._error()
        if error and error != before:
            self._dependencies.feed.publish("pool", "failed", app=self._app_id)
        self._dependencies.report.note(error_note(self._app), error)

    def _stop(self) -> None:
        """Draw no further codes: another instance is the leader, or the pool is not needed."""
        self._sync.stop()
        if self._filler is not None:
            self._filler.stop()

    async def _release(self) -> None:
        with suppress(Unavailable):  # the lease expires
            await self._dependencies.leader_leases.release(
                self._leader_lease, self._dependencies.instance
            )
