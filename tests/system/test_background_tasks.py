"""A background task that ends for any reason is restarted, and logins work again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
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
from broker.infrastructure.notices import NoticeDispatcher
from broker.infrastructure.redis.cluster import RedisCluster
from broker.infrastructure.redis.reconnector import Reconnector
from broker.infrastructure.runtime.supervisor import Supervisor
from broker.login.lobby import Lobby
from broker.pool.scheduler import PoolScheduler
from broker.records.app_cache import AppCache
from broker.records.audit_log import SqlAuditLog
from broker.state.redis import StateConnections
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Refused
from tests.support.logins import logs_in
from tests.support.servers.redis import Engines
from tests.support.waiting import eventually

LONG = 30.0
"""Seconds. A limit that also a busy machine keeps."""


def failures(name: str) -> float:
    return TASK_FAILURES.labels(name)._value.get()


@pytest.fixture(autouse=True)
def _quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MIN_RESTART_DELAY", 0.001)


async def raises() -> None:
    raise RuntimeError


async def returns() -> None:
    """Return immediately."""


async def is_cancelled_from_inside() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("end_work", [raises, returns, is_cancelled_from_inside])
async def test_ended_task_is_counted_and_restarted(end_work: Callable[[], Awaitable[None]]) -> None:
    starts: list[str | None] = []

    async def work() -> None:
        starts.append(task.unready_reason())
        await (end_work() if len(starts) < 3 else asyncio.Event().wait())

    task, before = BackgroundTask("test", work), failures("test")
    task.start()
    await eventually(lambda: len(starts) == 3)

    assert starts == [None] * 3
    assert failures("test") == before + 2
    await task.stop()


async def test_task_that_is_not_running_is_reported() -> None:
    task = BackgroundTask("test", raises)
    assert task.unready_reason() == "the task test is not running"

    task.start()
    await eventually(lambda: failures("test") > 0)
    assert task.unready_reason() is not None

    await task.stop()
    assert task.unready_reason() is not None


async def test_task_that_swallows_cancellation_is_stopped() -> None:
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


async def test_close_waits_for_spawned_tasks() -> None:
    finished: list[str] = []
    tasks = BackgroundTasks()

    async def work() -> None:
        finished.append("work")

    tasks.spawn("quick", work())
    await tasks.close(grace=LONG)

    assert finished == ["work"]


async def test_close_cancels_late_tasks() -> None:
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
    """A method that fails in a background task."""

    task: str
    owner: type
    method: str
    engine: str = "redis"


FAULTS = [
    Fault("redis connection", Reconnector, "_sync_clock"),
    Fault("redis connection", RedisCluster, "_sync_clock", engine="cluster"),
    Fault("bus heartbeat", RedisBus, "publish"),
    Fault("lobby", Lobby, "run"),
    Fault("notice listener", NoticeDispatcher, "_listen"),
    Fault("notice listener", Lobby, "_deliver"),
    Fault("lobby poller", Lobby, "_reconcile"),
    Fault("lobby expiry", Lobby, "expire_due"),
    Fault("pool scheduler", PoolScheduler, "_maintain_all"),
    Fault("app cache", AppCache, "refresh"),
    Fault("audit log", SqlAuditLog, "store_queued"),
]


def is_in(name: str) -> bool:
    """Return whether the caller runs in the task of that name."""
    task = asyncio.current_task()
    return task is not None and task.get_name() == name


def break_method(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, is_broken: Callable[[], bool]
) -> None:
    """Make the method raise in its task while `is_broken()` holds."""
    method: Any = getattr(fault.owner, fault.method)

    async def fails(*arguments: Any, **named: Any) -> Any:
        if is_in(fault.task) and is_broken():
            raise RuntimeError
        return await method(*arguments, **named)

    monkeypatch.setattr(fault.owner, fault.method, fails)


def name_of(fault: Fault) -> str:
    return f"{fault.task}-{fault.method}-{fault.engine}"


@pytest.fixture(params=FAULTS, ids=name_of)
async def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fault:
    """Make the method fail twice in its task; later calls succeed."""
    fault: Fault = request.param
    end = failures(fault.task) + 2
    break_method(monkeypatch, fault, lambda: failures(fault.task) < end)
    return fault


async def readiness(broker: RunningBroker) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.get("/health/ready") as response,
    ):
        return response.status, (await response.json()).get("error_description", "")


async def is_ready(broker: RunningBroker) -> bool:
    return (await readiness(broker))[0] == 200


async def test_logins_work_after_failed_task(
    fault: Fault, engines: Engines, start_broker: StartBroker
) -> None:
    wanted_failures = failures(fault.task) + 2
    broker = await start_broker(ready=False, state_url=engines.url(fault.engine))

    async def has_failed() -> bool:
        # A login may fail between the two failures; a phone without a session has no id.
        with suppress(TimeoutError, Refused, SocketIOError, KeyError):
            await asyncio.wait_for(logs_in(broker.url), LONG)
        return failures(fault.task) >= wanted_failures

    await eventually(has_failed, within=LONG)
    await eventually(lambda: is_ready(broker), within=LONG)

    assert await logs_in(broker.url)


NEEDED = [
    Fault("redis connection", Reconnector, "_sync_clock"),
    Fault("redis connection", RedisCluster, "_sync_clock", engine="cluster"),
    Fault("lobby poller", Lobby, "_reconcile"),
    Fault("lobby expiry", Lobby, "expire_due"),
    Fault("notice listener", NoticeDispatcher, "_listen"),
]
"""Failures of tasks without which the instance is not ready."""


@pytest.mark.parametrize("fault", NEEDED, ids=name_of)
async def test_unready_broker_names_task_that_is_down(
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
    engines: Engines,
    start_broker: StartBroker,
) -> None:
    break_method(monkeypatch, fault, lambda: True)
    for delay in ("MIN_RESTART_DELAY", "MAX_RESTART_DELAY"):
        monkeypatch.setattr(background, delay, 3600.0)
    broker = await start_broker(ready=False, state_url=engines.url(fault.engine))

    async def names_task() -> bool:
        return await readiness(broker) == (503, f"the task {fault.task} is not running")

    await eventually(names_task, within=LONG)


async def test_broker_without_replica_connection_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, engines: Engines, start_broker: StartBroker
) -> None:
    async def open_main(self: StateConnections) -> None:
        await self.main.open()

    monkeypatch.setattr(StateConnections, "open", open_main)
    broker = await start_broker(ready=False, state_url=engines.url("redis"), replicas=1)

    async def names_task() -> bool:
        return await readiness(broker) == (503, "the task redis connection is not running")

    await eventually(names_task, within=LONG)


TASKS = {
    "app cache",
    "audit log",
    "audit numbering",
    "bus heartbeat",
    "changed tunnels",
    "deferred calls",
    "ended subjects",
    "lobby",
    "lobby expiry",
    "lobby poller",
    "lost tunnels",
    "monitor",
    "notice listener",
    "redis connection",
    "tunnel jobs",
    "tunnel news",
    "tunnel sweep",
}
"""Tasks of an instance with the usual settings, apart from those of chat."""


async def test_every_task_is_restarted(
    monkeypatch: pytest.MonkeyPatch, engines: Engines, start_broker: StartBroker
) -> None:
    starts: Counter[str] = Counter()
    start_once = BackgroundTask._run_once

    async def fails_twice(self: BackgroundTask) -> None:
        starts[self.name] += 1
        if starts[self.name] <= 2:
            monkeypatch.setattr(self, "_work", raises)
        else:
            monkeypatch.setattr(self, "_work", works[id(self)])
        await start_once(self)

    works: dict[int, Callable[[], Awaitable[None]]] = {}
    create = BackgroundTask.__init__

    def remember(self: BackgroundTask, name: str, work: Callable[[], Awaitable[None]]) -> None:
        create(self, name, work)
        works[id(self)] = work

    monkeypatch.setattr(BackgroundTask, "__init__", remember)
    monkeypatch.setattr(BackgroundTask, "_run_once", fails_twice)
    broker = await start_broker(
        ready=False, state_url=engines.url("redis"), chat_rooms="open", audit_chain=True
    )

    await eventually(lambda: min(starts[name] for name in TASKS) > 2, within=LONG)
    await eventually(lambda: is_ready(broker), within=LONG)

    assert await logs_in(broker.url)
    assert starts.keys() >= TASKS
    assert all(count > 2 for count in starts.values()), starts


async def test_supervisor_continues_if_worker_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The start fails with OSError, as at the process limit of the system."""
    supervisor = Supervisor([sys.executable, "-c", "print(1)"], [{}], stop_timeout=1)
    start, starts = Supervisor._start, []

    async def fails_at_first(self: Supervisor, place: int) -> str:
        starts.append(place)
        if len(starts) == 2:
            raise OSError
        return await start(self, place)

    monkeypatch.setattr(Supervisor, "_start", fails_at_first)
    running = asyncio.create_task(supervisor.run(lambda line: None))

    await eventually(lambda: len(starts) > 3, within=LONG)

    assert not running.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await running


def test_failure_is_reported_with_its_fields() -> None:
    with capture_logs() as lines:
        report("test", RuntimeError(), app="shop")

    assert (lines[0]["task"], lines[0]["app"]) == ("test", "shop")
