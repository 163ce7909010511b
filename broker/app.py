"""Joins open parts into one application: the one place that knows all of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from broker.accounts import RETRY_AFTER, Account, Accounts
from broker.bus import Bus, open_bus
from broker.codes import CodeSource
from broker.directories import Directory
from broker.directories.http import HttpDirectory
from broker.directories.open import OpenDirectory
from broker.directories.sql import SqlDirectory
from broker.edge import openapi
from broker.edge.admin import AdminEdge, guarded_by
from broker.edge.admin_users import UserAdminEdge
from broker.edge.browser import BrowserEdge
from broker.edge.gate import Addresses, Gate, Origins
from broker.edge.oauth import OAuthEdge, pages_may_ask
from broker.edge.phone import PhoneEdge
from broker.edge.public import PublicEdge
from broker.edge.sessions import SessionsEdge
from broker.edge.wire import BODY_MAX_BYTES, DEFAULT_APP, Prepare, add_headers, answering
from broker.engine import WELCOME, Server, open_server
from broker.errors import ProviderFails, SettingsWrong, UnknownApp
from broker.flow import Flow
from broker.lobby import Lobby, Push
from broker.pictures import Pictures, Shown
from broker.pool import Pool
from broker.providers import NAMES, Provider
from broker.providers.pretend import PretendProvider
from broker.providers.wechat import WeChatProvider
from broker.records import App, Apps, Records, open_records
from broker.records.seal import Keys, SealFile, read_key
from broker.records.settings import SettingsApps
from broker.sessions import Sessions
from broker.settings import APPID, PREFIX, Settings
from broker.state import Clock, Store, open_state
from broker.tokens import Issuer, KeyFile

log = structlog.get_logger()


def _pretend(settings: Settings, account: Account) -> Provider:
    if not settings.may_pretend:
        raise ProviderFails(
            "the provider pretend believes everybody, and this broker can be reached from "
            f"elsewhere: set {PREFIX}ALLOW_PRETEND=true if that is meant",
            RETRY_AFTER,
        )
    return PretendProvider(phone_page_url=settings.phone_page_url)


def _wechat(settings: Settings, account: Account) -> Provider:
    if not (re.fullmatch(APPID, account.app_id) and account.secret):
        raise ProviderFails(
            f"the provider wechat wants an AppID and an AppSecret, and {account.app_id!r} "
            f"{'has no secret' if account.secret == '' else 'is no AppID'}",
            RETRY_AFTER,
        )
    return WeChatProvider(
        appid=account.app_id,
        secret=account.secret,
        api_url=settings.wechat_api_url,
        page=settings.wechat_page,
        env_version=settings.wechat_env_version,
        check_path=settings.wechat_check_path,
        width=settings.wechat_width,
        codes_per_minute=settings.wechat_codes_per_minute,
    )


PROVIDERS: Mapping[str, Callable[[Settings, Account], Provider]] = {
    "pretend": _pretend,
    "wechat": _wechat,
}
"""How each provider is made for an account, by name."""


def _webhook(settings: Settings, records: Records, clock: Clock) -> Directory:
    return HttpDirectory(
        url=settings.directory,
        signing_secrets=[one.get_secret_value() for one in settings.directory_secret],
        private=settings.directory_private,
        clock=clock,
    )


DIRECTORIES: Mapping[str, Callable[[Settings, Records, Clock], Directory]] = {
    "open": lambda settings, records, clock: OpenDirectory(),
    "sql": lambda settings, records, clock: SqlDirectory(records.people),
    "https": _webhook,
    "http": _webhook,
}
"""How each directory is made from the settings, by name or by the scheme of its URL."""

LOBBY_RETRY = 1.0
"""Seconds until the lobby starts again after a failure."""


@dataclass(frozen=True, slots=True)
class Broker:
    """The public application and the one for the operator's port.

    drain: lets no newcomers in from now on, and says so at `/health/ready`.
    """

    public: web.Application
    admin: web.Application
    drain: Callable[[], None]


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
    accounts: Accounts
    directory: Directory
    pictures: Pictures
    records: Records

    async def open(self) -> None:
        """Raises RecordsUnusable."""
        await self.records.open()  # alone: without apps nobody can be served
        await asyncio.gather(
            self.store.open(), self.bus.open(), self.accounts.open(), self.directory.open()
        )

    async def close(self) -> None:
        await self.flow.close()
        await self.directory.close()
        await self.accounts.close()
        await self.bus.close()
        await self.store.close()
        await self.records.close()


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
    return _with_edge(settings, _open_core(settings, clock, directory))


@asynccontextmanager
async def provider_of(settings: Settings, records: Records, app_id: str) -> AsyncIterator[Provider]:
    """The provider of an app, by open records, to be used meanwhile.

    Raises UnknownApp, or ProviderFails, whose `reason` says more.
    """
    apps = SettingsApps([_default_app(settings)], records.apps)
    app = await apps.get(app_id)
    if app is None:
        raise UnknownApp
    accounts = _accounts(settings, apps, records)
    try:
        yield await accounts.provider(app)
    finally:
        await accounts.close()


async def try_provider(settings: Settings, records: Records, app_id: str) -> str:
    """Draw a code that nobody will scan; the name of the provider that did.  Raises as above."""
    async with provider_of(settings, records, app_id) as provider:
        await provider.draw("a" * provider.scene_max)
        return provider.name


def _open_core(settings: Settings, clock: Clock | None, directory: Directory | None) -> Core:
    store, bus = _connections(settings, clock)
    clock = store.clock
    records = records_of(settings, clock)
    apps = SettingsApps([_default_app(settings)], records.apps)
    accounts = _accounts(settings, apps, records)
    directory = directory or _directory(settings, records, clock)
    pictures = pictures_of(settings)
    pool = Pool(
        leases=store.leases,
        pictures=pictures,
        clock=clock,
        rest=settings.pool_rest,
        uses=settings.pool_uses,
    )
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
        trail=records.trail,
        codes=CodeSource(accounts=accounts, pool=pool),
        directory=directory,
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
            store=store.sessions,
            accounts=accounts,
            directory=directory,
            seal_keys=records.seal_keys,
            clock=clock,
            lifetime=settings.session_lifetime,
            idle=settings.session_idle or settings.session_lifetime,
        ),
        flow=flow,
        lobby=Lobby(bus=bus, flow=flow, clock=clock, instance=settings.instance),
        store=store,
        bus=bus,
        accounts=accounts,
        directory=directory,
        pictures=pictures,
        records=records,
    )


def _accounts(settings: Settings, apps: Apps, records: Records) -> Accounts:
    own = [Account("pretend")] if settings.may_pretend else []
    if settings.wechat_appid is not None and settings.wechat_secret is not None:
        own.append(
            Account("wechat", settings.wechat_appid, settings.wechat_secret.get_secret_value())
        )
    return Accounts(
        apps=apps,
        secrets=records.apps,
        own=own,
        makers={name: partial(make, settings) for name, make in PROVIDERS.items()},
    )


def _directory(settings: Settings, records: Records, clock: Clock) -> Directory:
    name = urlsplit(settings.directory).scheme or settings.directory
    return DIRECTORIES[name](settings, records, clock)


def records_of(settings: Settings, clock: Clock) -> Records:
    """The records that the settings name, not yet connected.

    Raises KeyFileUnusable, or SettingsWrong for an address that names nothing.
    """
    try:
        return open_records(
            settings.records_url,
            load_seal_keys=partial(_seal_keys, settings),
            providers=(settings.provider, *(name for name in NAMES if name != settings.provider)),
            taken=(DEFAULT_APP,),
            clock=clock,
            trail_lifetime=settings.trail_lifetime,
        )
    except ValueError as error:
        raise SettingsWrong([f"{PREFIX}RECORDS_URL: {error}"]) from None


def pictures_of(settings: Settings) -> Pictures:
    """Where the settings keep pictures; raises SettingsWrong for an address that names nothing."""
    try:
        return Pictures(
            settings.pictures_url,
            public_url=settings.pictures_public_url,
            endpoint=settings.pictures_endpoint,
        )
    except ValueError as error:
        raise SettingsWrong([f"{PREFIX}PICTURES_URL: {error}"]) from None


def _seal_keys(settings: Settings) -> Keys:
    given = [read_key(key.get_secret_value()) for key in settings.seal_keys]
    return given or SealFile(settings.seal_file).keys()


def _connections(settings: Settings, clock: Clock | None) -> tuple[Store, Bus]:
    """State and bus; raises SettingsWrong for an address that is none."""
    bus_url = settings.bus_url or settings.state_url
    name = "STATE_URL"
    try:
        store = open_state(
            settings.state_url,
            clock,
            replicas=settings.replicas,
            tells=bus_url == settings.state_url,
        )
        name = "BUS_URL"
        return store, open_bus(bus_url)
    except ValueError as error:
        raise SettingsWrong([f"{PREFIX}{name}: {error}"]) from None


def _with_edge(settings: Settings, core: Core) -> Broker:
    addresses = Addresses(settings.trusted_proxies)
    server = open_server(
        settings.engine, allow_origin=Origins(core.apps), describe=addresses.caller
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
        clock=core.clock,
        public_url=settings.public_url,
        pictures=Shown(core.pictures),
    )
    routes = [
        *public.routes(),
        *(route for one in mounted for route in one.routes),
        openapi.route("Scan-login broker", settings.public_url),
    ]
    application = _application(routes, answering(gate.check_handshake), pages_may_ask(core.apps))
    if server.handlers:  # or every handshake would open a socket that can join nothing
        server.attach(application)
        _watch_door(application, gate)
    application.cleanup_ctx.append(running.context)
    application.on_shutdown.append(running.close_sockets)
    admin_routes = [
        *public.admin_routes(),
        *_admin_routes(settings, core),
        openapi.route("Scan-login broker: administration"),
    ]
    admin = _application(admin_routes, answering())
    return Broker(application, admin, running.drain)


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


def _default_app(settings: Settings) -> App:
    return App(
        id=DEFAULT_APP,
        name=settings.app_name,
        origins=frozenset(settings.origins),
        register_url=settings.register_url,
        provider=settings.provider,
    )


class Running:
    """What runs beside the requests, the lobby, and what is closed after them.

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
        if self._push is not None and not self._core.lobby.hears:
            return "no notices are heard"
        return None

    def drain(self) -> None:
        """Let nobody begin here from now on; whoever has begun is served."""
        self._draining = True
        self._gate.close()

    async def context(self, application: web.Application) -> AsyncIterator[None]:
        await self._core.open()
        tasks = [asyncio.create_task(self._keep_lobby(self._push))] if self._push else []
        self._started = True
        yield
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])
        await self._core.close()

    async def close_sockets(self, application: web.Application) -> None:
        """Nobody listens any more: browsers that come back come to another instance."""
        self.drain()
        await self._server.close()

    async def _keep_lobby(self, push: Push) -> None:
        while True:
            try:
                await self._core.lobby.run(push)
            except Exception:  # browsers must be woken again, whatever it was
                log.exception("the lobby failed and starts again")
            await asyncio.sleep(LOBBY_RETRY)
