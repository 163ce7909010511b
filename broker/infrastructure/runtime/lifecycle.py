"""Starts and stops what the broker consists of.

open     stage 1 ─▶ stage 2 ─▶ … ─▶ tasks start ─▶ ready
close    tasks stop ─▶ … ─▶ stage 2 ─▶ stage 1
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from aiohttp import web

from broker.infrastructure.background import BackgroundTask

ReadinessCheck = Callable[[], str | None]
"""Why this instance should get no traffic; None if it should."""


async def do_nothing() -> None:
    """The `open` of a resource that is only closed."""


class Resource(NamedTuple):
    """What is opened before the broker serves, and closed after it."""

    open: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]


class Lifecycle:
    """Opens resources, runs background tasks, and knows whether the instance is ready.

    stages: the resources of a stage are opened together; stages in turn.
    drain: refuses new sockets.  close_sockets: closes the open ones.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[Resource]],
        *,
        drain: Callable[[], None],
        close_sockets: Callable[[], Awaitable[None]],
    ) -> None:
        self._stages = stages
        self._drain = drain
        self._close_sockets = close_sockets
        self._tasks: list[BackgroundTask] = []
        self._checks: list[ReadinessCheck] = []
        self._is_open = False
        self._is_draining = False

    def add(self, tasks: Iterable[BackgroundTask], checks: Iterable[ReadinessCheck]) -> None:
        """Add background tasks and readiness checks; the first failing check is reported."""
        self._tasks.extend(tasks)
        self._checks.extend(checks)

    def unready_reason(self) -> str | None:
        """Why this instance should get no browsers now; None if it should."""
        if self._is_draining:
            return "draining"
        if not self._is_open:
            return "starting"
        return next((reason for check in self._checks if (reason := check())), None)

    def drain(self) -> None:
        """Refuse new sockets from now on; logins in progress finish."""
        self._is_draining = True
        self._drain()

    async def run(self, application: web.Application) -> AsyncIterator[None]:
        """Open, and close when the application is cleaned up; for `cleanup_ctx`."""
        for stage in self._stages:
            await asyncio.gather(*(resource.open() for resource in stage))
        for task in self._tasks:
            task.start()
        self._is_open = True
        yield
        for task in self._tasks:
            await task.stop()
        for stage in reversed(self._stages):
            for resource in reversed(stage):
                await resource.close()

    async def close_sockets(self, application: web.Application) -> None:
        """Drain, and close every socket; for `on_shutdown`."""
        self.drain()
        await self._close_sockets()
