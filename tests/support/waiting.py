"""Waits for a condition or for a server, with a generous limit."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from broker.errors import Unavailable
from broker.infrastructure.coordination import Bus, Notice
from broker.state import StateBackend

T = TypeVar("T")

START_TIMEOUT = 120.0
"""Maximum seconds until a server answers."""


def listens(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


def wait_for_start(process: subprocess.Popen[bytes], is_up: Callable[[], bool]) -> None:
    """Wait until the server that `process` runs is up."""

    def has_started() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        return is_up()

    wait_until(has_started, START_TIMEOUT)


def wait_until(condition: Callable[[], T], within: float = 60.0) -> T:
    """Wait until `condition()` is true, outside of an event loop, and return its value."""
    end = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)
    return value


async def eventually(condition: Callable[[], object], within: float = 60.0) -> None:
    """Wait until `condition()` holds; it may be a coroutine function."""
    async with asyncio.timeout(within):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            await asyncio.sleep(0.02)


async def opened(store: StateBackend) -> None:
    """Open `store` and wait until it is available: the first connect may fail on a busy machine."""
    await store.open()
    await eventually(lambda: store.unavailable_reason() is None)


async def opened_bus(bus: Bus) -> None:
    """Open `bus` and wait until it carries notices."""

    async def carries() -> bool:
        with suppress(Unavailable):
            async with bus.listen("probe") as notices:
                await bus.publish("probe", Notice("login-scanned", "probe"))
                await anext(notices)
                return True
        return False

    await bus.open()
    await eventually(carries)
