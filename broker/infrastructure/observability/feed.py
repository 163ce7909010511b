"""Events of this instance, for operators who watch it. An event has words and ids only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

WATCHERS_MAX = 16
"""Operators who watch one instance at a time."""

QUEUE_MAX = 1_000
"""Events that wait for a slow watcher. With more the oldest are dropped, and it gets `lost`."""


class FeedEvent(NamedTuple):
    """kind: what it is about, such as `login`. state: what it is now. id, app: may be empty."""

    kind: str
    state: str
    id: str = ""
    app: str = ""


LOST = FeedEvent("lost", "lost")
"""Events were dropped: the watcher reads everything again."""


class FeedWatcher:
    """Receives events until it is closed."""

    def __init__(self) -> None:
        self._events: list[FeedEvent] = []
        self._has_events = asyncio.Event()
        self.is_closed = False

    def put(self, event: FeedEvent) -> None:
        if len(self._events) >= QUEUE_MAX:
            self._events = [LOST]
        self._events.append(event)
        self._has_events.set()

    def close(self) -> None:
        self.is_closed = True
        self._has_events.set()

    async def take(self) -> list[FeedEvent]:
        """Wait for events, and return them all; none once it is closed."""
        await self._has_events.wait()
        events, self._events = self._events, []
        if not self.is_closed:
            self._has_events.clear()
        return events


class Feed:
    """Passes events to all watchers. Without a watcher, an event costs one check."""

    def __init__(self) -> None:
        self._watchers: set[FeedWatcher] = set()
        self._is_closed = False

    def publish(self, kind: str, state: str, *, id: str = "", app: str = "") -> None:
        if self._watchers:
            event = FeedEvent(kind, state, id, app)
            for watcher in self._watchers:
                watcher.put(event)

    @property
    def is_full(self) -> bool:
        return len(self._watchers) >= WATCHERS_MAX

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[FeedWatcher]:
        watcher = FeedWatcher()
        if self._is_closed:
            watcher.close()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    async def close(self) -> None:
        """End the streams of all watchers, and at once those that begin later."""
        self._is_closed = True
        for watcher in self._watchers:
            watcher.close()


NO_FEED = Feed()
"""For parts without watchers."""
