"""Serves web applications on their ports until a shutdown signal arrives."""

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
from broker.infrastructure.runtime.listening import ListenAddress, PortInUse, open_sockets, url_of
from broker.infrastructure.runtime.signals import on_shutdown_signal
from broker.infrastructure.transport.timer_wheel import TimerWheel
from broker.infrastructure.transport.websocket.acceptor import (
    UPGRADE_HANDLER,
    UpgradeAcceptor,
    UpgradeHandler,
)

log = structlog.get_logger()

SignalQueue = asyncio.Queue[signal.Signals]
"""Received shutdown signals."""

SHUTDOWN_TIMEOUT = 2.5
"""Seconds for requests in progress once the sites have stopped listening, and again once they
are cancelled. Together with the shutdown of WebSockets and the default drain, a process ends
within 10 seconds, which is what Docker allows."""


IDLE_TIMEOUT = 30.0
"""Seconds for the headers of a request, and between two requests of a connection. aiohttp's
default is an hour. A proxy should close idle connections earlier."""

IDLE_TICKS = 30
"""Ticks in `IDLE_TIMEOUT`. An idle connection is closed up to one tick early."""


READY_INTERVAL = 0.02
"""Seconds between two checks whether the process is ready."""

NOT_READY_ATTEMPTS = 100
"""Checks after which the reason is logged."""


class Site(NamedTuple):
    """An application and its address.

    host: an address, or several, separated by commas.
    variable: the setting of the port, for the error message.
    needed: whether the process ends if it cannot listen on the port.
    shared: whether other workers listen on the same port.
    """

    name: str
    application: web.Application
    host: str
    port: int
    variable: str
    needed: bool = True
    shared: bool = False


class DrainPlan(NamedTuple):
    """What happens between a SIGTERM and the end of listening.

    start: called at once.
    delay: seconds.
    """

    start: Callable[[], None]
    delay: float


async def serve_until_signal(
    sites: Iterable[Site],
    ready: Callable[[dict[str, str]], None],
    drain: DrainPlan | None = None,
    *,
    unready_reason: Callable[[], str | None] = lambda: None,
    supervised: bool = False,
) -> None:
    """Serve all sites until a shutdown signal. SIGTERM drains before.

    ready: called with the addresses by name, once `unready_reason` returns None.
    supervised: also end when standard input closes, which the supervisor keeps open.
    Raises PortInUse.
    """
    signals: SignalQueue = asyncio.Queue()
    on_shutdown_signal(signals.put_nowait)
    if supervised:
        _watch_supervisor(signals)
    async with serve_sites(sites) as addresses:
        received = await _wait_until_ready(unready_reason, signals)
        if received is None:
            ready(addresses)
            received = await signals.get()
        if received is signal.SIGTERM and drain is not None:
            drain.start()
            with suppress(TimeoutError):
                async with asyncio.timeout(drain.delay):
                    await _wait_for_force(signals, supervised)


async def _wait_until_ready(
    unready_reason: Callable[[], str | None], signals: SignalQueue
) -> signal.Signals | None:
    """Wait until the process is ready. A signal ends the wait and is returned."""
    for attempt in count():
        reason = unready_reason()
        if reason is None:
            return None
        if attempt == NOT_READY_ATTEMPTS:
            log.warning("not ready", reason=reason)
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_INTERVAL):
                return await signals.get()
    raise AssertionError("unreachable")


def _watch_supervisor(signals: SignalQueue) -> None:
    """Treat the end of standard input as SIGINT. The supervisor never writes to it."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(sys.stdin)
        signals.put_nowait(signal.SIGINT)

    loop.add_reader(sys.stdin, end)


async def _wait_for_force(signals: SignalQueue, supervised: bool) -> None:
    """Wait for a second SIGTERM, or for SIGINT.

    A worker may get one SIGTERM twice: from its supervisor, and from systemd, which signals every
    process of a service. So only SIGINT ends the drain of a worker.
    """
    while await signals.get() is signal.SIGTERM and supervised:
        continue


@asynccontextmanager
async def serve_sites(sites: Iterable[Site]) -> AsyncIterator[dict[str, str]]:
    """Serve all sites inside the ``async with`` block, and yield their addresses by name."""
    addresses: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for site in sites:
            # No client compresses requests. A small compressed body could expand enormously.
            runner = Runner(
                site.application,
                access_log=None,
                shutdown_timeout=SHUTDOWN_TIMEOUT,
                auto_decompress=False,
                keepalive_timeout=IDLE_TIMEOUT,
                tcp_keepalive=False,  # IDLE_TIMEOUT and the heartbeat find lost clients earlier
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            try:
                addresses[site.name] = await _listen(runner, site)
            except PortInUse as error:
                if site.needed:
                    raise
                log.warning("site not started", site=site.name, reason=str(error))
        yield addresses


async def _stop_accepting(listener: socket.socket) -> None:
    """Accept no further connection. Return once each accepted one has its protocol.

    asyncio accepts a connection in one turn of its loop, creates the transport in the next and
    calls `connection_made` in the third. A site that stops in between would not close it.
    """
    asyncio.get_running_loop().remove_reader(listener)
    for _ in range(2):
        await asyncio.sleep(0)


class StoppingSite(web.SockSite):
    async def stop(self) -> None:
        await _stop_accepting(self._sock)
        await super().stop()


class UpgradeSite(web.BaseSite):
    """A site whose connections may be WebSocket upgrades, which bypass aiohttp's handlers."""

    def __init__(
        self, runner: web.AppRunner, listener: socket.socket, on_upgrade: UpgradeHandler
    ) -> None:
        super().__init__(runner)
        self._listener = listener
        self._on_upgrade = on_upgrade
        self._idle: TimerWheel[UpgradeAcceptor] = TimerWheel(
            tick=IDLE_TIMEOUT / IDLE_TICKS, horizon=IDLE_TIMEOUT, on_timeout=UpgradeAcceptor.close
        )

    @property
    def name(self) -> str:
        return url_of(self._listener.getsockname())

    async def start(self) -> None:
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            self._make_acceptor, sock=self._listener
        )

    async def stop(self) -> None:
        await _stop_accepting(self._listener)
        await super().stop()
        self._idle.stop()
        for acceptor in self._idle:
            acceptor.close()

    def _make_acceptor(self) -> UpgradeAcceptor:
        http_server = self._runner.server
        assert http_server is not None
        return UpgradeAcceptor(self._on_upgrade, http_server, IDLE_TIMEOUT, self._idle)


def _site(runner: web.AppRunner, site: Site, listener: socket.socket) -> web.BaseSite:
    on_upgrade = site.application.get(UPGRADE_HANDLER)
    if on_upgrade is not None:
        return UpgradeSite(runner, listener, on_upgrade)
    return StoppingSite(runner, listener)


async def _listen(runner: web.AppRunner, site: Site) -> str:
    """Listen for `site`, and return its URLs, joined with ` and `. Raises PortInUse."""
    requested = ListenAddress(site.name, site.host, site.port, site.variable)
    for listener in open_sockets(requested, shared=site.shared):
        await _site(runner, site, listener).start()
    return " and ".join(url_of(address) for address in runner.addresses)
