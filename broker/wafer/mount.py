"""Mounts Wafer's calls, and the sockets of its clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from broker.apps.ports import Apps, WaferKeys
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import Route, bind_endpoints
from broker.infrastructure.api.mounted import Mounted
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.clock import Clock
from broker.infrastructure.runtime.drain import DrainGate
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.sessions.limits import SessionLimits
from broker.sessions.service import SessionService
from broker.tunnels.model import WAFER
from broker.tunnels.services import TunnelServices
from broker.tunnels.settings import TunnelSettings
from broker.tunnels.socket_api import TunnelSocketAPI, socket_url
from broker.wafer import sessions_api, tunnels_api
from broker.wafer.authentication import NetworkGuard
from broker.wafer.callbacks import WaferCallbacks
from broker.wafer.client_socket import WaferSockets
from broker.wafer.rules import SOCKET_PATH
from broker.wafer.sessions_api import BUSINESS_NETWORK, WaferSessionsAPI
from broker.wafer.settings import PRIVATE_NETWORKS, WaferSettings
from broker.wafer.tunnels_api import SIGNED, WaferTunnelsAPI

ROLE, TUNNELS_ROLE = "wafer", "tunnels"


class WaferContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def apps(self) -> Apps: ...
    @property
    def session_service(self) -> SessionService: ...
    @property
    def session_limits(self) -> SessionLimits: ...
    @property
    def wafer_keys(self) -> WaferKeys: ...
    @property
    def wafer_callbacks(self) -> WaferCallbacks: ...
    @property
    def tunnel_services(self) -> TunnelServices: ...
    @property
    def failures(self) -> RateLimiter: ...
    @property
    def addresses(self) -> ClientAddresses: ...
    @property
    def drain(self) -> DrainGate: ...


def mount(context: WaferContext) -> Mounted:
    """Mount the role `wafer`, and its sockets with the role `tunnels`."""
    roles, mounted = context.settings[ServerSettings].roles, []
    if ROLE in roles:
        mounted.append(Mounted(routes=[*_session_routes(context), *_tunnel_routes(context)]))
    if TUNNELS_ROLE in roles:
        mounted.append(_mount_sockets(context))
    return Mounted.join([Mounted(), *mounted])


def _mount_sockets(context: WaferContext) -> Mounted:
    services = context.tunnel_services
    sockets = WaferSockets(
        hub=services.hub,
        losses=services.losses,
        attacher=services.attachers[WAFER],
        inboxes=services.inboxes,
        drain=context.drain,
        messages_per_second=context.settings[TunnelSettings].tunnel_messages_per_second,
        heartbeat_interval=context.settings[WaferSettings].wafer_heartbeat_interval,
    )
    api = TunnelSocketAPI(
        sockets=sockets,
        addresses=context.addresses,
        public_url=context.settings[ServerSettings].public_url,
        path=SOCKET_PATH,
    )
    return Mounted(socket_routes=[api.route()], close_sockets=[sockets.close])


def _tunnel_routes(context: WaferContext) -> Sequence[Route]:
    api = WaferTunnelsAPI(
        service=context.tunnel_services.service,
        callbacks=context.wafer_callbacks,
        apps=context.apps,
        keys=context.wafer_keys,
        failures=context.failures,
        addresses=context.addresses,
        url=socket_url(context.settings[ServerSettings].public_url, SOCKET_PATH),
        is_private_allowed=context.settings[WaferSettings].wafer_callbacks_private,
    )
    return bind_endpoints(api, tunnels_api.ENDPOINTS, {SIGNED: api.authenticate})


def _session_routes(context: WaferContext) -> Sequence[Route]:
    """The final slash of the path is optional."""
    networks = context.settings[WaferSettings].wafer_networks or PRIVATE_NETWORKS
    guard = NetworkGuard(addresses=context.addresses, networks=networks)
    api = WaferSessionsAPI(
        session_service=context.session_service,
        apps=context.apps,
        limits=context.session_limits,
        guard=guard,
        clock=context.clock,
    )
    routes = bind_endpoints(api, sessions_api.ENDPOINTS, {BUSINESS_NETWORK: api.authenticate})
    return [*routes, *(replace(route, alias=route.path.rstrip("/")) for route in routes)]
