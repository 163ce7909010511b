"""Makes the calls to other servers that are due. Any instance makes any call.

put ──▶ due ──taken by one instance──▶ delivered, or refused
         ▲                                 │ failed
         └──── after 1, 10, 60, 600 s ◀────┘
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import StrEnum

import structlog

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.clock import Clock
from broker.oidc.ports import Deferred, DeferredCall

log = structlog.get_logger()

RETRY_DELAYS = (1.0, 10.0, 60.0, 600.0)
"""Seconds before the second, third, fourth and fifth attempt."""

POLL_INTERVAL = 1.0
"""Seconds between two looks for calls that are due."""

BATCH = 32
"""Calls that are taken at once."""

CLOSE_TIMEOUT = 1.0
"""Seconds for the calls in progress when the process ends. Others make them later."""

CONCURRENT_MAX = 128
"""Calls in progress in this instance. It takes no further ones until some have ended."""


class Outcome(StrEnum):
    """The result of an attempt. A refused call is not repeated."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    FAILED = "failed"


Attempt = Callable[[DeferredCall], Awaitable[Outcome]]
"""Makes one attempt of a call. It takes less than `RETRY_TIMEOUT`, and raises Unavailable only."""


class DeferredCalls:
    """Stores calls, and makes those that are due."""

    def __init__(self, *, store: Deferred, clock: Clock) -> None:
        self._store = store
        self._attempts: dict[str, Attempt] = {}
        self._clock = clock
        self._running = BackgroundTasks()
        self._slots = asyncio.Semaphore(CONCURRENT_MAX)

    def handle(self, kind: str, attempt: Attempt) -> None:
        """Make calls of this kind with `attempt`."""
        self._attempts[kind] = attempt

    async def put(self, kind: str, payload: str) -> None:
        """Store a call that is due now."""
        call = DeferredCall(secrets.token_urlsafe(16), kind, 1, payload)
        await self._store.put(call, self._clock())

    async def run(self) -> None:
        """Make calls until cancelled."""
        try:
            while True:
                due = await self._take_due()
                for call in due:
                    await self._slots.acquire()
                    self._running.spawn(f"deferred {call.kind}", self._make(call))
                if len(due) < BATCH:
                    await asyncio.sleep(POLL_INTERVAL)
        finally:
            await self._running.close(grace=CLOSE_TIMEOUT)

    async def _take_due(self) -> Sequence[DeferredCall]:
        with suppress(Unavailable):  # the state logs its own outages
            return await self._store.take_due(BATCH)
        return ()

    async def _make(self, call: DeferredCall) -> None:
        try:
            attempt = self._attempts.get(call.kind)
            outcome = Outcome.REFUSED if attempt is None else await attempt(call)
            await self._record(call, outcome)
        finally:
            self._slots.release()

    async def _record(self, call: DeferredCall, outcome: Outcome) -> None:
        if outcome is not Outcome.FAILED:
            await self._store.done(call.id)
        elif call.attempt > len(RETRY_DELAYS):
            log.error("deferred call given up", kind=call.kind, attempts=call.attempt)
            await self._store.done(call.id)
        else:
            delay = RETRY_DELAYS[call.attempt - 1]
            await self._store.put(call._replace(attempt=call.attempt + 1), self._clock() + delay)
