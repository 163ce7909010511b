"""Joins the parts and the edges into one application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from broker.background import BackgroundTask
from broker.directories import Directory
from broker.edge import openapi
from broker.edge.addresses import Addresses
from broker.edge.admin import AdminEdge, guarded_by
from broker.edge.admin_users import UserAdminEdge
from broker.edge.browser import BrowserEdge
from broker.edge.discovery import metadata_routes
from broker.edge.gate import SOCKETS, Gate, Origins
from broker.edge.oauth import OAuthEdge, pages_may_ask
from broker.edge.phone import PhoneEdge
from broker.edge.public import PublicEdge
from broker.edge.sessions import SessionsEdge
from broker.edge.wire import BODY_MAX_BYTES, Prepare, add_headers, answering
from broker.engine import WELCOME, ClientLimits, RateLimiter, Server, open_server
from broker.limits import rate_limit_key
from broker.lobby import Push
from broker.metrics import FLOODS
from broker.parts import Core, open_core
from broker.pictures import Shown
from broker.settings import Settings
from broker.state import Clock, Leases


@dataclass(frozen=True, slots=True)
class Broker:
    """The public application and the one for the operator's port.

    drain: lets no newcomers in from now on, and says so at `/health/ready`.
    trouble: why `/health/ready` is not 200; None if it is.
    leases: its pools, to be looked at.
    """

    public: web.Application
    admin: web.Application
    drain: Callable[[], None]
    trouble: Callable[[], str | None]
    leases: Leases


class Hall(NamedTuple):
    """What the edges share."""

    settings: Settings
    core: Core
    server: Server
    addresses: Addresses
    gate: Gate

    def door(self) -> dict[str, Any]:
        """What every edge is made with."""
        core = self.core
        return {"flow": core.flow, "apps": core.apps, "clock": core.clock, "gate": self.gate}


class Mounted(NamedTuple):
    """What an edge adds to the application.  push: tells a browser; only browsers are told."""

    routes: Iterable[web.RouteDef] = ()
    push: Push | None = None


def _mount_browsers(hall: Hall) -> Mounted:
    edge = BrowserEdge(
        server=hall.server, lobby=hall.core.lobby, interval=hall.settings.interval, **hall.door()
    )
    return Mounted(push=edge.push)


def _mount_phones(hall: Hall) -> Mounted:
    edge = PhoneEdge(
        server=hall.server,
        sessions=hall.core.sessions,
        people=hall.core.records.people,
        addresses=hall.addresses,
        **hall.door(),
    )
    return Mounted(routes=edge.routes())


def _mount_oauth(hall: Hall) -> Mounted:
    edge = OAuthEdge(
        addresses=hall.addresses,
        public_url=hall.settings.public_url,
        interval=hall.settings.interval,
        pictures_url=f"{hall.settings.pictures_public_url}/",
        **hall.door(),
    )
    return Mounted(routes=edge.routes())


def _mount_sessions(hall: Hall) -> Mounted:
    token = hall.settings.admin_token
    edge = SessionsEdge(
        sessions=hall.core.sessions,
        apps=hall.core.apps,
        secrets=hall.core.records.apps,
        gate=hall.gate,
        addresses=hall.addresses,
        clock=hall.core.clock,
        admin_token=token.get_secret_value() if token else None,
    )
    return Mounted(routes=edge.routes())


MOUNTS: Mapping[str, Callable[[Hall], Mounted]] = {
    "browser": _mount_browsers,
    "phone": _mount_phones,
    "oauth": _mount_oauth,
    "sessions": _mount_sessions,
}
"""How each role is served.  Sockets and logic can so run in processes of their own."""


def build(
    settings: Settings, *, clock: Clock | None = None, directory: Directory | None = None
) -> Broker:
    """A broker as `settings` want it, with nothing running yet.

    `clock` and `directory` replace those that the settings name.

    Raises KeyFileUnusable, or SettingsWrong for an address that names nothing.
    """
    return _with_edge(settings, open_core(settings, clock, directory))


def _with_edge(settings: Settings, core: Core) -> Broker:
    addresses = Addresses(settings.trusted_proxies, settings.forwarded_header)
    server = open_server(
        settings.engine,
        allow_origin=Origins(core.apps),
        describe=addresses.caller,
        rates=_rate_limiter(settings),
    )
    gate = Gate(
        begins=settings.begins_per_minute,
        misses=settings.misses_per_minute,
        interval=settings.interval,
    )
    hall = Hall(settings, core, server, addresses, gate)
    mounted = [MOUNTS[role](hall) for role in settings.roles]
    push = next((one.push for one in mounted if one.push), None)
    running = Running(core, push, server, gate)
    public = PublicEdge(
        issuer=core.issuer,
        ready=running.trouble,
        public_url=settings.public_url,
        pictures=Shown(core.pictures),
        addresses=addresses,
    )
    routes = [
        *public.routes(),
        *metadata_routes(settings.public_url),
        *(route for one in mounted for route in one.routes),
        openapi.route("Scan-login broker", settings.public_url),
    ]
    prefix = urlsplit(settings.public_url).path
    if prefix:
        routes += _below(prefix, routes)
    application = _application(routes, answering(gate.check_handshake), pages_may_ask(core.apps))
    if server.handlers:  # or every handshake would open a socket that can join nothing
        for path in {"", prefix}:
            server.attach(application, f"{path}{SOCKETS}")
        _watch_door(application, gate)
    application.cleanup_ctx.append(running.context)
    application.on_shutdown.append(running.close_sockets)
    admin_routes = [
        *public.admin_routes(),
        *_admin_routes(settings, core),
        openapi.route("Scan-login broker: administration"),
    ]
    admin = _application(admin_routes, answering())
    return Broker(application, admin, running.drain, running.trouble, core.store.leases)


def _rate_limiter(settings: Settings) -> RateLimiter:
    limits = ClientLimits(
        socket_frames=settings.socket_packets_per_minute,
        address_frames=settings.address_packets_per_minute,
        polling=settings.polling_sessions_per_address,
    )
    return RateLimiter(
        limits,
        key_of=lambda caller: rate_limit_key(caller.browser.ip),
        refused=lambda limit: FLOODS.labels(limit).inc(),
    )


def _below(prefix: str, routes: Iterable[web.RouteDef]) -> list[web.RouteDef]:
    """The same routes under the public URL's path, for a proxy that does not strip it."""

    async def to_index(request: web.Request) -> web.Response:
        raise web.HTTPPermanentRedirect(f"{prefix}/")  # the page has relative links

    moved = [web.RouteDef(one.method, prefix + one.path, one.handler, one.kwargs) for one in routes]
    return [web.get(prefix, to_index), *moved]


