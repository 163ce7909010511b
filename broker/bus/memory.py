"""A bus within one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.infrastructure.coordination import Bus, Notice

NoticeQueue = asyncio.Queue[Notice | None]
"""Notices that a listener has not received yet; None after the bus is closed."""


class MemoryBus:
    def __init__(self) -> None:
        self._listeners: dict[str, list[NoticeQueue]] = {}

    async def open(self) -> None:
        """Do nothing: there is no connection."""

    async def publish(self, instance: str, notice: Notice) -> None:
        for listener in self._listeners.get(instance, []):
            listener.put_nowait(notice)

    @asynccontextmanager
    async def listen(self, instance: str) -> AsyncIterator[AsyncIterator[Notice]]:
        listener: NoticeQueue = asyncio.Queue()
        listeners = self._listeners.setdefault(instance, [])
        listeners.append(listener)
        try:
            yield _notices(listener)
        finally:
            listeners.remove(listener)
            if not listeners:
                self._listeners.pop(instance, None)

    async def close(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.put_nowait(None)


async def _notices(listener: NoticeQueue) -> AsyncIterator[Notice]:
    while (notice := await listener.get()) is not None:
        yield notice


def open_bus(url: str) -> Bus:
    return MemoryBus()
