"""Makes the calls to other servers that are due. Any instance that knows their kind makes them.

put ──▶ due ──taken by one instance──▶ delivered, or refused
         ▲                                 │ failed
         └──── after the kind's delays ◀───┘
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple

import structlog

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import DeferredCall, RetryQueue
from broker.infrastructure.fair_queue import FairQueue

log = structlog.get_logger()

POLL_INTERVAL = 1.0
"""Seconds between two looks for calls that are due."""

BATCH = 32
"""Calls of one kind that are taken at once."""

CLOSE_TIMEOUT = 1.0
"""Seconds for the calls in progress when the process ends. Others make them later."""

CONCURRENT_MAX, RECEIVER_MAX = 128, 32
"""Calls in progress in this instance, of all receivers and of one."""

TURN_TIMEOUT = 1.0
"""Seconds that a call waits for its receiver's turn. After that it is due again later, so that
the many calls of a slow receiver do not delay those of others."""

TAKEN_MAX = 512
"""Calls that this instance has taken. It takes no further ones until some have ended."""


class CallOutcome(StrEnum):
    """The result of an attempt. A refused call is not repeated."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    FAILED = "failed"


Attempt = Callable[[DeferredCall], Awaitable[CallOutcome]]
"""Makes one attempt of a call. It takes less than `RETRY_TIMEOUT`, and raises Unavailable only."""

Defer = Callable[[str, str, str], Awaitable[None]]
"""Stores a call that is due now; the arguments are its kind, receiver and payload."""


class CallKind(NamedTuple):
    """delays: seconds before the second, third, … attempt. After the last one, the call is given
    up."""

    attempt: Attempt
    delays: Sequence[float]


class RetryWorker:
    """Stores calls, and makes those that are due and of a kind that this process handles."""

    def __init__(self, *, queue: RetryQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._kinds: dict[str, CallKind] = {}
        self._running = BackgroundTasks()
        self._taken = asyncio.Semaphore(TAKEN_MAX)
        self._turns = FairQueue(share=RECEIVER_MAX, total=CONCURRENT_MAX, wait=TURN_TIMEOUT)

    @property
    def has_kinds(self) -> bool:
        return bool(self._kinds)

    def handle(self, kind: str, attempt: Attempt, delays: Sequence[float]) -> None:
        """Make calls of this kind with `attempt`."""
        self._kinds[kind] = CallKind(attempt, delays)

    async def defer(self, kind: str, receiver: str, payload: str) -> None:
        """Store a new call that is due now. Raises Unavailable."""
        await self.put(DeferredCall(secrets.token_urlsafe(16), kind, receiver, payload))

    async def put(self, call: DeferredCall, *, delay: float = 0.0) -> None:
        """Store a call that is due in `delay` seconds. Raises Unavailable."""
        await self._queue.put(call, self._clock() + delay)

    async def cancel(self, call: DeferredCall) -> None:
        """Delete a call that was put. Raises Unavailable."""
        await self._queue.done(call)

    async def record(self, call: DeferredCall, outcome: CallOutcome) -> None:
        """Store the outcome of an attempt of a call. Raises Unavailable; it is due again then."""
        delays = self._kinds[call.kind].delays
        if outcome is not CallOutcome.FAILED:
            await self._queue.done(call)
        elif call.attempt > len(delays):
            log.error("deferred call given up", kind=call.kind, attempts=call.attempt)
            await self._queue.done(call)
        else:
            again = call._replace(attempt=call.attempt + 1)
            await self.put(again, delay=delays[call.attempt - 1])

    async def run(self) -> None:
        """Make calls until cancelled."""
        try:
            while True:
                due = await self._take_due()
                for call in due:
                    await self._taken.acquire()
                    self._running.spawn(f"deferred {call.kind}", self._make_in_turn(call))
                if len(due) < BATCH:
                    await asyncio.sleep(POLL_INTERVAL)
        finally:
            await self._running.close(grace=CLOSE_TIMEOUT)

    async def _take_due(self) -> Sequence[DeferredCall]:
        with suppress(Unavailable):  # the state logs its own outages
            return await self._queue.take_due(list(self._kinds), BATCH)
        return ()

    async def _attempt(self, call: DeferredCall) -> CallOutcome:
        """Make one attempt. A call that cannot be decoded fails: another version may know it."""
        try:
            return await self._kinds[call.kind].attempt(call)
        except ValueError as error:
            log.warning("deferred call is invalid", kind=call.kind, reason=str(error))
            return CallOutcome.FAILED

    async def _make_in_turn(self, call: DeferredCall) -> None:
        try:
            await self._turns.acquire(call.receiver)
        except TimeoutError:
            return  # it is due again after `RETRY_TIMEOUT`
        else:
            try:
                await self.record(call, await self._attempt(call))
            finally:
                self._turns.release(call.receiver)
        finally:
            self._taken.release()
