"""Starts and stops what the broker consists of.

open     stage 1 ─▶ stage 2 ─▶ … ─▶ tasks start ─▶ ready
close    tasks stop ─▶ … ─▶ stage 2 ─▶ stage 1

If a part cannot be opened, the parts before it are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from aiohttp import web

from broker.infrastructure.api.mounted import Mounted, ReadinessCheck, Resource
from broker.infrastructure.background import BackgroundTask

log = structlog.get_logger()


async def do_nothing() -> None:
    """The `open` of a resource that is only closed."""


class Lifecycle:
    """Opens resources, runs background tasks, and knows whether the instance is ready.

    stages: the resources of a stage are opened together; stages in turn.
    drain: refuses new sockets.  close_sockets: closes the open ones.
    fields: of the lines that are logged at the start, the drain and the end.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[Resource]],
        *,
        drain: Callable[[], None],
        close_sockets: Callable[[], Awaitable[None]],
        fields: Mapping[str, object],
    ) -> None:
        self._stages = list(stages)
        self._drain = drain
        self._close_sockets = [close_sockets]
        self._fields = fields
        self._tasks: list[BackgroundTask] = []
        self._checks: list[ReadinessCheck] = []
        self._is_open = False
        self._is_draining = False

    def check(self, *checks: ReadinessCheck) -> None:
        """Add readiness checks; the first that fails is the reason."""
        self._checks.extend(checks)

    def add(self, mounted: Mounted) -> None:
        """Add the tasks, resources, readiness checks and sockets of features."""
        self._stages.append(mounted.resources)
        self._tasks.extend(mounted.tasks)
        self._checks.extend(mounted.readiness)
        self._close_sockets.extend(mounted.close_sockets)

    def unready_reason(self) -> str | None:
        """Why this instance should get no browsers now; None if it should."""
        if self._is_draining:
            return "draining"
        if not self._is_open:
            return "starting"
        return next((reason for check in self._checks if (reason := check())), None)

    def drain(self) -> None:
        """Refuse new sockets from now on; logins in progress finish."""
        if not self._is_draining:
            log.info("instance draining", **self._fields)
        self._is_draining = True
        self._drain()

    async def run(self, application: web.Application) -> AsyncIterator[None]:
        """Open, and close when the application is cleaned up; for `cleanup_ctx`."""
        async with AsyncExitStack() as stack:
            for stage in self._stages:
                await stack.enter_async_context(_opened(stage))
            for task in self._tasks:
                task.start()
            self._is_open = True
            log.info("instance started", **self._fields)
            try:
                yield
            finally:
                for task in self._tasks:
                    await task.stop()
        log.info("instance stopped", **self._fields)

    async def close_sockets(self, application: web.Application) -> None:
        """Drain, and close every socket; for `on_shutdown`."""
        self.drain()
        await asyncio.gather(*(close() for close in self._close_sockets))


@asynccontextmanager
async def _opened(stage: Sequence[Resource]) -> AsyncIterator[None]:
    """Open the resources together, and close in reverse order those that were opened."""
    openings = [asyncio.create_task(_open(resource)) for resource in stage]
    try:
        await asyncio.gather(*openings)
        yield
    finally:
        for opening in openings:
            opening.cancel()  # has no effect on one that has ended
        outcomes = await asyncio.gather(*openings, return_exceptions=True)
        for resource, outcome in reversed([*zip(stage, outcomes, strict=True)]):
            if outcome is None:
                await resource.close()


async def _open(resource: Resource) -> None:
    """Open the resource. A part that it has opened before a failure is closed."""
    try:
        await resource.open()
    except BaseException:
        await resource.close()
        raise
