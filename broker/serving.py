"""Runs web applications on their ports until the process is told to stop."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import structlog
from aiohttp import web

from broker.errors import PortTaken

log = structlog.get_logger()

GRACE = 5.0
"""Seconds that requests under way get to end once the process is told to stop."""


class Site(NamedTuple):
    """An application and where it listens.

    variable: what sets the port, for the sentence about a taken one.
    needed: whether the process ends when the port cannot be had.
    """

    name: str
    application: web.Application
    host: str
    port: int
    variable: str
    needed: bool = True


async def serve_until_stopped(
    sites: Iterable[Site], ready: Callable[[dict[str, str]], None]
) -> None:
    """Serve all sites, call `ready` with their addresses by name, and end on SIGINT or SIGTERM.

    Raises PortTaken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serving(sites) as addresses:
        ready(addresses)
        await stop.wait()


@asynccontextmanager
async def serving(sites: Iterable[Site]) -> AsyncIterator[dict[str, str]]:
    """Serve all sites inside the ``async with`` block, which gets their addresses by name."""
    addresses: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for site in sites:
            # No client of ours compresses; what unpacks to a thousandfold is an attack.
            runner = web.AppRunner(
                site.application, access_log=None, shutdown_timeout=GRACE, auto_decompress=False
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            try:
                addresses[site.name] = await _listen(runner, site)
            except PortTaken as error:
                if site.needed:
                    raise
                log.warning("site is off", site=site.name, reason=str(error))
        yield addresses


async def _listen(runner: web.AppRunner, site: Site) -> str:
    try:
        await web.TCPSite(runner, site.host, site.port).start()
    except OSError as error:
        raise PortTaken(_reason(site, error)) from None
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reason(site: Site, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {site.port} on {site.host} is taken, so the {site.name} cannot listen there: "
            f"choose another with {site.variable}=…"
        )
    if error.errno in (errno.EACCES, errno.EADDRNOTAVAIL) or isinstance(error, socket.gaierror):
        return f"the {site.name} cannot listen on {site.host}:{site.port}: {error.strerror}"
    raise error
