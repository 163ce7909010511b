"""Runs web applications on their ports until the process is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from typing import NamedTuple

import structlog
from aiohttp import web

from broker.infrastructure.runtime.http_runner import Runner
from broker.infrastructure.runtime.listening import ListenPlace, PortInUse, open_sockets, url_of
from broker.infrastructure.runtime.signals import on_shutdown_signal
from broker.infrastructure.transport.websocket.acceptor import (
    UPGRADE_HANDLER,
    UpgradeAcceptor,
    UpgradeHandler,
)

log = structlog.get_logger()

SignalQueue = asyncio.Queue[signal.Signals]
"""What the process is told, by signals."""

SHUTDOWN_TIMEOUT = 2.5
"""Seconds that requests under way get to end once nobody listens, and again once they are
told to.  With the sockets' own and the default drain a process ends within 10 seconds:
what Docker gives it."""


IDLE_TIMEOUT = 30.0
"""Seconds in which a connection says what it wants, all headers of it, and again after each
answer: aiohttp gives an hour.  A proxy that keeps connections open should do so for less."""


READY_INTERVAL = 0.02
"""Seconds between two checks whether the process is ready."""

NOT_READY_ATTEMPTS = 100
"""Checks after which the reason is logged."""


class Site(NamedTuple):
    """An application and where it listens.

    host: an address, or several, separated by commas.
    variable: what sets the port, for the sentence about a taken one.
    needed: whether the process ends when the port cannot be had.
    shared: whether other processes of ours listen on the same port.
    """

    name: str
    application: web.Application
    host: str
    port: int
    variable: str
    needed: bool = True
    shared: bool = False


class DrainPlan(NamedTuple):
    """What comes between a SIGTERM and the end of listening.

    begin: called at once.  pause: in seconds.
    """

    start: Callable[[], None]
    delay: float


async def serve_until_signal(
    sites: Iterable[Site],
    ready: Callable[[dict[str, str]], None],
    drain: DrainPlan | None = None,
    *,
    trouble: Callable[[], str | None] = lambda: None,
    supervised: bool = False,
) -> None:
    """Serve all sites, call `ready` with their addresses by name, and end when told to.

    `ready` is called once `trouble` gives no reason why the process is not.
    SIGTERM drains first.  `supervised`: also end when standard input does, which
    our supervisor holds open.  Raises PortInUse.
    """
    orders: SignalQueue = asyncio.Queue()
    on_shutdown_signal(orders.put_nowait)
    if supervised:
        _watch_supervisor(orders)
    async with serve_sites(sites) as addresses:
        order = await _while_not_ready(trouble, orders)
        if order is None:
            ready(addresses)
            order = await orders.get()
        if order is signal.SIGTERM and drain is not None:
            drain.start()
            with suppress(TimeoutError):
                async with asyncio.timeout(drain.delay):
                    await _wait_for_force(orders, supervised)


async def _while_not_ready(
    trouble: Callable[[], str | None], orders: SignalQueue
) -> signal.Signals | None:
    """Wait until the process is ready.  A signal ends the wait and is returned."""
    for attempt in count():
        reason = trouble()
        if reason is None:
            return None
        if attempt == NOT_READY_ATTEMPTS:
            log.warning("not ready", reason=reason)
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_INTERVAL):
                return await orders.get()
    raise AssertionError("unreachable")


def _watch_supervisor(orders: SignalQueue) -> None:
    """Nothing is ever written to us; what comes is the end, however the supervisor met its own."""
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(sys.stdin)
        orders.put_nowait(signal.SIGINT)

    loop.add_reader(sys.stdin, ended)


async def _wait_for_force(orders: SignalQueue, supervised: bool) -> None:
    """Wait for whoever will not wait: a second SIGTERM, or SIGINT.

    A worker may well hear one SIGTERM twice, from its supervisor and from systemd,
    which tells every process of a service: only SIGINT hurries it.
    """
    while await orders.get() is signal.SIGTERM and supervised:
        continue


@asynccontextmanager
async def serve_sites(sites: Iterable[Site]) -> AsyncIterator[dict[str, str]]:
    """Serve all sites inside the ``async with`` block, which gets their addresses by name."""
    addresses: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for site in sites:
            # No client of ours compresses; what unpacks to a thousandfold is an attack.
            runner = Runner(
                site.application,
                access_log=None,
                shutdown_timeout=SHUTDOWN_TIMEOUT,
                auto_decompress=False,
                keepalive_timeout=IDLE_TIMEOUT,
                tcp_keepalive=False,  # who is gone is found sooner: here, or by the heartbeat
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            try:
                addresses[site.name] = await _listen(runner, site)
            except PortInUse as error:
                if site.needed:
                    raise
                log.warning("site is off", site=site.name, reason=str(error))
        yield addresses


async def _stop_accepting(listener: socket.socket) -> None:
    """Accept no further connection; return once each accepted one has its protocol.

    asyncio accepts a connection in one turn of its loop, makes the transport in the next one
    and calls `connection_made` in the third.  A site that stops in between would not close it.
    """
    asyncio.get_running_loop().remove_reader(listener)
    for _ in range(2):
        await asyncio.sleep(0)


class StoppingSite(web.SockSite):
    async def stop(self) -> None:
        await _stop_accepting(self._sock)
        await super().stop()


class UpgradeSite(web.BaseSite):
    """A site at whose door connections are asked first what they want."""

    def __init__(
        self, runner: web.AppRunner, listener: socket.socket, welcome: UpgradeHandler
    ) -> None:
        super().__init__(runner)
        self._listener = listener
        self._welcome = welcome
        self._silent: set[UpgradeAcceptor] = set()

    @property
    def name(self) -> str:
        return url_of(self._listener.getsockname())

    async def start(self) -> None:
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            self._doorman, sock=self._listener
        )

    async def stop(self) -> None:
        await _stop_accepting(self._listener)
        await super().stop()
        for doorman in [*self._silent]:
            doorman.close()

    def _doorman(self) -> UpgradeAcceptor:
        lead_on = self._runner.server
        assert lead_on is not None
        return UpgradeAcceptor(self._welcome, lead_on, IDLE_TIMEOUT, self._silent)


def _site(runner: web.AppRunner, site: Site, listener: socket.socket) -> web.BaseSite:
    welcome = site.application.get(UPGRADE_HANDLER)
    if welcome is not None:
        return UpgradeSite(runner, listener, welcome)
    return StoppingSite(runner, listener)


async def _listen(runner: web.AppRunner, site: Site) -> str:
    """The URLs that `site` listens on, joined with ` and `; raises PortInUse."""
    place = ListenPlace(site.name, site.host, site.port, site.variable)
    for listener in open_sockets(place, shared=site.shared):
        await _site(runner, site, listener).start()
    return " and ".join(url_of(address) for address in runner.addresses)
