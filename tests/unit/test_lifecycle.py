"""Start and stop of an instance and its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager

import pytest
import structlog
from aiohttp import web

from broker.infrastructure.api.mounted import Resource
from broker.infrastructure.runtime.lifecycle import Lifecycle, do_nothing


class Part:
    """A resource that records its calls in `events`. `open` raises `error` if there is one."""

    def __init__(self, name: str, events: list[str], error: Exception | None = None) -> None:
        self._name = name
        self._events = events
        self._error = error

    async def open(self) -> None:
        self._events.append(f"open {self._name}")
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        self._events.append(f"close {self._name}")

    async def wait(self) -> None:
        """An `open` that never ends."""
        self._events.append(f"open {self._name}")
        await asyncio.Event().wait()

    @property
    def resource(self) -> Resource:
        return Resource(self.open, self.close)


def lifecycle_of(*stages: Sequence[Resource]) -> Lifecycle:
    fields = {"instance": "one"}
    return Lifecycle(stages, drain=lambda: None, close_sockets=do_nothing, fields=fields)


running = asynccontextmanager(Lifecycle.run)


async def test_stages_close_in_reverse_order() -> None:
    events: list[str] = []
    one, two, three = (Part(name, events).resource for name in ("one", "two", "three"))

    async with running(lifecycle_of([one], [two, three]), web.Application()):
        assert events == ["open one", "open two", "open three"]

    assert events[3:] == ["close three", "close two", "close one"]


async def test_failed_open_closes_the_parts_before() -> None:
    events: list[str] = []
    failed = Part("failed", events, OSError("no connection"))
    stages = [Part("one", events).resource], [failed.resource], [Part("later", events).resource]

    with pytest.raises(OSError, match="no connection"):
        async with running(lifecycle_of(*stages), web.Application()):
            pytest.fail("the parts are not open")

    assert events == ["open one", "open failed", "close failed", "close one"]


async def test_failed_open_cancels_opens_of_its_stage() -> None:
    events: list[str] = []
    slow = Part("slow", events)
    stage = [
        Resource(slow.wait, slow.close),
        Part("failed", events, OSError("no connection")).resource,
    ]

    with pytest.raises(OSError, match="no connection"):
        async with running(lifecycle_of(stage), web.Application()):
            pytest.fail("the parts are not open")

    assert events == ["open slow", "open failed", "close failed", "close slow"]


async def test_start_drain_and_stop_are_logged_once() -> None:
    lifecycle = lifecycle_of()
    application = web.Application()

    with structlog.testing.capture_logs() as lines:
        running = lifecycle.run(application)
        await anext(running)
        lifecycle.drain()
        await lifecycle.close_sockets(application)
        await anext(running, None)

    events = ["instance started", "instance draining", "instance stopped"]
    assert lines == [{"event": one, "log_level": "info", "instance": "one"} for one in events]
