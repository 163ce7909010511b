"""Tests of the guarantees of a bus, over each backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.bus import open_bus
from broker.infrastructure.coordination import Bus, Notice
from tests.support.builders import BUSES
from tests.support.servers.redis import Engines
from tests.support.waiting import opened_bus

NOTICES = [
    Notice("login-scanned", "a"),
    Notice("login-confirmed", "a"),
    Notice("login-denied", "b"),
]


@pytest.fixture(params=BUSES)
async def bus(request: pytest.FixtureRequest, engines: Engines) -> AsyncIterator[Bus]:
    bus = open_bus(engines.url(request.param))
    await opened_bus(bus)
    yield bus
    await bus.close()


async def test_notices_arrive_in_order(bus: Bus) -> None:
    async with bus.listen("one") as notices:
        for notice in NOTICES:
            await bus.publish("one", notice)

        assert [await anext(notices) for _ in NOTICES] == NOTICES


async def test_notice_before_the_first_read_is_received(bus: Bus) -> None:
    """A notice that is published before the first read is not lost."""
    async with bus.listen("one") as notices, bus.listen("two") as others:
        await bus.publish("one", NOTICES[0])
        await bus.publish("two", NOTICES[1])
        assert await anext(others) == NOTICES[1]

        assert await anext(notices) == NOTICES[0]


async def test_notice_reaches_its_instance_only(bus: Bus) -> None:
    async with bus.listen("one") as one, bus.listen("two") as two:
        await bus.publish("two", NOTICES[0])
        await bus.publish("one", NOTICES[1])

        assert await anext(one) == NOTICES[1]
        assert await anext(two) == NOTICES[0]


async def test_publish_without_listener_succeeds(bus: Bus) -> None:
    await bus.publish("other", NOTICES[0])

    async with bus.listen("other") as notices:
        await bus.publish("other", NOTICES[1])
        assert await anext(notices) == NOTICES[1]


async def test_close_ends_the_listeners(bus: Bus) -> None:
    async with bus.listen("one") as notices:
        await bus.close()

        with pytest.raises(StopAsyncIteration):
            await anext(notices)


async def test_instance_can_listen_again(bus: Bus) -> None:
    for notice in NOTICES:
        async with bus.listen("one") as notices:
            await bus.publish("one", notice)

            assert await anext(notices) == notice


def test_error_for_an_unknown_bus_lists_all() -> None:
    with pytest.raises(ValueError, match=r"unknown bus 'smoke': use one of .*memory"):
        open_bus("smoke://")
