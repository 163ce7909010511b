"""What keeps one app's pool: it tells the state what the records say, and draws in time.

The records are truth and the state is told; whatever is said or done twice is as if once.
So a holder may end, stand still or be cut off at any point, and another goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from broker.apps.model import App
from broker.errors import Unavailable
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.background import report
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import LeaderLeases
from broker.infrastructure.observability.outage import OutageLog
from broker.login.ports import LOGIN_RETENTION
from broker.pool.demand import DemandEstimator, PoolHealth
from broker.pool.filler import OfferCodes, PoolFiller, failure_reason
from broker.pool.metrics import POOL_CODES, POOL_DRAWN, POOL_LOW
from broker.pool.model import CodeRecord, PoolLevel
from broker.pool.model import OfferedCode as Leasable
from broker.pool.ports import CodeLeases, PictureStore
from broker.pool.retirement import delete_retired_pictures, retire_codes

if TYPE_CHECKING:
    from broker.records.pool_codes import SqlCodeStore


log = structlog.get_logger()

LEASE_TTL = 10.0
"""Seconds for which a duty is held: so long after its end an instance is stood in for."""

CLOCK_SKEW_OVERLAP = 60.0
"""Seconds by which two looks at what has changed overlap: clocks of commands differ."""

CLEANUP_INTERVAL = 60.0
"""Seconds between two looks at what is old or left over."""

RETIRE_BATCH = 10
"""Old codes that retire at one look, so that many of one day are drawn anew over hours."""

RETRY_DELAYS = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds until drawing is tried again after so many failures; the last one for trouble that
does not pass by itself.  The first one also for a single code that fails, before the rest is
left."""

CLOSE_TIMEOUT = 2.0
"""Seconds that codes which are being drawn get at the end."""

