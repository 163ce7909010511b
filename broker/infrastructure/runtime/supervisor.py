"""Several brokers on one port: starts the processes, starts again what dies, ends with them.

                 ┌── worker 0 ── listens
    supervisor ──┤
                 └── worker 1 ── listens

Each worker is an instance of its own that listens for itself; the kernel shares
the connections out.  It is the supervisor's own command once more, with some
variables of its own.  Its standard input is a pipe that nobody writes to: the end
of it says that the supervisor is gone, even when that was killed.  The first line
of its standard output says that it is ready.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import structlog

from broker.errors import StartupError
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.runtime.signals import on_shutdown_signal

log = structlog.get_logger()

STABLE_UPTIME = 10.0
"""Seconds after which a worker has worked: when it dies then, it is started again at once."""

MIN_RESTART_DELAY, MAX_RESTART_DELAY = 0.1, 5.0
"""Seconds before a worker that died sooner is started again; doubled each time."""


class Supervisor:
    """command: what starts a worker.  variables: what each has in its environment beside ours.

    patience: seconds that workers get to end before they are killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        variables: Sequence[Mapping[str, str]],
        *,
        stop_timeout: float,
    ) -> None:
        self._command = command
        self._variables = variables
        self._patience = stop_timeout
        self._processes: dict[int, Process] = {}
        self._told = asyncio.Event()

    async def run(self, ready: Callable[[str], None]) -> None:
        """Keep all workers running until told to end; `ready` is given the line of the first.

        Raises WorkerFailure when one cannot start, or has to be killed in the end.
        """
        on_shutdown_signal(self._pass_on)
        try:
            ready_line = await self._start_all()
            if not self._told.is_set():
                ready(ready_line)
                await self._keep_all()
        finally:
            killed = await self._end()
        if killed:
            raise WorkerFailure(f"{killed} of the workers did not end and had to be killed")

    async def _start_all(self) -> str:
        # One goes ahead: what keeps all from starting is said once, and one makes the key file.
        first = await self._start(0)
        others = range(1, len(self._variables)) if first else ()
        lines = [first, *await asyncio.gather(*(self._start(place) for place in others))]
        if not all(lines) and not self._told.is_set():
            raise WorkerFailure("a worker could not start; it has said why")
        return first

    async def _start(self, place: int) -> str:
        """Start a worker and wait until it is ready; its line, empty when it ended instead."""
        process = await asyncio.create_subprocess_exec(
            *self._command, env={**os.environ, **self._variables[place]}, stdin=PIPE, stdout=PIPE
        )
        self._processes[place] = process
        if self._told.is_set():
            process.terminate()
        assert process.stdout is not None
        return (await process.stdout.readline()).decode().strip()

    async def _keep_all(self) -> None:
        keepers = [
            BackgroundTask("worker", partial(self._keep, place)) for place in self._processes
        ]
        for keeper in keepers:
            keeper.start()
        await self._told.wait()
        for keeper in keepers:
            await keeper.stop()

    async def _keep(self, place: int) -> None:
        """Start a worker again whenever it dies; one that dies soon, later each time."""
        pause = 0.0
        while True:
            began = time.monotonic()
            exit_code = await self._processes[place].wait()
            steady = time.monotonic() - began > STABLE_UPTIME
            pause = 0.0 if steady else min(2 * pause or MIN_RESTART_DELAY, MAX_RESTART_DELAY)
            log.error("a worker died and is started again", worker=place, exit_code=exit_code)
            await asyncio.sleep(pause)
            await self._start(place)

    def _pass_on(self, number: signal.Signals) -> None:
        """Tell all workers what we are told; whoever tells us twice is in a hurry."""
        drains = number is signal.SIGTERM and not self._told.is_set()
        self._tell(signal.SIGTERM if drains else signal.SIGINT)
        self._told.set()

    def _tell(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _end(self) -> int:
        """Wait until all workers have ended; how many had to be killed."""
        if not self._told.is_set():
            self._tell(signal.SIGINT)
        ends = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        late = (await asyncio.wait(ends, timeout=self._patience))[1] if ends else ()
        if late:
            self._tell(signal.SIGKILL)
            await asyncio.wait(late)
        return len(late)


class WorkerFailure(StartupError):
    """Not all workers started, or not all of them ended."""
