"""Runs several workers on one port, and restarts workers that die.

                 ┌── worker 0 ── listens
    supervisor ──┤
                 └── worker 1 ── listens

Each worker is an instance that listens by itself, and the kernel distributes connections. A
worker runs the supervisor's command with other environment variables. Its standard input is a
pipe without data: the pipe closes when the supervisor ends, even if it is killed. The first line
of its standard output means that it is ready.
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
"""Seconds of running after which a worker that dies is restarted at once."""

MIN_RESTART_DELAY, MAX_RESTART_DELAY = 0.1, 5.0
"""Seconds before a worker that died sooner is restarted; doubled each time."""


class Supervisor:
    """Starts, restarts and stops workers.

    command: starts a worker.
    variables: additional environment variables of each worker.
    stop_timeout: seconds after which workers that do not end are killed.
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
        self._stop_timeout = stop_timeout
        self._processes: dict[int, Process] = {}
        self._is_stopping = asyncio.Event()

    async def run(self, ready: Callable[[str], None]) -> None:
        """Keep all workers running until a shutdown signal arrives.

        ready: called with the first line of the first worker once all are ready.
        Raises WorkerFailure if a worker cannot start, or had to be killed.
        """
        on_shutdown_signal(self._forward)
        try:
            ready_line = await self._start_all()
            if not self._is_stopping.is_set():
                ready(ready_line)
                await self._restart_until_stopped()
        finally:
            killed = await self._stop_all()
        if killed:
            raise WorkerFailure(f"{killed} of the workers did not end and had to be killed")

    async def _start_all(self) -> str:
        # The others start after the first, so that an error of all workers is printed once, and
        # that one of them creates the key file.
        first = await self._start(0)
        others = range(1, len(self._variables)) if first else ()
        lines = [first, *await asyncio.gather(*map(self._start, others))]
        if not all(lines) and not self._is_stopping.is_set():
            raise WorkerFailure("a worker could not start; its own message has the reason")
        return first

    async def _start(self, worker: int) -> str:
        """Start a worker and return its first line, or an empty line if it has ended."""
        process = await asyncio.create_subprocess_exec(
            *self._command, env={**os.environ, **self._variables[worker]}, stdin=PIPE, stdout=PIPE
        )
        self._processes[worker] = process
        if self._is_stopping.is_set():
            process.terminate()
        assert process.stdout is not None
        return (await process.stdout.readline()).decode().strip()

    async def _restart_until_stopped(self) -> None:
        tasks = [
            BackgroundTask("worker", partial(self._restart, worker)) for worker in self._processes
        ]
        for task in tasks:
            task.start()
        await self._is_stopping.wait()
        for task in tasks:
            await task.stop()

    async def _restart(self, worker: int) -> None:
        """Restart a worker whenever it dies, after a delay if it dies early."""
        delay = 0.0
        while True:
            started_at = time.monotonic()
            exit_code = await self._processes[worker].wait()
            is_stable = time.monotonic() - started_at > STABLE_UPTIME
            delay = 0.0 if is_stable else min(2 * delay or MIN_RESTART_DELAY, MAX_RESTART_DELAY)
            log.error("worker died", worker=worker, exit_code=exit_code, restart_in=delay)
            await asyncio.sleep(delay)
            await self._start(worker)

    def _forward(self, number: signal.Signals) -> None:
        """Send the signal to all workers. A second SIGTERM becomes SIGINT, which ends the drain."""
        drains = number is signal.SIGTERM and not self._is_stopping.is_set()
        self._send_all(signal.SIGTERM if drains else signal.SIGINT)
        self._is_stopping.set()

    def _send_all(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _stop_all(self) -> int:
        """Wait until all workers have ended, and return how many had to be killed."""
        if not self._is_stopping.is_set():
            self._send_all(signal.SIGINT)
        ends = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        running = (await asyncio.wait(ends, timeout=self._stop_timeout))[1] if ends else ()
        if running:
            self._send_all(signal.SIGKILL)
            await asyncio.wait(running)
        return len(running)


class WorkerFailure(StartupError):
    """A worker could not start, or did not end."""
