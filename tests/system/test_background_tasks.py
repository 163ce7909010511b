"""Background tasks: whatever ends one, it is restarted, and logins work again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import aiohttp
import pytest
from socketio.exceptions import SocketIOError
from structlog.testing import capture_logs

from broker.bus.redis import RedisBus
from broker.errors import Unavailable
from broker.infrastructure import background
from broker.infrastructure.background import (
    TASK_FAILURES,
    BackgroundTask,
    BackgroundTasks,
    report,
    spawn,
)
from broker.infrastructure.redis.cluster import RedisCluster
from broker.infrastructure.redis.reconnector import Reconnector
from broker.infrastructure.runtime.supervisor import Supervisor
from broker.login.lobby import Lobby
from broker.pool.scheduler import PoolScheduler
from broker.records.app_cache import AppCache
from broker.records.audit_log import SqlAuditLog
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Refused
from tests.support.logins import logs_in
from tests.support.servers.redis import Engines
from tests.support.waiting import eventually

LONG = 30.0
"""Seconds that a busy machine gets."""


def failures(name: str) -> float:
    return TASK_FAILURES.labels(name)._value.get()


@pytest.fixture(autouse=True)
def _quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MIN_RESTART_DELAY", 0.001)


async def raises() -> None:
    raise RuntimeError


async def returns() -> None:
    """At once."""


async def is_cancelled_from_inside() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("ends", [raises, returns, is_cancelled_from_inside])
async def test_ended_work_is_counted_and_started_again(ends: Callable[[], Awaitable[None]]) -> None:
    starts: list[str | None] = []

    async def work() -> None:
        starts.append(task.unready_reason())
        await (ends() if len(starts) < 3 else asyncio.Event().wait())

    task, before = BackgroundTask("test", work), failures("test")
    task.start()
    await eventually(lambda: len(starts) == 3)

    assert starts == [None] * 3
    assert failures("test") == before + 2
    await task.stop()


async def test_trouble_is_reported_unless_work_runs() -> None:
    task = BackgroundTask("test", raises)
    assert task.unready_reason() == "the task test is not running"

    task.start()
    await eventually(lambda: failures("test") > 0)
    assert task.unready_reason() is not None

    await task.stop()
    assert task.unready_reason() is not None


async def test_work_that_swallows_its_cancellation_is_stopped() -> None:
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    task = BackgroundTask("swallows", work)
    task.start()
    await began.wait()

    async with asyncio.timeout(LONG):
        await task.stop()

    assert failures("swallows") == 0


async def test_unexpected_failure_of_spawned_task_is_logged() -> None:
    async def expected() -> None:
        raise Unavailable

    before = failures("spawned")
    with capture_logs() as lines:
        done = [spawn("spawned", raises()), spawn("spawned", expected())]
        await asyncio.wait(done)
        await eventually(lambda: lines)

    assert [(line["event"], line["task"]) for line in lines] == [("task failed", "spawned")]
    assert failures("spawned") == before + 1


async def test_closing_waits_for_spawned_tasks() -> None:
    finished: list[str] = []
    tasks = BackgroundTasks()

    async def work() -> None:
        finished.append("work")

    tasks.spawn("quick", work())
    await tasks.close(grace=LONG)

    assert finished == ["work"]


async def test_closing_cancels_late_tasks() -> None:
    cancelled = asyncio.Event()
    tasks = BackgroundTasks()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    tasks.spawn("late", work())
    await tasks.close(grace=0.001)

    assert cancelled.is_set()


class Fault(NamedTuple):
    """What fails in a task: a method that runs in it."""

    task: str
    owner: type
    method: str
    engine: str = "redis"


FAULTS = [
    Fault("redis connection", Reconnector, "_sync_clock"),
    Fault("redis connection", RedisCluster, "_sync_clock", engine="cluster"),
    Fault("bus heartbeat", RedisBus, "publish"),
    Fault("lobby", Lobby, "run"),
    Fault("lobby listener", Lobby, "_listen"),
    Fault("lobby listener", Lobby, "_deliver"),
    Fault("lobby poller", Lobby, "_reconcile"),
    Fault("lobby expiry", Lobby, "expire_due"),
    Fault("pool scheduler", PoolScheduler, "_maintain_all"),
    Fault("app cache", AppCache, "refresh"),
    Fault("audit trail", SqlAuditLog, "_write"),
]


def is_in(name: str) -> bool:
    """Whether the caller runs in the task of that name."""
    task = asyncio.current_task()
    return task is not None and task.get_name() == name


@pytest.fixture(params=FAULTS, ids=lambda fault: f"{fault.task}-{fault.method}-{fault.engine}")
async def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fault:
    """One that fails twice in its task from now on, and works then."""
    fault: Fault = request.param
    method: Any = getattr(fault.owner, fault.method)
    end = failures(fault.task) + 2

    async def fails(*arguments: Any, **named: Any) -> Any:
        if is_in(fault.task) and failures(fault.task) < end:
            raise RuntimeError
        return await method(*arguments, **named)

    monkeypatch.setattr(fault.owner, fault.method, fails)
    return fault


async def is_ready(broker: RunningBroker) -> bool:
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.get("/health/ready") as response,
    ):
        return response.status == 200


async def test_logins_work_after_a_task_failed(
    fault: Fault, engines: Engines, start_broker: StartBroker
) -> None:
    wanted = failures(fault.task) + 2
    broker = await start_broker(ready=False, state_url=engines.url(fault.engine))

    async def has_failed() -> bool:
        with suppress(TimeoutError, Refused, SocketIOError):  # as they may, in between
            await asyncio.wait_for(logs_in(broker.url), LONG)
        return failures(fault.task) >= wanted

    await eventually(has_failed, within=LONG)
    await eventually(lambda: is_ready(broker), within=LONG)

    assert await logs_in(broker.url)


async def test_supervisor_survives_a_worker_that_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails as if the system had no processes left."""
    once = Supervisor([sys.executable, "-c", "print(1)"], [{}], stop_timeout=1)
    start, starts = Supervisor._start, []

    async def fails_at_first(self: Supervisor, place: int) -> str:
        starts.append(place)
        if len(starts) == 2:
            raise OSError
        return await start(self, place)

    monkeypatch.setattr(Supervisor, "_start", fails_at_first)
    running = asyncio.create_task(once.run(lambda line: None))

    await eventually(lambda: len(starts) > 3, within=LONG)

    assert not running.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await running


def test_failure_is_reported_with_its_fields() -> None:
    with capture_logs() as lines:
        report("test", RuntimeError(), app="shop")

    assert (lines[0]["task"], lines[0]["app"]) == ("test", "shop")
