"""Programs that run until they are stopped, and waiting until they are of use."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import randrange

import aiohttp

START_WITHIN = 45.0
"""Seconds that a process gets to be of use: a bound for a machine that is very busy."""

STOP_WITHIN = 12.0
"""Seconds from SIGTERM to SIGKILL: a broker that drains is gone after 10."""


class DidNotStart(Exception):
    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"{name} did not start: {said.strip() or 'it said nothing'}")


class Process:
    """A program that runs until it is stopped; what it says goes to `log`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the program and its children; one that has ended hears nothing."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """End it as an operator would, and by force where that takes too long."""
        if self.exit_code is None:
            self._process.send_signal(by)
        try:
            async with asyncio.timeout(STOP_WITHIN):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        self.tell(signal.SIGKILL)
        await self._process.wait()


async def until_ready(process: Process, url: str) -> None:
    """Return once `url` answers 200; raises DidNotStart."""
    async with aiohttp.ClientSession() as http:

        async def ready() -> bool:
            async with http.get(url) as response:
                return response.status == 200

        await _until(process, ready)


async def until_listening(process: Process, port: int) -> None:
    """Return once something listens on `port`; raises DidNotStart."""

    async def listening() -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True

    await _until(process, listening)


async def _until(process: Process, condition: Callable[[], Awaitable[bool]]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(START_WITHIN):
            while process.exit_code is None:
                with suppress(OSError, aiohttp.ClientError):
                    if await condition():
                        return
                await asyncio.sleep(0.05)
    raise DidNotStart(process.name, process.log.read_text())


def free_port() -> int:
    """From below the ports that the system gives to whoever connects somewhere."""
    ports = iter(lambda: randrange(15_000, 32_000), 0)  # noqa: S311  # no secret
    return next(port for port in ports if is_free(port))


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        # As servers do: a port that was closed a moment ago is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
