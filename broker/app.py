"""Composition root: builds backends and shared services, and mounts the features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import structlog
from aiohttp import hdrs, web

from broker import __version__
from broker.admin.hosts import AllowedHosts
from broker.admin.mount import mount as mount_admin
from broker.admin.settings import AdminSettings
from broker.apps.client_authentication import ClientAuthenticator
from broker.apps.mount import mount as mount_apps
from broker.apps.origins import OriginPolicy
from broker.audit.mount import mount as mount_audit
from broker.backends import Backends, open_backends
from broker.chat.mount import mount as mount_chat
from broker.context import Context
from broker.files.mount import mount as mount_files
from broker.identity.ports import Directory
from broker.infrastructure.api.application import build_application
from broker.infrastructure.api.client_address import Caller, ClientAddresses
from broker.infrastructure.api.cors import allow_cors
from broker.infrastructure.api.mounted import Mounted, ReadinessCheck, Resource, SocketRoute
from broker.infrastructure.api.openapi import public_openapi_route
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.settings import APISettings
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.fields import normalize_origin
from broker.infrastructure.notices import NOTICE_LISTENER, NoticeDispatcher
from broker.infrastructure.rate_limit import rate_limit_key
from broker.infrastructure.retries import RetryWorker
from broker.infrastructure.runtime.drain import SOCKET_IO_PATH, DrainGate
from broker.infrastructure.runtime.lifecycle import Lifecycle, do_nothing
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.infrastructure.transport.engines import open_server
from broker.infrastructure.transport.rate_limit import (
    REFUSED_SESSIONS,
    ClientLimits,
    TransportRateLimiter,
)
from broker.infrastructure.transport.settings import TransportSettings
from broker.infrastructure.transport.socketio.server import SocketIOServer
from broker.infrastructure.transport.websocket.acceptor import UPGRADE_HANDLER
from broker.login.mount import mount as mount_login
from broker.monitoring.mount import mount as mount_monitoring
from broker.oidc.mount import mount as mount_oidc
from broker.oidc.mount import mount_tokens as mount_token_endpoint
from broker.oidc.paths import READABLE_BY_PAGES
from broker.operators import build_operators
from broker.pool.mount import mount as mount_pool
from broker.pool.ports import CodeLeases
from broker.records.store import Records
from broker.services import Services, build_services
from broker.sessions.authentication import PhoneAuthenticator
from broker.sessions.mount import mount as mount_sessions
from broker.tokens.mount import mount as mount_tokens
from broker.tunnels.mount import mount as mount_tunnels
from broker.users.mount import mount as mount_users
from broker.wafer.mount import mount as mount_wafer
from broker.widget.mount import mount as mount_widget

log = structlog.get_logger()

TITLE = "Scan-login broker"
"""Of the OpenAPI documents."""


@dataclass(frozen=True, slots=True)
class Broker:
    """The applications of the public port and of the admin port.

    drain: refuses new logins and new sockets from now on; `/health/ready` is 503 then.
    unready_reason: returns why `/health/ready` is 503; None if it is 200.
    code_leases: the codes of all pools.
    """

    public: web.Application
    admin: web.Application
    drain: Callable[[], None]
    unready_reason: ReadinessCheck
    code_leases: CodeLeases


FEATURES: Mapping[str, Callable[[Context], Mounted]] = {
    "login": mount_login,
    "monitoring": mount_monitoring,
    "sessions": mount_sessions,
    "users": mount_users,
    "apps": mount_apps,
    "pool": mount_pool,
    "tokens": mount_tokens,
    "widget": mount_widget,
    "oidc": mount_oidc,
    "chat": mount_chat,
    "files": mount_files,
    "tunnels": mount_tunnels,
    "wafer": mount_wafer,
    "admin": mount_admin,
    "audit": mount_audit,
}


def build(
    settings: Settings, *, clock: Clock | None = None, directory: Directory | None = None
) -> Broker:
    """Return a broker that is not running yet.

    clock, directory: used instead of those that the settings name.
    Raises KeyFileError or InvalidSettings.
    """
    context, lifecycle = _build_context(settings, open_backends(settings, clock, directory))
    features = Mounted.join([mount(context) for mount in FEATURES.values()])
    mounted = Mounted.join(
        [
            features,
            mount_token_endpoint(context, features.grants),
            _mount_notices(context, features),
            _mount_retries(context.retries),
        ]
    )
    lifecycle.add(mounted)
    public = _build_public(context, mounted)
    public.cleanup_ctx.append(lifecycle.run)
    public.on_shutdown.append(lifecycle.close_sockets)
    admin = _build_admin(settings, mounted)
    return Broker(public, admin, lifecycle.drain, lifecycle.unready_reason, context.code_leases)


def _build_context(settings: Settings, backends: Backends) -> tuple[Context, Lifecycle]:
    services = build_services(settings, backends)
    addresses = _client_addresses(settings)
    failures = RateLimiter(settings[APISettings].misses_per_minute)
    socket_server = _build_socket_server(settings, backends, addresses)
    drain = DrainGate()
    fields = {"instance": settings[ServerSettings].instance, "version": __version__}
    lifecycle = _build_lifecycle(backends, services, drain, socket_server, fields)
    context = Context(
        settings=settings,
        backends=backends,
        services=services,
        socket_server=socket_server,
        addresses=addresses,
        drain=drain,
        failures=failures,
        client_authenticator=ClientAuthenticator(
            apps=backends.apps,
            secrets=backends.records.apps,
            failures=failures,
            addresses=addresses,
        ),
        phone_authenticator=PhoneAuthenticator(
            session_service=services.session_service,
            apps=backends.apps,
            failures=failures,
            addresses=addresses,
        ),
        unready_reason=lifecycle.unready_reason,
        operators=build_operators(settings, backends, services, failures, addresses),
    )
    return context, lifecycle


def _mount_notices(context: Context, features: Mounted) -> Mounted:
    """One listener receives the notices of all features."""
    if not features.notices:
        return Mounted()
    dispatcher = NoticeDispatcher(
        bus=context.bus,
        instance=context.settings[ServerSettings].instance,
        handlers=features.notices,
    )
    task = BackgroundTask(NOTICE_LISTENER, dispatcher.run)
    return Mounted(tasks=[task], readiness=[task.unready_reason, dispatcher.unready_reason])


def _mount_retries(retries: RetryWorker) -> Mounted:
    """One worker makes the deferred calls of all features."""
    if not retries.has_kinds:
        return Mounted()
    return Mounted(tasks=[BackgroundTask("deferred calls", retries.run)])


def _client_addresses(settings: Settings) -> ClientAddresses:
    group = settings[APISettings]
    return ClientAddresses(group.trusted_proxies, group.forwarded_header)


def _describe_own_page(addresses: ClientAddresses, own_origin: str, request: web.Request) -> Caller:
    """Return the caller, with the cookies of a page of the broker."""
    caller = addresses.caller(request)
    if caller.origin != own_origin:
        return caller
    return caller._replace(cookies=request.headers.get(hdrs.COOKIE, ""))


def _build_socket_server(
    settings: Settings, backends: Backends, addresses: ClientAddresses
) -> SocketIOServer:
    describe_request = addresses.caller
    if backends.policy is not None:
        own_origin = normalize_origin(settings[ServerSettings].public_url)
        describe_request = partial(_describe_own_page, addresses, own_origin)
    group = settings[TransportSettings]
    limits = ClientLimits(
        socket_frames=group.socket_packets_per_minute,
        address_frames=group.address_packets_per_minute,
        polling_sessions=group.polling_sessions_per_address,
    )
    return open_server(
        group.engine,
        is_origin_allowed=OriginPolicy(backends.apps),
        describe_request=describe_request,
        rate_limiter=TransportRateLimiter(
            limits,
            key_of=lambda caller: rate_limit_key(caller.ip),
            on_refused=lambda limit: REFUSED_SESSIONS.labels(limit).inc(),
        ),
    )


def _build_lifecycle(
    backends: Backends,
    services: Services,
    drain: DrainGate,
    socket_server: SocketIOServer,
    fields: Mapping[str, object],
) -> Lifecycle:
    records, logins = backends.records, services.login_services.service
    policy = backends.policy
    connected = (backends.state, backends.bus, backends.providers, backends.directory)
    lifecycle = Lifecycle(
        [
            [
                Resource(partial(_open_records, records), records.close)
            ],  # the other backends read apps
            [Resource(backend.open, backend.close) for backend in connected],
            [Resource(policy.open, policy.close)] if policy else [],
            [Resource(do_nothing, logins.close)],
            [
                Resource(client.open, client.close)
                for client in (services.callbacks.client, services.wafer.client)
            ],
        ],
        drain=drain.close,
        close_sockets=socket_server.close,
        fields=fields,
    )
    lifecycle.check(backends.state.unready_reason)
    return lifecycle


async def _open_records(records: Records) -> None:
    """Raises RecordsStartupError."""
    await records.open()
    if records.was_created:
        log.info("database file created", url=records.location)


def _build_admin(settings: Settings, mounted: Mounted) -> web.Application:
    url = settings[AdminSettings].admin_url
    names = settings[ServerSettings].admin_host.split(",")
    hosts = AllowedHosts([*names, *([urlsplit(url).hostname or ""] if url else [])])
    public = public_openapi_route(TITLE, mounted.routes, settings[ServerSettings].public_url)
    application = build_application(
        [*mounted.admin_routes, public],
        title=f"{TITLE}: administration",
        public_url=None,
        check=lambda request: hosts.check(request.host, request.path),
    )

    async def close_streams(application: web.Application) -> None:
        for close in mounted.close_streams:
            await close()

    application.on_shutdown.append(close_streams)
    return application


def _build_public(context: Context, mounted: Mounted) -> web.Application:
    public_url = context.settings[ServerSettings].public_url
    application = build_application(
        mounted.routes,
        title=TITLE,
        public_url=public_url,
        check=context.drain.check_handshake,
        prepare=[allow_cors(lambda origin: origin in context.apps.origins(), READABLE_BY_PAGES)],
    )
    for namespace in mounted.namespaces:
        namespace.serve(context.socket_server, mounted.events)
    if mounted.namespaces:  # without namespaces, a socket could join nothing
        for path in {"", urlsplit(public_url).path}:
            context.socket_server.attach(application, f"{path}{SOCKET_IO_PATH}")
    _serve_sockets(application, mounted.socket_routes, context.drain)
    return application


def _serve_sockets(
    application: web.Application, routes: Sequence[SocketRoute], drain: DrainGate
) -> None:
    """Offer an upgrade request to each handler; the first that has its path takes it over.

    While draining, the request takes the path of other requests, which refuses it.
    """
    for route in routes:
        for path in route.paths:
            application.router.add_get(path, route.handle, allow_head=False)
    own = application.get(UPGRADE_HANDLER)
    handlers = [*([] if own is None else [own]), *(route.accept for route in routes)]
    if handlers:
        application[UPGRADE_HANDLER] = lambda request: (
            drain.is_open and any(handler(request) for handler in handlers)
        )
