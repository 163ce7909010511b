"""Runs single checks of `scan-login doctor`, and a relay between two programs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from broker.cli.checks.model import CheckResult, Installation, run_check
from broker.cli.checks.table import CHECKS
from broker.settings import find_values, load_settings
from tests.support.environment import miss


async def examine(name: str, **values: object) -> CheckResult:
    """Return the result of a check, after the checks that it needs. values: settings."""
    checks = {check.name: check for check in CHECKS}
    settings = load_settings(None, **values)
    async with AsyncExitStack() as stack:
        installation = Installation(find_values(), [], settings, stack)
        await _run_needs(name, installation)
        return await run_check(checks[name], installation)


async def _run_needs(name: str, installation: Installation) -> None:
    checks = {check.name: check for check in CHECKS}
    for need in checks[name].needs:
        await _run_needs(need, installation)
        result = await run_check(checks[need], installation)
        installation.results[need] = result.status


@asynccontextmanager
async def relay(
    target: int, *, host: str = "127.0.0.1", change: Callable[[bytes], bytes] = bytes
) -> AsyncIterator[int]:
    """Forward connections to a port of loopback, without any header. Yields the relay's port.

    change: returns what the client receives instead of the bytes of the target.
    """
    links: set[asyncio.StreamWriter] = set()

    async def copy(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, edit: Callable[[bytes], bytes]
    ) -> None:
        while data := await reader.read(65_536):
            writer.write(edit(data))
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inward, outward = await asyncio.open_connection("127.0.0.1", target)
        links.update((writer, outward))
        await asyncio.gather(copy(reader, outward, bytes), copy(inward, writer, change))

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for link in links:
            link.transport.abort()


def own_address() -> str:
    """Return an address of this machine that is not loopback. If there is none, call `miss`."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            miss("this machine has no network")
        return str(probe.getsockname()[0])
