"""Mounts tunnels: the calls of backends, and the sockets of clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from broker.apps.authentication import SERVER, AppAuthenticator
from broker.apps.ports import Apps, AppSecrets
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import Route, bind_endpoints
from broker.infrastructure.api.mounted import Mounted, Resource, SocketRoute
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus, InstanceRegistry, LeaderLeases
from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.runtime.lifecycle import do_nothing
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.sessions.service import SessionService
from broker.tunnels import push_api, server_api
from broker.tunnels.attaching import TunnelAttacher
from broker.tunnels.client_socket import ClientSockets
from broker.tunnels.closing import TunnelCloser
from broker.tunnels.hub import TunnelHub
from broker.tunnels.inbox import TunnelInboxes
from broker.tunnels.jobs import TunnelJobs
from broker.tunnels.limits import AppTunnelLimit
from broker.tunnels.losses import LostSockets
from broker.tunnels.model import NATIVE
from broker.tunnels.news import NewsSender
from broker.tunnels.ports import TunnelCallbacks, TunnelStores
from broker.tunnels.push_api import TunnelPushAPI
from broker.tunnels.server_api import TunnelServerAPI
from broker.tunnels.service import TunnelService
from broker.tunnels.session_ends import SessionTunnels
from broker.tunnels.session_limit import SessionTunnelLimit
from broker.tunnels.settings import TunnelSettings
from broker.tunnels.socket_api import PATH, TunnelSocketAPI
from broker.tunnels.sweep import SocketSweep

ROLE = "tunnels"


class TunnelsContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def admin_token(self) -> str | None: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def app_secrets(self) -> AppSecrets: ...
    @property
    def session_service(self) -> SessionService: ...
    @property
    def failures(self) -> RateLimiter: ...
    @property
    def addresses(self) -> ClientAddresses: ...
    @property
    def drain(self) -> DrainGate: ...
    @property
    def bus(self) -> Bus: ...
    @property
    def leader_leases(self) -> LeaderLeases: ...
    @property
    def instances(self) -> InstanceRegistry: ...
    @property
    def tunnel_stores(self) -> TunnelStores: ...
    @property
    def tunnel_callbacks(self) -> Mapping[str, TunnelCallbacks]: ...


class _Parts(NamedTuple):
    """Parts that the endpoints and the sockets share."""

    closer: TunnelCloser
    news: NewsSender
    app_limit: AppTunnelLimit
    session_limit: SessionTunnelLimit
    losses: LostSockets
    hub: TunnelHub
    inboxes: TunnelInboxes


def mount(context: TunnelsContext) -> Mounted:
    """Mount the role `tunnels`. Every process ends the tunnels of the sessions that it ends."""
    parts = _parts(context)
    ends = SessionTunnels(index=context.tunnel_stores.index, closer=parts.closer, apps=context.apps)
    context.session_service.on_ended(ends.on_ended)
    # The first resource is closed last: the others give it work.
    closing = (parts.closer.close, ends.close)
    shared = Mounted(resources=[Resource(do_nothing, close) for close in closing])
    if ROLE not in context.settings[ServerSettings].roles:
        return shared
    return Mounted.join([shared, _mount_role(context, parts)])


def _parts(context: TunnelsContext) -> _Parts:
    group, stores = context.settings[TunnelSettings], context.tunnel_stores
    news = NewsSender(context.bus)
    closer = TunnelCloser(stores=stores, callbacks=context.tunnel_callbacks, news=news)
    losses = LostSockets(
        records=stores.records, clock=context.clock, away_timeout=group.tunnel_away_timeout
    )
    return _Parts(
        closer=closer,
        news=news,
        app_limit=AppTunnelLimit(index=stores.index, limit=group.tunnel_max, clock=context.clock),
        session_limit=SessionTunnelLimit(index=stores.index, closer=closer),
        losses=losses,
        hub=TunnelHub(
            streams=stores.streams,
            closer=closer,
            losses=losses,
            instance=context.settings[ServerSettings].instance,
        ),
        inboxes=TunnelInboxes(stores=stores, callbacks=context.tunnel_callbacks, closer=closer),
    )


def _mount_role(context: TunnelsContext, parts: _Parts) -> Mounted:
    sockets = _sockets(context, parts)
    jobs = _jobs(context, parts)
    sweep = SocketSweep(
        hub=parts.hub,
        records=context.tunnel_stores.records,
        clock=context.clock,
        idle_timeout=context.settings[TunnelSettings].tunnel_idle_timeout,
    )

    async def close() -> None:
        await parts.inboxes.close()
        await parts.losses.flush()

    return Mounted(
        routes=_server_routes(context, parts),
        socket_routes=[_socket_route(context, sockets)],
        close_sockets=[sockets.close],
        notices=[parts.hub.notice_handler()],
        tasks=[
            BackgroundTask("tunnel news", parts.hub.run),
            BackgroundTask("changed tunnels", parts.hub.run_changed),
            BackgroundTask("lost tunnels", parts.losses.run),
            BackgroundTask("tunnel sweep", sweep.run),
            BackgroundTask("tunnel jobs", jobs.run),
        ],
        resources=[Resource(do_nothing, close)],
    )


def _sockets(context: TunnelsContext, parts: _Parts) -> ClientSockets:
    group = context.settings[TunnelSettings]
    attacher = TunnelAttacher(
        api=NATIVE,
        stores=context.tunnel_stores,
        callbacks=context.tunnel_callbacks,
        closer=parts.closer,
        losses=parts.losses,
        session_service=context.session_service,
        app_limit=parts.app_limit,
        session_limit=parts.session_limit,
        news=parts.news,
        clock=context.clock,
        instance=context.settings[ServerSettings].instance,
    )
    return ClientSockets(
        hub=parts.hub,
        attacher=attacher,
        inboxes=parts.inboxes,
        drain=context.drain,
        messages_per_second=group.tunnel_messages_per_second,
        ping_interval=group.tunnel_ping_interval,
    )


def _socket_route(context: TunnelsContext, sockets: ClientSockets) -> SocketRoute:
    prefix = urlsplit(context.settings[ServerSettings].public_url).path
    api = TunnelSocketAPI(sockets=sockets, addresses=context.addresses, prefixes={"", prefix})
    return api.route()


def _server_routes(context: TunnelsContext, parts: _Parts) -> list[Route]:
    service = TunnelService(
        stores=context.tunnel_stores,
        session_service=context.session_service,
        closer=parts.closer,
        news=parts.news,
        app_limit=parts.app_limit,
        session_limit=parts.session_limit,
        clock=context.clock,
    )
    # https becomes wss, and http becomes ws
    url = f"ws{context.settings[ServerSettings].public_url.removeprefix('http')}{PATH}"
    authenticator = AppAuthenticator(
        apps=context.apps,
        secrets=context.app_secrets,
        failures=context.failures,
        addresses=context.addresses,
        admin_token=context.admin_token,
    )
    authenticators = {SERVER: authenticator.authenticate}
    return [
        *bind_endpoints(TunnelPushAPI(service), push_api.ENDPOINTS, authenticators),
        *bind_endpoints(TunnelServerAPI(service, url), server_api.ENDPOINTS, authenticators),
    ]


def _jobs(context: TunnelsContext, parts: _Parts) -> TunnelJobs:
    return TunnelJobs(
        stores=context.tunnel_stores,
        closer=parts.closer,
        session_service=context.session_service,
        leader_leases=context.leader_leases,
        instances=context.instances,
        clock=context.clock,
        away_timeout=context.settings[TunnelSettings].tunnel_away_timeout,
        instance=context.settings[ServerSettings].instance,
    )