HEALTH_LOG = {
    PoolHealth.WELL: (logging.INFO, "a pool is filled again"),
    PoolHealth.LOW: (logging.WARNING, "a pool is low"),
    PoolHealth.EMPTY: (logging.WARNING, "a pool is empty"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How pools are to be.

    life: seconds of a login whose app says nothing else.  rest: of a code after it.
    size, most: codes, at least and at most.  age: seconds until a code is drawn anew; 0: never.
    per_minute: codes that are drawn a minute.
    """

    login_lifetime: float
    cooldown: float
    min_size: int
    max_size: int
    max_age: float
    per_minute: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDependencies:
    """What a pool is kept with.

    clock: the state's, for stamps that instances share.  timer: seconds from any start, for
    durations in this process.  instance: this process's name, which holds duties.
    """

    accounts: ProviderRegistry
    codes: SqlCodeStore
    pictures: PictureStore
    leases: CodeLeases
    duties: LeaderLeases
    clock: Clock
    instance: str
    limits: PoolLimits
    pauses: Sequence[float] = RETRY_DELAYS
    timer: Callable[[], float] = time.monotonic


class PoolMaintainer:
    """One app's pool.  app: whose it is; an app with another key has another pool.

    _since: from when on, by the timer, this instance has had the duty and said to the state
        whatever the records say, without a gap; None in a gap.
    _said_at: when it last did, by the clock.
    _known: how many codes were added to the state; some of them may have retired since.
    _recent: number to drawing of those that were drawn within OVERLAP.  They are not
        offered twice: a state emptied between check and offer would free them at once.
    _filling: the last one.  It opens what it draws by itself.
    """

    def __init__(self, app: App, parts: PoolDependencies) -> None:
        self._app = app.id
        self._key = app.key
        self._parts = parts
        self._duty = f"pool:{app.key}"
        self._demand = DemandEstimator()
        self._mood = PoolHealth.WELL
        self._since: float | None = None
        self._said_at = 0.0
        self._known = 0
        self._recent: dict[int, int] = {}
        self._chores_at = 0.0
        self._again_at = 0.0
        self._filling: PoolFiller | None = None
        self._work: asyncio.Task[None] | None = None
        self._working = OutageLog("codes cannot be drawn", "codes are drawn again", app=app.id)
        self._looking = OutageLog("a pool cannot be kept", "a pool is kept again", app=app.id)

    async def run_once(self, app: App, missed: int) -> None:
        """Do what is due; drawing goes on afterwards.  Raises Unavailable."""
        parts = self._parts
        limits, life = parts.limits, app.login_lifetime or parts.limits.login_lifetime
        ready, idle = None, self._work is None or self._work.done()
        if await parts.duties.acquire(self._duty, parts.instance, seconds=LEASE_TTL):
            ready = await self._sync_state()
        else:
            self._stop()
        level = await parts.leases.level(self._key)
        now, stay = parts.timer(), life + limits.cooldown
        self._report(level, self._demand.observe(level, missed=missed, now=now, stay=stay))
        self._looking.recovered()
        if ready is None or not idle or now < self._again_at:
            return
        wanted = self._demand.target_size(least=limits.min_size, most=limits.max_size, stay=stay)
        if ready < wanted:
            self._begin(partial(self._fill, app, wanted))
        elif now >= self._chores_at:
            self._chores_at = now + CLEANUP_INTERVAL
            self._begin(partial(self._do_chores, level, life))

    async def record_failure(self, reason: str) -> None:
        """Say so, once, and let another instance try."""
        self._looking.failed(reason)
        self._stop()
        await self._release()

    async def close(self) -> None:
        """End the drawing in order, and leave the duty to others."""
        self._stop()
        if self._work is not None:
            await asyncio.wait([self._work], timeout=CLOSE_TIMEOUT)
            self._work.cancel()
            await asyncio.wait([self._work])
        for state in PoolLevel._fields:
            POOL_CODES.remove(self._app, state)
        POOL_LOW.remove(self._app)
        await self._release()

    async def _sync_state(self) -> int:
        """Make the state know what the records say; how many codes are ready.

        What it does not know rests, for it may have known it and forgotten who has it on a
        screen.  Only what is drawn while the state forgets nothing is free at once.
        """
        parts, opening = self._parts, self._opening()
        ready = await parts.codes.count(self._key)
        now, about_to_be = parts.clock(), len(opening)
        total = (await parts.leases.level(self._key)).total + about_to_be
        rest, since = parts.limits.cooldown, 0.0
        if self._since is not None and total >= min(self._known, ready):
            rest, since = (
                0.0,
                min(self._said_at, now) - CLOCK_SKEW_OVERLAP,
            )  # the clock may be set back
        elif total < ready:
            log.warning("the state lacks codes", app=self._app, lacks=ready - total, rest=rest)
            self._demand.exclude_resting(ready - total, until=parts.timer() + rest)
        self._known = ready - about_to_be
        known = self._recent if since else {}
        offer, recent = offer_to_state(parts.leases, self._key, rest=rest), dict[int, int]()
        async for some in parts.codes.ready(self._key, since=since):
            offered = [code for code in some if code.number not in opening]
            await offer([code for code in offered if known.get(code.number) != code.drawing])
            recent |= {
                one.number: one.drawing
                for one in offered
                if one.drawn_at > now - CLOCK_SKEW_OVERLAP
            }
        async for drawings in parts.codes.retired(self._key, since=since):
            await parts.leases.withdraw(self._key, drawings)
        self._said_at, self._recent = now, recent
        self._since = parts.timer() if self._since is None else self._since
        return ready

    def _opening(self) -> Collection[int]:
        return () if self._filling is None else self._filling.finishing

    def _report(self, level: PoolLevel, mood: PoolHealth) -> None:
        for state, count in level._asdict().items():
            POOL_CODES.labels(self._app, state).set(count)
        POOL_LOW.labels(self._app).set(mood is not PoolHealth.WELL)
        if mood is not self._mood:
            severity, what = HEALTH_LOG[mood]
            log.log(severity, what, app=self._app, **level._asdict())
        self._mood = mood

    def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = asyncio.create_task(self._retrying(work))

    async def _retrying(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it; a failure is told once, and the next work waits for a while."""
        timer, pauses = self._parts.timer, self._parts.pauses
        try:
            await work()
        except Unavailable as trouble:
            self._working.failed(failure_reason(trouble))
            nth = min(self._working.failures, len(pauses)) if trouble.retryable else len(pauses)
            self._again_at = timer() + pauses[nth - 1]
        except Exception as error:
            report("pool filling", error, app=self._app)
            self._again_at = timer() + pauses[-1]
        else:
            self._working.recovered()

    async def _fill(self, app: App, count: int) -> None:
        parts = self._parts
        self._filling = PoolFiller(
            provider=await parts.accounts.get(app),
            codes=parts.codes,
            pictures=parts.pictures,
            app=self._key,
            count=count,
            per_minute=parts.limits.per_minute,
            offer=self._offer,
            waits=parts.pauses[:1],
        )
        await self._filling.run()

    async def _offer(self, drawn: Sequence[CodeRecord]) -> None:
        await offer_to_state(self._parts.leases, self._key)(drawn)
        self._known += len(drawn)
        POOL_DRAWN.labels(self._app).inc(len(drawn))

    async def _do_chores(self, level: PoolLevel, life: float) -> None:
        await self._retire_aged(level)
        await self._tidy(life)

    async def _retire_aged(self, level: PoolLevel) -> None:
        """Retire a few old codes, and not where free ones are few."""
        parts = self._parts
        limit = min(RETIRE_BATCH, (level.free + 1) // 2)
        if not parts.limits.max_age or limit == 0 or self._mood is not PoolHealth.WELL:
            return
        before = parts.clock() - parts.limits.max_age
        if aged := await parts.codes.drawn_before(self._key, before=before, limit=limit):
            await retire_codes(self._key, aged, codes=parts.codes, withdraw=parts.leases.withdraw)

    async def _tidy(self, life: float) -> None:
        """Remove the pictures that no screen shows any more.

        A code may be leased until the state hears that it has retired, and no later than the
        look after; for as long as such a login lives and is kept, its picture is there.
        """
        parts, age = self._parts, life + LOGIN_RETENTION + CLOCK_SKEW_OVERLAP
        if self._since is not None and self._since < parts.timer() - age:
            before = parts.clock() - age
            await delete_retired_pictures(
                self._key, codes=parts.codes, pictures=parts.pictures, before=before
            )

    def _stop(self) -> None:
        """Begin nothing more; somebody else has the duty, or nobody needs to."""
        self._since = None
        if self._filling is not None:
            self._filling.stop()

    async def _release(self) -> None:
        with suppress(Unavailable):  # it runs out by itself
            await self._parts.duties.release(self._duty, self._parts.instance)


def offer_to_state(leases: CodeLeases, app: str, *, rest: float = 0.0) -> OfferCodes:
    """Opens codes of `app` for lease, on every instance at once."""

    async def offer(codes: Sequence[CodeRecord]) -> None:
        await leases.offer(app, [_leasable(code) for code in codes], cooldown=rest)

    return offer


def _leasable(code: CodeRecord) -> Leasable:
    return Leasable(
        number=code.number, drawing=code.drawing, scene=code.scene, picture=code.picture
    )