def _watch_door(application: web.Application, gate: Gate) -> None:
    """Nobody is let in at the door once the gate is closed: they hear why where all requests do."""
    welcome = application.get(WELCOME)
    if welcome is not None:
        application[WELCOME] = lambda knock: gate.is_open and welcome(knock)


def _admin_routes(settings: Settings, core: Core) -> Iterable[web.RouteDef]:
    """Apps can be changed over the admin port where a token is set that opens it, and users
    where they are looked for in the records."""
    if settings.admin_token is None:
        return ()
    guard, records = guarded_by(settings.admin_token.get_secret_value()), core.records
    routes = AdminEdge(book=records.book, apps=records.apps, guard=guard).routes()
    if settings.directory == "sql":
        routes += UserAdminEdge(book=records.users, guard=guard).routes()
    return routes


def _application(
    routes: Iterable[web.RouteDef], middleware: Middleware, *prepare: Prepare
) -> web.Application:
    application = web.Application(middlewares=[middleware], client_max_size=BODY_MAX_BYTES)
    application.on_response_prepare.extend([add_headers, *prepare])
    application.add_routes(routes)
    return application


class Running:
    """What runs beside the requests, and what is closed after them.

    push: tells a browser.  None where no browsers come, and then no lobby runs.
    """

    def __init__(self, core: Core, push: Push | None, server: Server, gate: Gate) -> None:
        self._core = core
        self._push = push
        self._server = server
        self._gate = gate
        self._started = False
        self._draining = False

    def trouble(self) -> str | None:
        """Why this instance should get no browsers now; None when it should."""
        if self._draining:
            return "draining"
        if not self._started:
            return "starting"
        if self._core.store.trouble() is not None:
            return "the state cannot be reached"
        if (refusal := self._core.store.refusal()) is not None:
            return f"the state refuses writes: {refusal}"
        lobby = None if self._push is None else self._core.lobby.trouble()
        return lobby or self._core.monitor.trouble() or self._core.records_trouble()

    def drain(self) -> None:
        """Let nobody begin here from now on; whoever has begun is served."""
        self._draining = True
        self._gate.close()

    async def context(self, application: web.Application) -> AsyncIterator[None]:
        await self._core.open()
        tasks = [
            BackgroundTask("pool keeper", self._core.keeper.run),
            BackgroundTask("monitor", self._core.monitor.run),
        ]
        if self._push is not None:
            tasks.append(BackgroundTask("lobby", partial(self._core.lobby.run, self._push)))
        for task in tasks:
            task.start()
        self._started = True
        yield
        for task in tasks:
            await task.stop()
        await self._core.close()

    async def close_sockets(self, application: web.Application) -> None:
        """Nobody listens any more: browsers that come back come to another instance."""
        self.drain()
        await self._server.close()
