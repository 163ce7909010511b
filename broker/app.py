"""Joins the parts and the edges into one application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from broker.apps import api as apps
from broker.apps.api import AppsAPI
from broker.apps.origins import OriginPolicy
from broker.identity.ports import Directory
from broker.infrastructure.api import openapi
from broker.infrastructure.api.authorization import OPERATOR, admin_token_authenticator
from broker.infrastructure.api.bodies import BODY_MAX_BYTES
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.cors import allow_cors
from broker.infrastructure.api.endpoint import Route, bind_endpoints
from broker.infrastructure.api.errors import error_middleware
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.responses import ResponseHook, add_headers
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.rate_limit import rate_limit_key
from broker.infrastructure.runtime.drain import SOCKET_IO_PATH, DrainGate
from broker.infrastructure.settings import Settings
from broker.infrastructure.transport.engines import open_server
from broker.infrastructure.transport.rate_limit import (
    REFUSED_SESSIONS,
    ClientLimits,
    TransportRateLimiter,
)
from broker.infrastructure.transport.socketio.server import SocketIOServer as Server
from broker.infrastructure.transport.websocket.acceptor import UPGRADE_HANDLER
from broker.login.browser_api import LoginBrowserAPI
from broker.login.device_api import LoginDeviceAPI
from broker.login.discovery_api import metadata_routes
from broker.login.limits import LoginLimits
from broker.login.lobby import Push
from broker.login.phone_api import LoginPhoneAPI
from broker.monitoring import api as monitoring
from broker.monitoring.api import HealthAPI
from broker.parts import Core, open_context
from broker.pool import api as pool
from broker.pool.api import PicturesAPI
from broker.pool.pictures import PictureCache
from broker.pool.ports import CodeLeases
from broker.sessions.limits import SessionLimits
from broker.sessions.server_api import SessionServerAPI
from broker.tokens import api as tokens
from broker.tokens.api import KeySetAPI
from broker.users import admin_api as users
from broker.users.admin_api import UsersAdminAPI
from broker.users.phone_api import REGISTRATIONS_PER_MINUTE
from broker.widget import api as widget
from broker.widget.api import WidgetAPI


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
    leases: CodeLeases


class Context(NamedTuple):
    """What the edges share."""

    settings: Settings
    core: Core
    server: Server
    addresses: ClientAddresses
    login_limits: LoginLimits
    session_limits: SessionLimits
    failures: RateLimiter

    def door(self) -> dict[str, Any]:
        """What every edge is made with."""
        core = self.core
        return {
            "flow": core.flow,
            "apps": core.apps,
            "clock": core.clock,
            "failures": self.failures,
        }


class Mounted(NamedTuple):
    """What an edge adds to the application.  push: tells a browser; only browsers are told."""

    routes: Iterable[web.AbstractRouteDef] = ()
    push: Push | None = None


def _mount_browsers(hall: Context) -> Mounted:
    edge = LoginBrowserAPI(
        server=hall.server,
        redeemer=hall.core.redeemer,
        lobby=hall.core.lobby,
        limits=hall.login_limits,
        interval=hall.settings.interval,
        **hall.door(),
    )
    return Mounted(push=edge.push)


def _mount_phones(hall: Context) -> Mounted:
    edge = LoginPhoneAPI(
        server=hall.server,
        sessions=hall.core.sessions,
        people=hall.core.records.user_lookup,
        session_limits=hall.session_limits,
        registrations=RateLimiter(REGISTRATIONS_PER_MINUTE),
        addresses=hall.addresses,
        **hall.door(),
    )
    return Mounted(routes=edge.routes())


def _mount_oauth(hall: Context) -> Mounted:
    edge = LoginDeviceAPI(
        redeemer=hall.core.redeemer,
        limits=hall.login_limits,
        addresses=hall.addresses,
        public_url=hall.settings.public_url,
        interval=hall.settings.interval,
        pictures_url=f"{hall.settings.pictures_public_url}/",
        **hall.door(),
    )
    return Mounted(routes=edge.routes())


def _mount_sessions(hall: Context) -> Mounted:
    token = hall.settings.admin_token
    edge = SessionServerAPI(
        sessions=hall.core.sessions,
        apps=hall.core.apps,
        secrets=hall.core.records.apps,
        limits=hall.session_limits,
        failures=hall.failures,
        addresses=hall.addresses,
        clock=hall.core.clock,
        admin_token=token.get_secret_value() if token else None,
    )
    return Mounted(routes=edge.routes())


FEATURES: Mapping[str, Callable[[Context], Mounted]] = {
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

    Raises KeyFileError, or InvalidSettings for an address that names nothing.
    """
    return _mount_features(settings, open_context(settings, clock, directory))


