"""Mounts tunnels: the calls of backends, and the sockets of clients."""

from __future__ import annotations

from typing import Protocol

from broker.apps.authentication import SERVER, AppAuthenticator
from broker.apps.ports import Apps
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import Route, bind_endpoints
from broker.infrastructure.api.mounted import Mounted, Resource, SocketRoute
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus, InstanceRegistry, LeaderLeases
from broker.infrastructure.observability.instance_report import InstanceReport
from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.runtime.lifecycle import do_nothing
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.sessions.service import SessionService
from broker.tunnels import push_api, server_api
from broker.tunnels.client_socket import ClientSockets
from broker.tunnels.jobs import TunnelJobs
from broker.tunnels.model import NATIVE
from broker.tunnels.ports import TunnelStores
from broker.tunnels.push_api import TunnelPushAPI
from broker.tunnels.server_api import TunnelServerAPI
from broker.tunnels.services import TunnelServices
from broker.tunnels.session_ends import SessionTunnels
from broker.tunnels.settings import TunnelSettings
from broker.tunnels.socket_api import TunnelSocketAPI, socket_url
from broker.tunnels.sweep import SocketSweep

ROLE = "tunnels"


class TunnelsContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def app_authenticator(self) -> AppAuthenticator: ...
    @property
    def session_service(self) -> SessionService: ...
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
    def tunnel_services(self) -> TunnelServices: ...
    @property
    def report(self) -> InstanceReport: ...


def mount(context: TunnelsContext) -> Mounted:
    """Mount the role `tunnels`. Every process ends the tunnels of the sessions that it ends."""
    parts = context.tunnel_services
    ends = SessionTunnels(index=context.tunnel_stores.index, closer=parts.closer, apps=context.apps)
    context.session_service.on_ended(ends.on_ended)
    # The first resource is closed last: the others give it work.
    closing = (parts.closer.close, ends.close)
    shared = Mounted(resources=[Resource(do_nothing, close) for close in closing])
    if ROLE not in context.settings[ServerSettings].roles:
        return shared
    return Mounted.join([shared, _mount_role(context, parts)])


def _mount_role(context: TunnelsContext, parts: TunnelServices) -> Mounted:
    context.report.count("tunnels", parts.hub.__len__)
    sockets = _sockets(context, parts)
    jobs = _jobs(context, parts)
    sweep = SocketSweep(
        hub=parts.hub,
        records=context.tunnel_stores.records,
        clock=context.clock,
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


def _sockets(context: TunnelsContext, parts: TunnelServices) -> ClientSockets:
    group = context.settings[TunnelSettings]
    return ClientSockets(
        hub=parts.hub,
        losses=parts.losses,
        attacher=parts.attachers[NATIVE],
        inboxes=parts.inboxes,
        drain=context.drain,
        messages_per_second=group.tunnel_messages_per_second,
        ping_interval=group.tunnel_ping_interval,
        idle_timeout=group.tunnel_idle_timeout,
    )


def _socket_route(context: TunnelsContext, sockets: ClientSockets) -> SocketRoute:
    public_url = context.settings[ServerSettings].public_url
    api = TunnelSocketAPI(sockets=sockets, addresses=context.addresses, public_url=public_url)
    return api.route()


def _server_routes(context: TunnelsContext, parts: TunnelServices) -> list[Route]:
    url = socket_url(context.settings[ServerSettings].public_url)
    authenticators = {SERVER: context.app_authenticator.authenticate}
    return [
        *bind_endpoints(TunnelPushAPI(parts.service), push_api.ENDPOINTS, authenticators),
        *bind_endpoints(TunnelServerAPI(parts.service, url), server_api.ENDPOINTS, authenticators),
    ]


def _jobs(context: TunnelsContext, parts: TunnelServices) -> TunnelJobs:
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
