"""Background tasks. A task that ends is restarted; its failures are logged and counted.

        ┌──────── delay ◀─────────┐
        ▼                         │ raises, or returns
start ──▶ running ────────────────┘
             │ stop
             ▼
           stopped
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog

from broker.errors import BrokerError
from broker.infrastructure.observability.metrics import Counter

log = structlog.get_logger()

T = TypeVar("T")

MIN_RESTART_DELAY, MAX_RESTART_DELAY = 0.1, 5.0
"""Seconds before a restart; doubled after each failure."""

STABLE_UPTIME = 10.0
"""Seconds of running after which the next failure counts as the first one."""

Work = Callable[[], Awaitable[None]]


class BackgroundTask:
    """Runs `work` until stopped. Restarts it with backoff when it raises or returns.

    name: for the log and for `scanlogin_task_failures_total`.
    """

    def __init__(self, name: str, work: Work) -> None:
        self.name = name
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._is_running = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._supervise(), name=self.name)

    async def stop(self) -> None:
        """Cancel the work and wait until it has ended. Does nothing if it never started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def unready_reason(self) -> str | None:
        """Return why the task is not running, or None if it is."""
        if self._task is None or self._task.done() or not self._is_running:
            return f"the task {self.name} is not running"
        return None

    async def _supervise(self) -> None:
        delay = 0.0
        while not is_cancelled():
            began = time.monotonic()
            await self._run_once()
            if time.monotonic() - began > STABLE_UPTIME:
                delay = 0.0
            delay = min(2 * delay or MIN_RESTART_DELAY, MAX_RESTART_DELAY)
            await asyncio.sleep(delay * random.uniform(1, 1.25))  # noqa: S311  # no secret

    async def _run_once(self) -> None:
        """Do the work; return when it ends for any reason."""
        self._is_running = True
        try:
            await self._work()
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            report(self.name, error)  # an awaited task was cancelled, not the work
        except Exception as error:
            report(self.name, error)
        else:
            if not is_cancelled():
                TASK_FAILURES.labels(self.name).inc()
                log.error("task ended unexpectedly", task=self.name)
        finally:
            self._is_running = False


def report(name: str, error: BaseException, **fields: object) -> None:
    """Log and count an unexpected failure of the task `name`."""
    TASK_FAILURES.labels(name).inc()
    log.error("task failed", task=name, exc_info=error, **fields)


def spawn(
    name: str, work: Coroutine[Any, Any, T], *, expected: type[Exception] = BrokerError
) -> asyncio.Task[T]:
    """Start a task that runs once. An exception other than `expected` is logged and counted.

    The caller must keep a reference, or the task may be garbage-collected early.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(partial(_report_failure, expected))
    return task


class BackgroundTasks:
    """Owns tasks that run once and whose result is not needed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task. See the function `spawn`."""
        task = spawn(name, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, *, grace: float) -> None:
        """Wait for all tasks, and cancel those that take longer than `grace` seconds."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=grace)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


def _report_failure(expected: type[Exception], task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, expected):
        report(task.get_name(), error)


def is_cancelled() -> bool:
    """Return whether the current task is cancelled, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


TASK_FAILURES = Counter("scanlogin_task_failures", "Failures of background tasks", ["task"])