def _mount_features(settings: Settings, core: Core) -> Broker:
    addresses = ClientAddresses(settings.trusted_proxies, settings.forwarded_header)
    server = open_server(
        settings.engine,
        is_origin_allowed=OriginPolicy(core.apps),
        describe_request=addresses.caller,
        rate_limiter=_rate_limiter(settings),
    )
    drain = DrainGate()
    hall = Context(
        settings,
        core,
        server,
        addresses,
        LoginLimits(
            begins_per_minute=settings.begins_per_minute, interval=settings.interval, drain=drain
        ),
        SessionLimits(per_minute=settings.begins_per_minute),
        RateLimiter(settings.misses_per_minute),
    )
    mounted = [FEATURES[role](hall) for role in settings.roles]
    push = next((one.push for one in mounted if one.push), None)
    running = Lifecycle(core, push, server, drain)
    health = HealthAPI(unready_reason=running.unready_reason)
    pictures = PicturesAPI(pictures=PictureCache(core.pictures), addresses=addresses)
    routes: list[web.AbstractRouteDef] = [
        *bind_endpoints(WidgetAPI(public_url=settings.public_url), widget.ENDPOINTS),
        *bind_endpoints(KeySetAPI(issuer=core.issuer), tokens.ENDPOINTS),
        *bind_endpoints(pictures, pool.ENDPOINTS),
        *bind_endpoints(health, monitoring.PUBLIC_ENDPOINTS),
        *metadata_routes(settings.public_url),
        *(route for one in mounted for route in one.routes),
    ]
    routes.append(openapi.openapi_route("Scan-login broker", routes, settings.public_url))
    prefix = urlsplit(settings.public_url).path
    if prefix:
        routes += _below(prefix, routes)
    application = build_application(
        routes,
        error_middleware(drain.check_handshake),
        allow_cors(lambda origin: origin in core.apps.origins()),
    )
    if server.handlers:  # or every handshake would open a socket that can join nothing
        for path in {"", prefix}:
            server.attach(application, f"{path}{SOCKET_IO_PATH}")
        _refuse_while_draining(application, drain)
    application.cleanup_ctx.append(running.run)
    application.on_shutdown.append(running.close_sockets)
    admin_routes: list[web.AbstractRouteDef] = [
        *bind_endpoints(health, monitoring.ADMIN_ENDPOINTS),
        *_admin_routes(settings, core),
    ]
    admin_routes.append(openapi.openapi_route("Scan-login broker: administration", admin_routes))
    admin = build_application(admin_routes, error_middleware())
    return Broker(application, admin, running.drain, running.unready_reason, core.store.code_leases)


def _rate_limiter(settings: Settings) -> TransportRateLimiter:
    limits = ClientLimits(
        socket_frames=settings.socket_packets_per_minute,
        address_frames=settings.address_packets_per_minute,
        polling_sessions=settings.polling_sessions_per_address,
    )
    return TransportRateLimiter(
        limits,
        key_of=lambda caller: rate_limit_key(caller.ip),
        on_refused=lambda limit: REFUSED_SESSIONS.labels(limit).inc(),
    )


def _below(prefix: str, routes: Iterable[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
    """The same routes under the public URL's path, for a proxy that does not strip it."""

    async def to_index(request: web.Request) -> web.Response:
        raise web.HTTPPermanentRedirect(f"{prefix}/")  # the page has relative links

    return [web.get(prefix, to_index), *(_moved(one, prefix) for one in routes)]


def _moved(route: web.AbstractRouteDef, prefix: str) -> web.AbstractRouteDef:
    if isinstance(route, Route):
        return replace(route, prefix=prefix)
    assert isinstance(route, web.RouteDef)
    return web.RouteDef(route.method, prefix + route.path, route.handler, route.kwargs)


def _refuse_while_draining(application: web.Application, drain: DrainGate) -> None:
    """While draining, an upgrade request takes the path of other requests, which refuses it."""
    accept = application.get(UPGRADE_HANDLER)
    if accept is not None:
        application[UPGRADE_HANDLER] = lambda request: drain.is_open and accept(request)


def _admin_routes(settings: Settings, core: Core) -> Iterable[web.AbstractRouteDef]:
    """Apps can be changed over the admin port where a token is set that opens it, and users
    where they are looked for in the records."""
    if settings.admin_token is None:
        return ()
    records = core.records
    operator = {OPERATOR: admin_token_authenticator(settings.admin_token.get_secret_value())}
    apps_api = AppsAPI(app_admin=records.app_admin, refresh=records.apps.refresh)
    routes = bind_endpoints(apps_api, apps.ENDPOINTS, operator)
    if settings.directory == "sql":
        users_api = UsersAdminAPI(user_admin=records.user_admin, identity_admin=records.user_admin)
        routes += bind_endpoints(users_api, users.ENDPOINTS, operator)
    return routes


def build_application(
    routes: Iterable[web.AbstractRouteDef], middleware: Middleware, *prepare: ResponseHook
) -> web.Application:
    application = web.Application(middlewares=[middleware], client_max_size=BODY_MAX_BYTES)
    application.on_response_prepare.extend([add_headers, *prepare])
    application.add_routes(routes)
    return application


class Lifecycle:
    """What runs beside the requests, and what is closed after them.

    push: tells a browser.  None where no browsers come, and then no lobby runs.
    """

    def __init__(self, core: Core, push: Push | None, server: Server, gate: DrainGate) -> None:
        self._core = core
        self._push = push
        self._server = server
        self._gate = gate
        self._started = False
        self._draining = False

    def unready_reason(self) -> str | None:
        """Why this instance should get no browsers now; None when it should."""
        if self._draining:
            return "draining"
        if not self._started:
            return "starting"
        if self._core.store.unavailable_reason() is not None:
            return "the state cannot be reached"
        if (refusal := self._core.store.refusal()) is not None:
            return f"the state refuses writes: {refusal}"
        lobby = None if self._push is None else self._core.lobby.unready_reason()
        return lobby or self._core.monitor.unready_reason() or self._core.records_trouble()

    def drain(self) -> None:
        """Let nobody begin here from now on; whoever has begun is served."""
        self._draining = True
        self._gate.close()

    async def run(self, application: web.Application) -> AsyncIterator[None]:
        await self._core.open()
        tasks = [
            BackgroundTask("pool scheduler", self._core.keeper.run),
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
