"""Receives the notices of this instance and gives each one to the feature that handles it.

bus ──▶ NoticeDispatcher ──by event──▶ handler of a feature
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple

import structlog

from broker.errors import Unavailable
from broker.infrastructure.background import report
from broker.infrastructure.coordination import Bus, Notice
from broker.infrastructure.observability.metrics import Counter

log = structlog.get_logger()

RETRY_DELAY = 0.5
"""Seconds before the next subscription after a failure of the bus."""

NOTICE_LISTENER = "notice listener"
"""The task's name."""

BUS_RESUBSCRIBES = Counter("scanlogin_bus_deaf", "Bus resubscriptions after missed heartbeats")


class NoticeHandler(NamedTuple):
    """The notices of one feature.

    One notice is handled at a time, of all features. A handler that has to wait for the state
    starts a task.

    events: the names of the events, complete; no other feature handles them.
    handle: receives each notice.
    catch_up: reads what has changed while notices may have been lost. It is called when a
        subscription has begun, before the first notice.
    """

    events: Collection[str]
    handle: Callable[[Notice], Awaitable[None]]
    catch_up: Callable[[], Awaitable[None]]


class NoticeDispatcher:
    """Listens on the bus, and subscribes again after a failure.

    A notice without a handler is ignored: an instance of a newer version may have sent it.

    instance: the name of this process on the bus.
    """

    def __init__(self, *, bus: Bus, instance: str, handlers: Sequence[NoticeHandler]) -> None:
        self._bus = bus
        self._instance = instance
        self._handlers = handlers
        self._by_event = {event: handler.handle for handler in handlers for event in handler.events}
        self._is_subscribed = False

    def unready_reason(self) -> str | None:
        """Return why notices are lost, or None if they arrive."""
        return None if self._is_subscribed else "the bus delivers no notices"

    async def run(self) -> None:
        """Handle notices until cancelled, or until the bus is closed."""
        while True:
            try:
                await self._listen()
                return
            except Unavailable:
                if self._is_subscribed:
                    log.warning("bus subscription lost")
                    BUS_RESUBSCRIBES.inc()
            finally:
                self._is_subscribed = False
            await asyncio.sleep(RETRY_DELAY)

    async def _listen(self) -> None:
        """Raises Unavailable if the subscription fails or is lost."""
        async with self._bus.listen(self._instance) as notices:
            self._is_subscribed = True
            for handler in self._handlers:
                await _isolate(handler.catch_up())
            async for notice in notices:
                handle = self._by_event.get(notice.event)
                if handle is not None:
                    await _isolate(handle(notice), notice.event)


async def _isolate(work: Awaitable[None], event: str = "") -> None:
    """Do the work. The failure of a handler is logged, and does not affect the others."""
    try:
        await work
    except Exception as error:
        report(NOTICE_LISTENER, error, notice=event)
