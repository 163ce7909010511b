"""Joins open parts into one application: the one place that knows all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from broker.bus import Bus, open_bus
from broker.directories import DIRECTORIES, Directory
from broker.edge.browser import BrowserEdge
from broker.edge.gate import Addresses, Gate, Origins
from broker.edge.oauth import OAuthEdge, pages_may_ask
from broker.edge.phone import PhoneEdge
from broker.edge.public import PublicEdge
from broker.edge.wire import BODY_MAX_BYTES, DEFAULT_APP, add_headers, answer_failures
from broker.engine import Server
from broker.flow import Flow
from broker.lobby import Lobby
from broker.providers import Provider
from broker.providers.pretend import PretendProvider
from broker.records import App
from broker.records.settings import SettingsApps
from broker.sessions import Sessions
from broker.settings import Settings
from broker.state import Clock, Store, open_state
from broker.tokens import Issuer, KeyFile

log = structlog.get_logger()

PROVIDERS: Mapping[str, Callable[[Settings], Provider]] = {
    "pretend": lambda settings: PretendProvider(phone_page_url=settings.phone_page_url),
}
"""How each provider is made from the settings, by name."""

LOBBY_RETRY = 1.0
"""Seconds until the lobby starts again after a failure."""


@dataclass(frozen=True, slots=True)
class Broker:
    """The public application and the one for the operator's port."""

    public: web.Application
    admin: web.Application


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The parts that know nothing of the wire."""

    clock: Clock
    apps: SettingsApps
    issuer: Issuer
    sessions: Sessions
    flow: Flow
    lobby: Lobby
    store: Store
    bus: Bus

    async def open(self) -> None:
        await asyncio.gather(self.store.open(), self.bus.open())

    async def close(self) -> None:
        await self.flow.close()
        await self.bus.close()
        await self.store.close()


def build(
    settings: Settings, *, clock: Clock | None = None, directory: Directory | None = None
) -> Broker:
    """A broker as `settings` want it, with nothing running yet.

    `clock` and `directory` replace those that the settings name.

    Raises KeyFileUnusable.
    """
    return _with_edge(settings, _open_core(settings, clock, directory))


def _open_core(settings: Settings, clock: Clock | None, directory: Directory | None) -> Core:
    store = open_state(settings.state_url, clock, replicas=settings.replicas)
    clock = store.clock
    bus = open_bus(settings.bus_url or settings.state_url)
    apps = SettingsApps([_default_app(settings)])
    provider = PROVIDERS[settings.provider](settings)
    issuer = Issuer(
        file=KeyFile(settings.key_file),
        algorithm=settings.token_algorithm,
        issuer=settings.public_url,
        lifetime=settings.token_lifetime,
        now=clock(),
    )
    flow = Flow(
        logins=store.logins,
        bus=bus,
        apps=apps,
        provider=provider,
        directory=directory or DIRECTORIES[settings.directory](),
        issuer=issuer,
        clock=clock,
        instance=settings.instance,
        lifetime=settings.login_lifetime,
    )
    return Core(
        clock=clock,
        apps=apps,
        issuer=issuer,
        sessions=Sessions(
            store=store.sessions, provider=provider, clock=clock, lifetime=settings.session_lifetime
        ),
        flow=flow,
        lobby=Lobby(bus=bus, flow=flow, clock=clock, instance=settings.instance),
        store=store,
        bus=bus,
    )


def _with_edge(settings: Settings, core: Core) -> Broker:
    addresses = Addresses(settings.trusted_proxies)
    server = Server(allow_origin=Origins(core.apps), describe=addresses.caller)
    door: dict[str, Any] = {
        "flow": core.flow,
        "apps": core.apps,
        "clock": core.clock,
        "gate": Gate(
            begins=settings.begins_per_minute,
            misses=settings.misses_per_minute,
            interval=settings.interval,
        ),
    }
    browsers = BrowserEdge(server=server, lobby=core.lobby, interval=settings.interval, **door)
    phones = PhoneEdge(server=server, sessions=core.sessions, addresses=addresses, **door)
    oauth = OAuthEdge(
        addresses=addresses,
        public_url=settings.public_url,
        interval=settings.interval,
        **door,
    )
    running = Running(core, browsers, server)
    public = PublicEdge(
        issuer=core.issuer,
        ready=running.trouble,
        clock=core.clock,
        public_url=settings.public_url,
    )
    application = _application(
        [*phones.routes(), *oauth.routes(), *public.routes()], pages_may_ask(core.apps)
    )
    server.attach(application)
    application.cleanup_ctx.append(running.context)
    application.on_shutdown.append(running.close_sockets)
    return Broker(application, _application(public.admin_routes()))


def _application(routes: Iterable[web.RouteDef], *middlewares: Middleware) -> web.Application:
    application = web.Application(
        middlewares=[*middlewares, answer_failures], client_max_size=BODY_MAX_BYTES
    )
    application.on_response_prepare.append(add_headers)
    application.add_routes(routes)
    return application


def _default_app(settings: Settings) -> App:
    return App(
        id=DEFAULT_APP,
        name=settings.app_name,
        origins=frozenset(settings.origins),
        register_url=settings.register_url,
    )


class Running:
    """What runs beside the requests, the lobby, and what is closed after them."""

    def __init__(self, core: Core, browsers: BrowserEdge, server: Server) -> None:
        self._core = core
        self._browsers = browsers
        self._server = server
        self._trouble: str | None = "starting"

    def trouble(self) -> str | None:
        """Why this instance should get no browsers now; None when it should."""
        if self._trouble is None and self._core.store.trouble() is not None:
            return "the state cannot be reached"
        if self._trouble is None and not self._core.lobby.hears:
            return "no notices are heard"
        return self._trouble

    async def context(self, application: web.Application) -> AsyncIterator[None]:
        await self._core.open()
        task = asyncio.create_task(self._keep_lobby())
        self._trouble = None
        yield
        task.cancel()
        await asyncio.wait([task])
        await self._core.close()

    async def close_sockets(self, application: web.Application) -> None:
        self._trouble = "draining"
        await self._server.close()

    async def _keep_lobby(self) -> None:
        while True:
            try:
                await self._core.lobby.run(self._browsers.push)
            except Exception:  # browsers must be woken again, whatever it was
                log.exception("the lobby failed and starts again")
            await asyncio.sleep(LOBBY_RETRY)
