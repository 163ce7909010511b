"""Copies an app's codes from the records, which are authoritative, to the state."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import structlog

from broker.pool.demand import DemandEstimator
from broker.pool.dependencies import CLOCK_SKEW_OVERLAP, PoolDependencies
from broker.pool.filler import OfferCodes
from broker.pool.model import CodeRecord, OfferedCode
from broker.pool.ports import CodeLeases

log = structlog.get_logger()


class StateSync:
    """Keeps the pool of one app in the state equal to the records.

    app_id: the app's id, for the log.
    app: the app's key.
    demand: does not count codes that are added after a loss.

    _leading_since: the time, by the timer, since which this instance has held the leader
        lease and synchronized without a gap; None in a gap.
    _synced_at: the time of the last run, by the clock.
    _known: the number of codes that were added to the state; some may be retired since.
    _recent: number to drawing of the codes drawn within CLOCK_SKEW_OVERLAP. They are not
        offered twice: a state that is emptied between check and offer would free them at once.
    """

    def __init__(
        self, app_id: str, app: str, dependencies: PoolDependencies, demand: DemandEstimator
    ) -> None:
        self._app_id = app_id
        self._app = app
        self._dependencies = dependencies
        self._demand = demand
        self._leading_since: float | None = None
        self._synced_at = 0.0
        self._known = 0
        self._recent: Mapping[int, int] = {}

    def stop(self) -> None:
        """Another instance may be the leader from now on."""
        self._leading_since = None

    def has_led_for(self, seconds: float) -> bool:
        """Return whether this instance has synchronized without a gap for `seconds`."""
        since = self._leading_since
        return since is not None and since < self._dependencies.timer() - seconds

    async def run(self, finishing: Collection[int]) -> int:
        """Update the state and return the number of ready codes. Raises Unavailable.

        Codes that are missing in the state are added with a cooldown: the state may have lost
        them while they were on a screen. Only codes drawn since the last run are free at once.
        finishing: numbers that a filler is about to offer; it may change during the run.
        """
        dependencies = self._dependencies
        ready = await dependencies.codes.count(self._app)
        now, pending = dependencies.clock(), len(finishing)
        total = (await dependencies.leases.level(self._app)).total + pending
        since, cooldown = 0.0, dependencies.limits.cooldown
        if self._leading_since is not None and total >= min(self._known, ready):
            # The clock may have been set back.
            since, cooldown = min(self._synced_at, now) - CLOCK_SKEW_OVERLAP, 0.0
        elif total < ready:
            self._report_missing(ready - total)
        self._known = ready - pending
        recent = await self._offer_ready(finishing, since=since, cooldown=cooldown, now=now)
        async for drawings in dependencies.codes.retired(self._app, since=since):
            await dependencies.leases.withdraw(self._app, drawings)
        self._synced_at, self._recent = now, recent
        if self._leading_since is None:
            self._leading_since = dependencies.timer()
        return ready

    async def offer(self, drawn: Sequence[CodeRecord]) -> None:
        """Add codes that were just drawn. They are free at once. Raises Unavailable."""
        await offer_to_state(self._dependencies.leases, self._app)(drawn)
        self._known += len(drawn)

    async def _offer_ready(
        self, finishing: Collection[int], *, since: float, cooldown: float, now: float
    ) -> Mapping[int, int]:
        """Offer the codes drawn at `since` or later; return those drawn just before `now`."""
        dependencies = self._dependencies
        known = self._recent if since else {}
        offer = offer_to_state(dependencies.leases, self._app, cooldown=cooldown)
        recent: dict[int, int] = {}
        async for batch in dependencies.codes.ready(self._app, since=since):
            codes = [code for code in batch if code.number not in finishing]
            await offer([code for code in codes if known.get(code.number) != code.drawing])
            recent |= {
                code.number: code.drawing
                for code in codes
                if code.drawn_at > now - CLOCK_SKEW_OVERLAP
            }
        return recent

    def _report_missing(self, count: int) -> None:
        dependencies = self._dependencies
        cooldown = dependencies.limits.cooldown
        log.warning(
            "pool codes missing in state", app=self._app_id, missing=count, cooldown=cooldown
        )
        self._demand.exclude_resting(count, until=dependencies.timer() + cooldown)


def offer_to_state(leases: CodeLeases, app: str, *, cooldown: float = 0.0) -> OfferCodes:
    """Return a function that adds codes of `app` to the pool of all instances."""

    async def offer(codes: Sequence[CodeRecord]) -> None:
        await leases.offer(app, [_offered(code) for code in codes], cooldown=cooldown)

    return offer


def _offered(code: CodeRecord) -> OfferedCode:
    return OfferedCode(
        number=code.number, drawing=code.drawing, scene=code.scene, picture=code.picture
    )
