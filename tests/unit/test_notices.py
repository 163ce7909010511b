"""Tests of the listener that gives notices to the features."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.bus.memory import MemoryBus
from broker.errors import Unavailable
from broker.infrastructure.background import TASK_FAILURES
from broker.infrastructure.coordination import Bus, Notice
from broker.infrastructure.notices import NOTICE_LISTENER, NoticeDispatcher, NoticeHandler
from tests.support.waiting import eventually


class Feature:
    """Records what its handler receives; `caught up` when it reads the state."""

    def __init__(self, *events: str) -> None:
        self.received: asyncio.Queue[str] = asyncio.Queue()
        self.handler = NoticeHandler(events, self.handle, self.catch_up)

    async def handle(self, notice: Notice) -> None:
        self.received.put_nowait(notice.id)

    async def catch_up(self) -> None:
        self.received.put_nowait("caught up")

    async def next(self) -> str:
        async with asyncio.timeout(30):
            return await self.received.get()


class BrokenFeature(Feature):
    async def handle(self, notice: Notice) -> None:
        raise RuntimeError

    async def catch_up(self) -> None:
        raise RuntimeError


class FailingBus(MemoryBus):
    """A bus whose subscriptions end when a notice `lost` arrives."""

    @asynccontextmanager
    async def listen(self, instance: str) -> AsyncIterator[AsyncIterator[Notice]]:
        async with super().listen(instance) as notices:
            yield self._until_lost(notices)

    async def _until_lost(self, notices: AsyncIterator[Notice]) -> AsyncIterator[Notice]:
        async for notice in notices:
            if notice.event == "lost":
                raise Unavailable("the subscription to the bus is lost")
            yield notice


@asynccontextmanager
async def listening(bus: Bus, *features: Feature) -> AsyncIterator[NoticeDispatcher]:
    handlers = [feature.handler for feature in features]
    dispatcher = NoticeDispatcher(bus=bus, instance="one", handlers=handlers)
    task = asyncio.create_task(dispatcher.run())
    await eventually(lambda: dispatcher.unready_reason() is None)
    yield dispatcher
    task.cancel()
    await asyncio.wait([task])


async def test_notice_is_given_to_its_feature() -> None:
    bus, logins, rooms = MemoryBus(), Feature("login-scanned"), Feature("room-news")

    async with listening(bus, logins, rooms):
        await bus.publish("one", Notice("room-news", "shop/lobby"))
        await bus.publish("one", Notice("login-scanned", "a login"))

        assert [await logins.next() for _ in range(2)] == ["caught up", "a login"]
        assert [await rooms.next() for _ in range(2)] == ["caught up", "shop/lobby"]


async def test_notice_without_a_feature_is_ignored() -> None:
    bus, rooms = MemoryBus(), Feature("room-news")

    async with listening(bus, rooms):
        await bus.publish("one", Notice("file-news", "a file"))
        await bus.publish("one", Notice("room-news", "shop/lobby"))

        assert [await rooms.next() for _ in range(2)] == ["caught up", "shop/lobby"]


async def test_failing_feature_does_not_affect_others() -> None:
    bus, broken, rooms = MemoryBus(), BrokenFeature("login-scanned"), Feature("room-news")
    failures = TASK_FAILURES.labels(NOTICE_LISTENER)._value
    before = failures.get()

    async with listening(bus, broken, rooms):
        await bus.publish("one", Notice("login-scanned", "a login"))
        await bus.publish("one", Notice("room-news", "shop/lobby"))

        assert [await rooms.next() for _ in range(2)] == ["caught up", "shop/lobby"]
    assert failures.get() - before == 2


async def test_lost_subscription_is_replaced_and_features_catch_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.infrastructure.notices.RETRY_DELAY", 0)
    bus, rooms = FailingBus(), Feature("room-news")

    async with listening(bus, rooms) as dispatcher:
        await bus.publish("one", Notice("lost", ""))
        assert [await rooms.next() for _ in range(2)] == ["caught up", "caught up"]
        await bus.publish("one", Notice("room-news", "shop/lobby"))

        assert await rooms.next() == "shop/lobby"
        assert dispatcher.unready_reason() is None


async def test_listener_without_a_bus_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = FailingBus()

    async with listening(bus) as dispatcher:
        await bus.publish("one", Notice("lost", ""))

        await eventually(lambda: dispatcher.unready_reason() == "the bus delivers no notices")
