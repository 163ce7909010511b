"""Runs web applications on their ports until the process is told to stop."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import NamedTuple

import structlog
from aiohttp import web

from broker.engine import WELCOME, Doorman, Welcome
from broker.errors import PortTaken
from broker.signals import heed

log = structlog.get_logger()

Orders = asyncio.Queue[signal.Signals]
"""What the process is told, by signals."""

GRACE = 2.5
"""Seconds that requests under way get to end once nobody listens, and again once they are
told to.  With the sockets' own and the default drain a process ends within 10 seconds:
what Docker gives it."""


QUIET_WITHIN = 30.0
"""Seconds in which a connection says what it wants, all headers of it, and again after each
answer: aiohttp gives an hour.  A proxy that keeps connections open should do so for less."""


class Site(NamedTuple):
    """An application and where it listens.

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


class Drain(NamedTuple):
    """What comes between a SIGTERM and the end of listening.

    begin: called at once.  pause: in seconds.
    """

    begin: Callable[[], None]
    pause: float


async def serve_until_stopped(
    sites: Iterable[Site],
    ready: Callable[[dict[str, str]], None],
    drain: Drain | None = None,
    *,
    supervised: bool = False,
) -> None:
    """Serve all sites, call `ready` with their addresses by name, and end when told to.

    SIGTERM drains first.  `supervised`: also end when standard input does, which
    our supervisor holds open.  Raises PortTaken.
    """
    orders: Orders = asyncio.Queue()
    heed(orders.put_nowait)
    if supervised:
        _watch_supervisor(orders)
    async with serving(sites) as addresses:
        ready(addresses)
        if await orders.get() is signal.SIGTERM and drain is not None:
            drain.begin()
            with suppress(TimeoutError):
                async with asyncio.timeout(drain.pause):
                    await _told_to_hurry(orders, supervised)


def _watch_supervisor(orders: Orders) -> None:
    """Nothing is ever written to us; what comes is the end, however the supervisor met its own."""
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(sys.stdin)
        orders.put_nowait(signal.SIGINT)

    loop.add_reader(sys.stdin, ended)


async def _told_to_hurry(orders: Orders, supervised: bool) -> None:
    """Wait for whoever will not wait: a second SIGTERM, or SIGINT.

    A worker may well hear one SIGTERM twice, from its supervisor and from systemd,
    which tells every process of a service: only SIGINT hurries it.
    """
    while await orders.get() is signal.SIGTERM and supervised:
        continue


@asynccontextmanager
async def serving(sites: Iterable[Site]) -> AsyncIterator[dict[str, str]]:
    """Serve all sites inside the ``async with`` block, which gets their addresses by name."""
    addresses: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for site in sites:
            # No client of ours compresses; what unpacks to a thousandfold is an attack.
            runner = web.AppRunner(
                site.application,
                access_log=None,
                shutdown_timeout=GRACE,
                auto_decompress=False,
                keepalive_timeout=QUIET_WITHIN,
                tcp_keepalive=False,  # who is gone is found sooner: here, or by the heartbeat
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


@contextmanager
def reserved(host: str, port: int, variable: str) -> Iterator[int]:
    """Hold a port for processes of ours, while inside the ``with`` block; 0 takes a free one.

    It is bound and never listened on, or connections would wait here for nobody.
    Raises PortTaken, also when whoever has the port would share it.
    """
    try:
        holder = _bind(host, port)
    except OSError as error:
        raise PortTaken(_reason(error, "broker", host, port, variable)) from None
    with holder:
        # Only now: with it the port could be had from whoever else shares theirs.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield holder.getsockname()[1]


def _bind(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, _, _, address = found[0]
    # Connections that ended lately keep the port from a socket without SO_REUSEADDR;
    # one with it can be bound beside another such that does not listen yet.
    for reuse in (0, 1):
        holder = socket.socket(family, kind)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        try:
            holder.bind(address)
        except OSError as error:
            holder.close()
            refusal = error
        else:
            return holder
    raise refusal


class _DoorSite(web.BaseSite):
    """A site at whose door connections are asked first what they want."""

    def __init__(self, runner: web.AppRunner, site: Site, welcome: Welcome) -> None:
        super().__init__(runner)
        self._site = site
        self._welcome = welcome
        self._silent: set[Doorman] = set()
        self._patience = QUIET_WITHIN

    @property
    def name(self) -> str:
        return f"http://{self._site.host}:{self._site.port}"

    async def start(self) -> None:
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            self._doorman, self._site.host, self._site.port, reuse_port=self._site.shared
        )

    async def stop(self) -> None:
        await super().stop()
        self._patience = 0.0  # for who was let in while it stopped
        for doorman in [*self._silent]:
            doorman.dismiss()

    def _doorman(self) -> Doorman:
        lead_on = self._runner.server
        assert lead_on is not None
        return Doorman(self._welcome, lead_on, self._patience, self._silent)


def _site(runner: web.AppRunner, site: Site) -> web.BaseSite:
    welcome = site.application.get(WELCOME)
    if welcome is not None:
        return _DoorSite(runner, site, welcome)
    return web.TCPSite(runner, site.host, site.port, reuse_port=site.shared)


async def _listen(runner: web.AppRunner, site: Site) -> str:
    try:
        await _site(runner, site).start()
    except OSError as error:
        raise PortTaken(_reason(error, site.name, site.host, site.port, site.variable)) from None
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reason(error: OSError, name: str, host: str, port: int, variable: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is taken, so the {name} cannot listen there: "
            f"choose another with {variable}=…"
        )
    if error.errno in (errno.EACCES, errno.EADDRNOTAVAIL) or isinstance(error, socket.gaierror):
        return f"the {name} cannot listen on {host}:{port}: {error.strerror}"
    raise error
