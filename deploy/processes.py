"""Start and stop processes, and wait until they are ready."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import randrange

import aiohttp

START_TIMEOUT = 120.0
"""Seconds until a process must be ready. Generous, for a busy machine."""

STOP_TIMEOUT = 12.0
"""Seconds from SIGTERM to SIGKILL. A draining broker exits within 10."""


class ProcessNotReady(Exception):
    """A process ended or timed out before it was ready. The message has its output."""

    def __init__(self, name: str, output: str) -> None:
        super().__init__(f"{name} did not start: {output.strip() or 'no output'}")


class Process:
    """A running program, whose output goes to the file `log`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while the process runs."""
        return self._process.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children, unless the process has ended."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Stop the process by a signal, and by SIGKILL after STOP_TIMEOUT."""
        if self.exit_code is None:
            self._process.send_signal(by)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        await self._process.wait()


async def start_process(
    name: str,
    command: Sequence[str],
    folder: Path,
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start a program in a new process group, with its output in `<name>.log`.

    folder: of the log.
    environment: added to that of this process.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            process_group=0,  # Ctrl-C does not reach it, so its owner can stop all in order
        )
    return Process(name, process, log)


@asynccontextmanager
async def listening_process(
    name: str,
    command: Sequence[str],
    folder: Path,
    port: int,
    *,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Process]:
    """Run a program that listens on `port` of 127.0.0.1. Raises ProcessNotReady."""
    process = await start_process(name, command, folder, environment=environment)
    try:
        await wait_until_listening(process, port)
        yield process
    finally:
        await process.stop()


async def wait_until_ready(process: Process, url: str, *, within: float = START_TIMEOUT) -> None:
    """Return when `url` answers 200. Raises ProcessNotReady after `within` seconds."""
    async with aiohttp.ClientSession() as http:

        async def ready() -> bool:
            async with http.get(url) as response:
                return response.status == 200

        await _wait_until(process, ready, within)


async def wait_until_listening(process: Process, port: int) -> None:
    """Return when a process listens on `port`. Raises ProcessNotReady."""

    async def listening() -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True

    await _wait_until(process, listening, START_TIMEOUT)


async def _wait_until(
    process: Process, condition: Callable[[], Awaitable[bool]], within: float
) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            while process.exit_code is None:
                with suppress(OSError, aiohttp.ClientError):
                    if await condition():
                        return
                await asyncio.sleep(0.05)
    raise ProcessNotReady(process.name, process.log.read_text())


def free_port() -> int:
    """Return a free port below the range of ephemeral ports (32768 and up on Linux)."""
    ports = iter(lambda: randrange(15_000, 32_000), 0)  # noqa: S311  # not a secret
    return next(port for port in ports if is_port_free(port))


def is_port_free(port: int) -> bool:
    with socket.socket() as listener:
        # Servers set this option too: without it, a port that was just closed is in use.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
